"""Where and with what a measurement was made."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import psycopg2

__all__ = ["describe_machine"]

PACKAGES = ("gevent", "gevent-websocket", "gunicorn", "greenlet", "Flask")


def describe_machine(url: str) -> dict[str, str]:
    """Return what the report says of machine and software.

    Args:
        url: the database that was measured with.
    """
    with closing(psycopg2.connect(url)) as connection:
        number = connection.get_parameter_status("server_version")
    return {
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "psycopg2": str(vars(psycopg2)["__version__"]).split()[0],
        "postgresql": str(number),
        "node": _output("node", "--version") or "not installed",
    }


def _commit() -> str:
    commit = _output("git", "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "unknown"
    changed = _output("git", "--no-optional-locks", "status", "--porcelain", "-uno")
    return f"{commit} with changes" if changed else commit


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{pages / 2**30:.0f} GiB"


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=10
    )
    return done.stdout.strip()
