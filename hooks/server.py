"""Gunicorn server hooks: settings checked once, sessions counted, stacks logged.

`bridge.hooks.gunicorn_conf` takes them all; in a configuration of your own:

    from bridge.hooks.server import child_exit, on_starting, when_ready
    from bridge.hooks.server import worker_abort
"""

from __future__ import annotations

import os
import sys
from typing import Any

from gevent.util import format_run_info

from bridge.operations.metrics import totals
from bridge.server.deployment import problems
from bridge.server.run_folder import RunFolder
from bridge.server.runtime import JOURNAL_SESSIONS, listeners
from bridge.values.errors import SettingsError
from bridge.values.settings import Settings
from bridge.worker import BridgeWorker

__all__ = ["child_exit", "on_starting", "when_ready", "worker_abort"]


def on_starting(server: Any) -> None:
    """Say in the master what cannot work: all at once, before any worker."""
    try:
        settings, _, _ = Settings.from_environ(os.environ)
        _ = settings.required_database_url
    except SettingsError as exc:
        found = exc.problems
    else:
        found = tuple(problems(server.cfg, settings, BridgeWorker))
    for problem in found:
        server.log.error("pgbridge: %s", problem)
    if found:
        sys.exit(1)


def when_ready(server: Any) -> None:
    """Say how many sessions this deployment opens on PostgreSQL."""
    settings, _, _ = Settings.from_environ(os.environ)
    workers = server.cfg.workers
    each = listeners(settings, workers)
    server.log.info(
        "pgbridge: at most %d PostgreSQL sessions (%d workers with %d each, and "
        "%d where schema bridge is installed), twice that during a reload",
        workers * (each + JOURNAL_SESSIONS),
        workers,
        each,
        JOURNAL_SESSIONS,
    )
    if any(address.startswith("unix:") for address in server.cfg.bind) and (
        "unix" not in settings.trusted_proxies
    ):
        server.log.info(
            "pgbridge: clients on the Unix socket have no address; with a proxy in "
            "front set BRIDGE_TRUSTED_PROXIES=unix"
        )


def child_exit(server: Any, worker: Any) -> None:
    """A worker has ended: what it has counted goes on counting."""
    settings, _, _ = Settings.from_environ(os.environ)
    folder = RunFolder(settings.run_folder)
    last = folder.read(os.getpid()).get(str(worker.pid), {})
    folder.end(os.getpid(), worker.pid, totals(last))


def worker_abort(worker: Any) -> None:
    """Gunicorn gave a frozen worker up: log what each greenlet was doing."""
    stacks = format_run_info()  # type: ignore[func-returns-value]  # a list of lines
    worker.log.error("pgbridge: worker was frozen:\n%s", "\n".join(stacks or ()))
