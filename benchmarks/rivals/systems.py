"""What is measured: pgbridge and its rivals, each started fresh for each run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import build
from build import Absent
from load import PREFIX
from processes import Server, children, end_process, read_line
from support.gunicorn import Gunicorn
from support.waiting import free_port

__all__ = [
    "ALL",
    "SPARE_FILES",
    "Absent",
    "SelectLoop",
    "System",
]

RIVALS = build.HERE / "rivals"
SPARE_FILES = 200
"""Descriptors beside those of the clients."""

WORKER_CONNECTIONS = 10_000
"""As the packaged configuration has it; more only for more clients."""

SPARE_CONNECTIONS = 1000
"""What a storm of handshakes needs beside the clients that are connected."""

SEND_BUFFER_BYTES = 256 * 1024


class GunicornServer(Server):
    """A Gunicorn; its workers count, its master does nothing."""

    def __init__(self, gunicorn: Gunicorn) -> None:
        super().__init__(gunicorn.port, "/ws?channel={channel}", "native")
        self.gunicorn = gunicorn

    def pids(self) -> list[int]:
        found: list[int] = self.gunicorn.workers
        return found

    def log(self) -> str:
        return "\n".join(self.gunicorn.log.splitlines()[-20:])

    def end(self) -> None:
        process = self.gunicorn.process
        if process is not None:
            # Not SIGTERM: there is nobody left to say goodbye to.
            end_process(process, signal.SIGQUIT)
        shutil.rmtree(self.gunicorn.folder, ignore_errors=True)
        super().end()


class System(Protocol):
    """Something that brings notifications to WebSockets.

    Attributes:
        key: its short name, for `--systems` and the raw values.
        label: its name in the tables.
    """

    key: str
    label: str

    def prepare(self) -> None:
        """Build or look for what it needs.

        Raises:
            Absent: this machine does not have it.
        """

    def start(
        self, url: str, *, clients: int, workers: int = 1, channels: int = 1
    ) -> Server:
        """Start it and wait until it can be connected to.

        Args:
            url: the database.
            clients: how many will connect.
            channels: how many channels they will ask for.
        """


class Pgbridge(System):
    key = "pgbridge"
    label = "pgbridge"

    def start(
        self, url: str, *, clients: int, workers: int = 1, channels: int = 1
    ) -> Server:
        return _gunicorn(url, workers=workers, arguments=_room(clients))


class Naive(System):
    key = "naive"
    label = "naive bridge"

    def start(
        self, url: str, *, clients: int, workers: int = 1, channels: int = 1
    ) -> Server:
        return _gunicorn(
            None,
            workers=workers,
            application="naive:app",
            environ={"NAIVE_DATABASE_URL": url},
            arguments=(
                "--chdir",
                str(RIVALS),
                "--worker-class",
                "geventwebsocket.gunicorn.workers.GeventWebSocketWorker",
                "--graceful-timeout",
                "1",
                "--no-control-socket",
                *_room(clients),
            ),
        )


def _room(clients: int) -> tuple[str, str]:
    most = max(WORKER_CONNECTIONS, clients + SPARE_CONNECTIONS)
    return "--worker-connections", str(most)


def _gunicorn(url: str | None, **options: Any) -> Server:
    gunicorn = Gunicorn(url, **options)
    server = GunicornServer(gunicorn)
    try:
        gunicorn.start()
    except BaseException:
        server.end()
        raise
    return server


class Bare(System):
    """The C server, with or without one write for everything a read brought."""

    def __init__(self, coalesce: bool) -> None:
        self.key = "bare_batch" if coalesce else "bare"
        how = "one write a read" if coalesce else "one write a message"
        self.label = f"bare C server, {how}"
        self._coalesce = coalesce

    def prepare(self) -> None:
        _, has_libpq = build.bare()
        if not has_libpq and not self.label.endswith("loop"):
            self.label += ", fed by a Python loop"

    def start(
        self, url: str, *, clients: int, workers: int = 1, channels: int = 1
    ) -> Server:
        program, has_libpq = build.bare()
        server = Server(free_port(), "/ws?channel={channel}", "native")
        coalesce = str(int(self._coalesce))
        command = [str(program), "--port", str(server.port), "--coalesce", coalesce]
        try:
            if has_libpq:
                server.run([*command, "--database", url])
            else:
                bare = server.run(command, stdout=subprocess.PIPE)
                assert bare.stdin is not None and bare.stdout is not None
                feeder = [sys.executable, str(RIVALS / "feeder.py"), "lines", url]
                server.run(feeder, stdin=bare.stdout, stdout=bare.stdin)
            server.wait_until_open()
        except BaseException:
            server.end()
            raise
        return server


class Relay(System):
    """A relay in Node."""

    def __init__(
        self, key: str, label: str, file: str, path: str, dialect: str
    ) -> None:
        self.key = key
        self.label = label
        self._file = file
        self._path = path
        self._dialect = dialect

    def prepare(self) -> None:
        build.relay(self._file)

    def start(
        self, url: str, *, clients: int, workers: int = 1, channels: int = 1
    ) -> Server:
        server = Server(free_port(), self._path, self._dialect)
        try:
            server.run([*build.relay(self._file), str(server.port), url])
            server.wait_until_open()
        except BaseException:
            server.end()
            raise
        return server


NCHAN_CONF = """\
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/log warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    keepalive_requests 100000000;
    nchan_shared_memory_size 256M;
    server {{
        listen 127.0.0.1:{port} backlog=2048 sndbuf={send_buffer};
        location = /ws {{
            nchan_subscriber websocket;
            nchan_channel_id $arg_channel;
            nchan_subscriber_first_message newest;
        }}
        location = /publish {{
            nchan_publisher http;
            nchan_channel_id $arg_channel;
            nchan_message_buffer_length 5000;
            nchan_message_timeout 60s;
        }}
    }}
}}
"""


class NchanServer(Server):
    """nginx's worker counts, and the feeder that posts to it."""

    def pids(self) -> list[int]:
        master, *feeders = super().pids()
        return children(master) + feeders


