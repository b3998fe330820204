"""One run: everybody works, things are killed, then it is compared."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database, make_durable
from support.waiting import wait_until

from chaos.readers import Reader
from chaos.writers import CHANNELS, Writers

REST = 60.0
"""Seconds in which everybody must have everything, when all is calm again."""


@dataclass
class Outcome:
    """What was found.

    Attributes:
        faults: what is wrong, in words; none: all is well.
    """

    events: int = 0
    connections: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kills = ", ".join(f"{count} × {name}" for name, count in self.kills.items())
        found = "; ".join(self.faults) or "none lost, none twice, none out of order"
        return (
            f"{self.events} events, {self.connections} connections, killed: "
            f"{kills}: {found}"
        )


def run(
    *, seed: int, kills: int, pause: float, binaries: Path | None = None
) -> Outcome:
    """Let it happen.

    Args:
        pause: seconds between two kills, on average.
        binaries: of PostgreSQL; None: the embedded one.
    """
    chance = random.Random(seed)
    outcome = Outcome()
    with ExitStack() as stack:
        cluster = Cluster(binaries, synchronous_commit="on")
        stack.callback(cluster.delete)
        cluster.start()
        database = Database(cluster.url)
        make_durable(database)
        server = Gunicorn(database.url, workers=3, health_timeout=3)
        stack.callback(server.end)
        server.start()
        readers = [
            Reader(server, f"kept_{number % CHANNELS}", f"{seed}/{number}")
            for number in range(2 * CHANNELS)
        ]
        for reader in readers:
            stack.callback(reader.stop)
        for reader in readers:
            assert reader.subscribed.wait(20)
        writers = Writers(database, 12, seed)
        try:
            for _ in range(kills):
                time.sleep(chance.uniform(0.5, 1.5) * pause)
                [name] = chance.choices(
                    list(KILLS), [weight for weight, _ in KILLS.values()]
                )
                KILLS[name][1](cluster, database, server, chance)
                outcome.kills[name] += 1
        finally:
            writers.stop()
        truth = writers.truth()
        outcome.events = sum(map(len, truth.values()))
        with suppress(AssertionError):
            wait_until(lambda: _complete(readers, truth), REST)
        for reader in readers:
            reader.stop()
        outcome.connections = sum(reader.connections for reader in readers)
        outcome.faults = _faults(readers, truth, database)
        if "Traceback" in server.log:
            outcome.faults.append(f"a traceback in the log:\n{server.log}")
    return outcome


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


def _complete(readers: list[Reader], truth: dict[str, Any]) -> bool:
    return all(len(reader.events) >= len(truth[reader.channel]) for reader in readers)


def _faults(
    readers: list[Reader], truth: dict[str, set[tuple[int, int]]], database: Database
) -> list[str]:
    found = []
    positions = {
        (event["item"], event["version"]): position
        for reader in readers
        for position, event in reader.events
    }
    for reader in readers:
        name = f"a reader of {reader.channel}"
        events = [(event["item"], event["version"]) for _, event in reader.events]
        lost = truth[reader.channel] - set(events)
        if lost:
            found.append(f"{name} lost {len(lost)}: {sorted(lost)[:5]}")
        if set(events) - truth[reader.channel]:
            found.append(f"{name} got what was not committed")
        if len(set(events)) < len(events):
            found.append(f"{name} got {len(events) - len(set(events))} twice")
        order = [position for position, _ in reader.events]
        if order != sorted(order):
            found.append(f"{name} got positions out of order")
        last: Counter[int] = Counter()
        for item, version in events:
            if version <= last[item]:
                found.append(f"{name} got version {version} of {item} too late")
            last[item] = version
        for position, event in reader.events:
            cause = event["seen"] and positions.get(tuple(event["seen"]))
            if cause and cause >= position:
                found.append(f"{name} got {event} before its cause")
        found += [f"{name} was told {message}" for message in reader.told]
    rows = database.execute("SELECT min(pos), max(pos), count(*) FROM bridge.journal")
    if rows[0][:2] != (1, rows[0][2]):
        found.append(f"the journal has holes: {rows}")
    return found
