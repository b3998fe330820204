"""What Gunicorn was told, judged in the master before there is a worker.

Each problem is one line that says what to do. What is said here would else be
a traceback in every worker, or a server that serves nobody.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from bridge.postgres.address import Address
from bridge.server.run_folder import RunFolder
from bridge.values.errors import BridgeError, SettingsError
from bridge.values.settings import Settings

__all__ = ["problems"]

MAX_PORT = 65535

POLICY_TIMEOUT = 60.0
"""Seconds in which a policy must be there."""


def problems(cfg: Any, settings: Settings, worker_class: type) -> Iterator[str]:
    """Yield why a server cannot be started.

    Args:
        cfg: Gunicorn's configuration.
        worker_class: ours.
    """
    yield from _of_gunicorn(cfg, worker_class)
    try:
        Address(settings.required_database_url).check()
    except BridgeError as exc:
        yield str(exc)
    # A master that is root, and workers that are not, have other folders.
    if cfg.uid == os.geteuid():
        try:
            RunFolder(settings.run_folder)
        except SettingsError as exc:
            yield from exc.problems
    if settings.access is not None:
        yield from _of_policy(settings.access)


def _of_gunicorn(cfg: Any, worker_class: type) -> Iterator[str]:
    if not issubclass(cfg.worker_class, worker_class):
        yield (
            f"worker_class is {cfg.worker_class_str!r}, which serves no WebSocket: "
            "drop -k, or set  worker_class = 'bridge.worker.BridgeWorker'"
        )
    if cfg.preload_app:
        yield (
            "preload_app loads the application before gevent can patch it: drop "
            "--preload, or set  preload_app = False"
        )
    if cfg.workers < 1:
        yield (
            f"workers = {cfg.workers} serves nobody: set 1 or more (-w, "
            "WEB_CONCURRENCY); the default is one a core"
        )
    if cfg.worker_connections < 1:
        yield (
            f"worker_connections = {cfg.worker_connections} leaves no room for "
            "clients: the default is 10000"
        )
    for address in cfg.address:
        if isinstance(address, tuple) and not 0 <= address[1] <= MAX_PORT:
            yield f"cannot listen at port {address[1]}: {MAX_PORT} is the highest"


def _of_policy(path: str) -> Iterator[str]:
    """Load it in another process: here it would be loaded before gevent."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "bridge.access.load", path]
    try:
        run = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=POLICY_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        yield (
            f"BRIDGE_ACCESS={path!r} cannot be used: it was not loaded within "
            f"{POLICY_TIMEOUT:g} s"
        )
        return
    if run.returncode:
        reason = run.stdout.strip().rpartition("\n")[2]
        reason = reason or f"its process ended with {run.returncode}"
        yield f"BRIDGE_ACCESS={path!r} cannot be used: {reason}"
