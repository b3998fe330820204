"""Drive the load client (load.c): one line of JSON an answer."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from typing import TYPE_CHECKING, Any

import build

if TYPE_CHECKING:
    from processes import Server

__all__ = ["PREFIX", "Load", "LoadError"]

PREFIX = "bench_"
"""Channels are bench_0, bench_1, …"""

MARGIN = 20.0
"""Seconds beyond what it was given after which the client counts as stuck."""


class LoadError(Exception):
    """The load client has ended or is stuck."""


class Load:
    """Subscribers in a process of their own.

    Args:
        channels: connection i subscribes to channel i modulo this.
        sample: the latency is taken on every so many-th connection.
        concurrency: handshakes under way at a time.
    """

    def __init__(
        self,
        server: Server,
        *,
        channels: int = 1,
        sample: int = 10,
        concurrency: int = 256,
    ) -> None:
        options = {
            "--port": server.port,
            "--path": server.path,
            "--dialect": server.dialect,
            "--prefix": PREFIX,
            "--channels": channels,
            "--sample": sample,
            "--concurrency": concurrency,
        }
        command = [str(build.load())]
        for name, value in options.items():
            command += [name, str(value)]
        self._rest = b""
        # A session of its own: Ctrl-C is for the program that ends it.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *exc_info: object) -> None:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.kill()  # its sockets are closed with a reset either way
        process.wait()
        process.stdin.close()
        process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(self, count: int, timeout: float = 120.0) -> dict[str, Any]:
        """Connect and subscribe `count` more; returns when all are settled."""
        self._send(f"open {count} {timeout}")
        return self._answer("opened", timeout)

    def expect(self, total: int, each: int, timeout: float) -> None:
        """Count anew from now on; `done` tells the end."""
        self._timeout = timeout
        self._send(f"expect {total} {each} {timeout}")
        self._answer("armed", 0)

    def done(self) -> dict[str, Any]:
        """Wait until everything expected is here, or the time is over."""
        return self._answer("done", self._timeout)

    def report(self) -> dict[str, Any]:
        """Return the counts since `expect`."""
        self._send("report")
        return self._answer("report", 0)

    def samples(self) -> list[tuple[int, float, float]]:
        """Return (n, published, received) of each sample since `expect`."""
        self._send("samples")
        return [tuple(item) for item in self._answer("samples", 0)["samples"]]

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise LoadError(f"the load client has ended: {exc}") from exc

    def _answer(self, event: str, timeout: float) -> dict[str, Any]:
        until = time.monotonic() + timeout + MARGIN
        while b"\n" not in self._rest:
            assert self._process.stdout is not None
            left = until - time.monotonic()
            if left < 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise LoadError(f"the load client did not say {event!r} in time")
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            if not data:
                raise LoadError(f"the load client has ended before {event!r}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if answer["event"] != event:
            raise LoadError(f"{event!r} was expected, not {answer}")
        return answer