class Nchan(System):
    key = "nchan"
    label = "nginx with nchan"

    def prepare(self) -> None:
        self._find()

    @staticmethod
    def _find() -> tuple[str, Path]:
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
        nginx = shutil.which("nginx", path=path)
        if nginx is None:
            raise Absent("nginx is not installed")
        found = os.environ.get("NCHAN_MODULE")
        places = [Path(found)] if found else []
        places += [
            Path(folder) / "nginx" / "modules" / "ngx_nchan_module.so"
            for folder in ("/usr/lib", "/usr/lib64", "/usr/share", "/etc")
        ]
        for place in places:
            if place.exists():
                return nginx, place
        raise Absent("nginx has no nchan module (Debian: libnginx-mod-nchan)")

    def start(
        self, url: str, *, clients: int, workers: int = 1, channels: int = 1
    ) -> Server:
        nginx, module = self._find()
        server = NchanServer(free_port(), "/ws?channel={channel}", "raw")
        # nginx gives its worker to another user.
        server.folder.chmod(0o755)
        conf = server.folder / "nginx.conf"
        conf.write_text(
            NCHAN_CONF.format(
                module=module,
                files=clients + SPARE_FILES,
                # nchan needs some for itself, and few left make it drop clients.
                connections=2 * clients + SPARE_CONNECTIONS,
                folder=server.folder,
                port=server.port,
                send_buffer=SEND_BUFFER_BYTES,
            )
        )
        feeder = [sys.executable, str(RIVALS / "feeder.py"), "nchan", url]
        feeder += [str(server.port), PREFIX, str(channels)]
        try:
            server.run([nginx, "-p", str(server.folder), "-c", str(conf)])
            server.wait_until_open()
            read_line(server.run(feeder, stdout=subprocess.PIPE))
        except BaseException:
            server.end()
            raise
        return server


class SelectLoop:
    """The 20-line loop that prints; it serves nobody."""

    key = "select_loop"
    label = "psycopg2 select loop that prints"

    def __init__(self, url: str, channel: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(RIVALS / "select_loop.py"), url, channel],
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        try:
            read_line(self._process)
        except BaseException:
            self.end()
            raise

    def read(self, count: int) -> list[tuple[int, float]]:
        """Return (n, received) of the next notifications."""
        found = []
        for _ in range(count):
            n, received = read_line(self._process).split()
            found.append((int(n), float(received)))
        return found

    def end(self) -> None:
        """Leave nothing running."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


ALL: tuple[System, ...] = (
    Pgbridge(),
    Naive(),
    Bare(coalesce=False),
    Bare(coalesce=True),
    Relay(
        "ws",
        "Node relay, ws",
        "ws_relay.mjs",
        "/ws?channel={channel}",
        "native",
    ),
    Relay(
        "socketio",
        "Node relay, socket.io",
        "socketio_relay.mjs",
        "/socket.io/?EIO=4&transport=websocket",
        "socketio",
    ),
    Nchan(),
)
