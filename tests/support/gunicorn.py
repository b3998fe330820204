"""A real Gunicorn with pgbridge in it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.waiting import free_port, wait_until

STOP_TIMEOUT = 30.0


class Gunicorn:
    """One running deployment.

    Args:
        database_url: None leaves the variable out.
        unix: listen on a Unix socket instead of TCP.
        arguments: further options of Gunicorn; they win.
        application: what to serve in place of `pgbridge serve`.
        settings: BRIDGE_* variables by lower-case name without the prefix.
    """

    def __init__(
        self,
        database_url: str | None,
        *,
        unix: bool = False,
        workers: int = 1,
        arguments: tuple[str, ...] = (),
        application: str | None = None,
        environ: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pgbridge-test-"))
        self.path = self.folder / "bridge.sock" if unix else None
        self.port = 0 if unix else free_port()
        bind = f"unix:{self.path}" if unix else f"127.0.0.1:{self.port}"
        #: Its own, so that no test sees another's workers.
        self.run_folder = str(self.folder / "run")
        settings = {
            "public_channels": "*",
            "run_folder": self.run_folder,
            **settings,
        }
        self._environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("BRIDGE_")},
            **{f"BRIDGE_{k.upper()}": str(v) for k, v in settings.items()},
            **(environ or {}),
        }
        self._environ.pop("DATABASE_URL", None)
        if database_url is not None:
            self._environ["BRIDGE_DATABASE_URL"] = database_url
        serve = ["bridge.cli", "serve"]
        run = serve if application is None else ["gunicorn", application]
        self.command = [sys.executable, "-m", *run, "-b", bind, "-w", str(workers)]
        self.command += arguments
        self._log = self.folder / "log"
        #: What was in it when the folder was removed.
        self._last_log = ""
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, *, ready: bool = True, preexec: Callable[[], None] | None = None
    ) -> Gunicorn:
        """Start it and wait until it answers (and is ready)."""
        self.launch(preexec)
        wait_until(lambda: self._up(ready))
        return self

    def launch(self, preexec: Callable[[], None] | None = None) -> None:
        """Start it without waiting; `preexec` runs in its process first."""
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self._environ,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                preexec_fn=preexec,
            )

    def _up(self, ready: bool) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"Gunicorn has ended:\n{self.log}")
        try:
            status, _, _ = self.get("/readyz" if ready else "/healthz")
        except OSError:
            return False
        return status == 200

    def stop(self, sig: int = signal.SIGTERM) -> int:
        """Stop it; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(sig)
        return self.process.wait(STOP_TIMEOUT)

    def end(self) -> None:
        """Whatever the test did, leave nothing running, and no files."""
        self._end_processes()
        self._last_log = self.log
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_processes(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    @property
    def log(self) -> str:
        if not self._log.exists():
            return self._last_log
        return self._log.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        """The process numbers of the workers."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def connect(self) -> socket.socket:
        """Open a socket to it."""
        if self.path is None:
            return socket.create_connection(("127.0.0.1", self.port), timeout=20)
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        try:
            sock.connect(str(self.path))
        except OSError:
            sock.close()
            raise
        return sock

    def get(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[int, dict[str, str], str]:
        """Send one request; returns status, headers by lower-case name, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port or 80)
        connection.sock = self.connect()
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read().decode()
        finally:
            connection.close()

    def upgrade(self, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Try a handshake as a browser makes it, to see it refused."""
        return self.get(
            path,
            {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )

    def readiness(self) -> dict[str, Any]:
        """Return what /readyz says, ready or not."""
        report: dict[str, Any] = json.loads(self.get("/readyz")[2])
        return report
