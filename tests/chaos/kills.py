"""What is killed, how, and how often."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg2
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database

__all__ = ["KILLS"]

Kill = Callable[[Cluster, Database, Gunicorn, random.Random], None]


def _kill_sequencer(
    cluster: Cluster, database: Database, server: Gunicorn, chance: random.Random
) -> None:
    with suppress(psycopg2.Error):
        database.execute("SELECT pg_terminate_backend(sequencer) FROM bridge.status")


def _kill_worker(
    cluster: Cluster, database: Database, server: Gunicorn, chance: random.Random
) -> None:
    if server.workers:
        os.kill(chance.choice(server.workers), signal.SIGKILL)


def _freeze_worker(
    cluster: Cluster, database: Database, server: Gunicorn, chance: random.Random
) -> None:
    if server.workers:
        pid = chance.choice(server.workers)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(pid, signal.SIGCONT)


def _stop_database(
    cluster: Cluster, database: Database, server: Gunicorn, chance: random.Random
) -> None:
    cluster.stop("immediate")
    time.sleep(chance.uniform(0, 1))
    cluster.start()


KILLS: dict[str, tuple[int, Kill]] = {
    "sequencer": (6, _kill_sequencer),
    "worker": (6, _kill_worker),
    "worker frozen": (2, _freeze_worker),
    "database": (3, _stop_database),
}
"""What is killed: its weight, and how."""
