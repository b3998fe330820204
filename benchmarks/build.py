"""Make what the benchmarks need on the spot: C programs, Node modules.

Everything goes into `.build`, which is ignored; a program is compiled again
when its source is newer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

__all__ = ["BUILD", "HERE", "Absent", "bare", "load", "relay"]

HERE = Path(__file__).parent
BUILD = HERE / ".build"

# The servers and databases that the tests use (`support`).
sys.path.insert(0, str(HERE.parent / "tests"))

CFLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")
NODE_PACKAGES = ("ws@8", "pg@8", "socket.io@4")
TIMEOUT = 300.0
"""Seconds that the compiler or npm may take."""


class Absent(Exception):
    """Something that this machine does not have; says what."""


def load() -> Path:
    """Compile the load client."""
    return _compile(HERE / "load.c", "load")


@cache
def bare() -> tuple[Path, bool]:
    """Compile the bare server; returns it, and whether it has libpq."""
    source = HERE / "rivals" / "bare.c"
    config = shutil.which("pg_config")
    if config is not None:
        include = _output(config, "--includedir")
        if (Path(include) / "libpq-fe.h").exists():
            flags = ("-DWITH_LIBPQ", f"-I{include}", f"-L{_output(config, '--libdir')}")
            try:
                return _compile(source, "bare", flags, ("-lpq",)), True
            except Absent:
                pass  # Headers without the library, or of another architecture.
    return _compile(source, "bare-fed"), False


@cache
def relay(name: str) -> list[str]:
    """Install a Node relay; returns the command that starts it.

    Raises:
        Absent: Node or npm is not there, or npm cannot install.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Absent("Node or npm is not installed")
    folder = BUILD / "node"
    folder.mkdir(parents=True, exist_ok=True)
    _install(npm, folder)
    # A module is searched for from where the file is.
    shutil.copy(HERE / "rivals" / name, folder / name)
    return [node, str(folder / name)]


@cache
def _install(npm: str, folder: Path) -> None:
    wanted = [package.split("@")[0] for package in NODE_PACKAGES]
    if all((folder / "node_modules" / name).is_dir() for name in wanted):
        return
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund"]
    _run([*command, "--loglevel=error", *NODE_PACKAGES], "npm install")


def _compile(
    source: Path,
    name: str,
    flags: tuple[str, ...] = (),
    libraries: tuple[str, ...] = (),
) -> Path:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise Absent("there is no C compiler (cc)")
    program = BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        made = program.with_suffix(".new")
        command = [compiler, *CFLAGS, *flags, "-o", str(made), str(source)]
        _run([*command, *libraries], f"compiling {source.name}")
        made.replace(program)
    return program


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Absent(f"{what} took longer than {TIMEOUT:g} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise Absent(f"{what} failed: {lines[-1]}")


def _output(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.strip()
