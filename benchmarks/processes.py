"""Processes: started, looked at by their numbers, and ended."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from support.waiting import wait_until

__all__ = [
    "Server",
    "children",
    "cpu_seconds",
    "end_process",
    "read_line",
    "rss_bytes",
    "socket_count",
]

END_TIMEOUT = 10.0
"""Seconds that a process has to end before it is killed."""

START_TIMEOUT = 20.0
"""Seconds that a process has to say that it is ready."""


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return user and system time of the processes."""
    ticks = 0
    for pid in pids:
        # The name in parentheses may contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_bytes(pids: Sequence[int]) -> int:
    """Return the resident memory of the processes."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total


def socket_count(pid: int) -> int:
    """Return how many sockets a process has open."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(entry).startswith("socket:")
        except OSError:
            pass  # It was closed meanwhile.
    return count


def children(pid: int) -> list[int]:
    """Return the process numbers of a process's children."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


class Server:
    """A running system.

    Attributes:
        port: of 127.0.0.1.
        path: of the WebSocket, with `{channel}`.
        dialect: how the load client speaks with it.
    """

    def __init__(self, port: int, path: str, dialect: str) -> None:
        self.port = port
        self.path = path
        self.dialect = dialect
        self.folder = Path(tempfile.mkdtemp(prefix="pgbridge-bench-"))
        self.processes: list[subprocess.Popen[bytes]] = []

    def pids(self) -> list[int]:
        """Return the processes whose time and memory count."""
        return [process.pid for process in self.processes]

    def run(
        self,
        command: Sequence[str],
        environ: dict[str, str] | None = None,
        stdin: int | IO[bytes] = subprocess.PIPE,
        stdout: int | IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start one of its processes."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, **(environ or {})},
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def wait_until_open(self) -> None:
        """Wait until it accepts connections."""
        wait_until(self._is_open)

    def _is_open(self) -> bool:
        for process in self.processes:
            if process.poll() is not None:
                raise AssertionError(f"{process.args!r} has ended:\n{self.log()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        """Return the last lines that its processes wrote."""
        path = self.folder / "log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-20:])

    def end(self) -> None:
        """Leave nothing running."""
        for process in self.processes:
            end_process(process)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def end_process(process: subprocess.Popen[bytes], sig: int = signal.SIGTERM) -> None:
    if process.poll() is not None:
        return
    process.send_signal(sig)
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        # It leads a session of its own: this is the process and its children.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_line(process: subprocess.Popen[bytes], timeout: float = START_TIMEOUT) -> str:
    """Read a line of an unbuffered process's output.

    Raises:
        AssertionError: it said nothing in time, or has ended.
    """
    assert process.stdout is not None
    line = b""
    if select.select([process.stdout], [], [], timeout)[0]:
        line = process.stdout.readline()
    if not line:
        raise AssertionError(f"{process.args!r} said nothing in {timeout:g} s")
    return line.decode().rstrip("\n")
