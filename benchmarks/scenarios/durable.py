"""What the scenarios of durable channels share: a server, a database, events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from load import PREFIX
from support.postgres import Cluster, Database, make_durable

__all__ = [
    "BATCH",
    "DURABLE",
    "REAL",
    "cursor_of",
    "database",
    "event",
    "fill",
    "postgres",
    "publish",
    "step",
]

REAL = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
"""Options of a PostgreSQL that survives a crash, as the default is."""

DURABLE = PREFIX + "*"

BATCH = 1000
"""Events that one transaction publishes when a journal is filled."""

_PUBLISH = f"""
SELECT bridge.publish('{PREFIX}' || g %% %s, '{{"n":' || g / %s || %s)
FROM generate_series(%s, %s) AS g
"""


@contextmanager
def postgres(**options: str) -> Iterator[Cluster]:
    """A PostgreSQL of the scenario's own."""
    cluster = Cluster(**options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.delete()


@contextmanager
def database(url: str, durable: bool = True) -> Iterator[Database]:
    """A database of its own at a server, with the schema or without."""
    made = Database(url)
    try:
        if durable:
            make_durable(made, DURABLE)
        yield made
    finally:
        made.drop()


def event(size: int) -> str:
    """Return what follows n in a payload of about `size` bytes."""
    head = ',"t":0,"pad":"'
    return head + "x" * (size - len(head) - 10) + '"}'


def publish(
    cursor: Any, first: int, count: int, channels: int = 1, size: int = 100
) -> None:
    """Publish events in one statement; each has its channel's number."""
    last = first + count - 1
    cursor.execute(_PUBLISH, (channels, channels, event(size), first, last))


def step(cursor: Any) -> int:
    """Give what has committed its positions; returns how many."""
    cursor.execute("SELECT bridge.step()")
    ((steps,),) = cursor.fetchall()
    if steps is None:
        raise AssertionError("somebody else is stepping")
    return int(steps)


def fill(made: Database, count: int, channels: int = 1) -> None:
    """Publish events and give them their positions; nobody serves yet."""
    with closing(made.connect()) as connection, connection.cursor() as cursor:
        for first in range(0, count, BATCH):
            publish(cursor, first, min(BATCH, count - first), channels)
        done = step(cursor)
    if done != count:
        raise AssertionError(f"{done:,} of {count:,} events got a position")


def cursor_of(made: Database, position: int) -> str:
    """Return the cursor of a position."""
    [(epoch,)] = made.execute("SELECT epoch FROM bridge.state")
    return f"{epoch}-{position}"
