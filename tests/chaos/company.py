"""Writers and readers that must be told nothing, whatever is killed."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from support.gunicorn import Gunicorn
from support.postgres import Database
from support.waiting import wait_until

from chaos.readers import Reader
from chaos.writers import CHANNELS, Writers

REST = 60.0
"""Seconds in which everybody must have everything, when all is calm again."""


class Company:
    """Two readers of each channel, and the writers.

    Attributes:
        events, connections: how many there were, when all is over.
    """

    def __init__(self, server: Gunicorn, database: Database, seed: int) -> None:
        self._database = database
        self.events = self.connections = 0
        self._readers = [
            Reader(server, f"kept_{number % CHANNELS}", f"{seed}/{number}")
            for number in range(2 * CHANNELS)
        ]
        for reader in self._readers:
            # Without a cursor it has only what comes from here on.
            assert reader.subscribed.wait(20)
        self._writers = Writers(database, 12, seed)

    def stop(self) -> None:
        """Whatever happened, leave nothing running. Safe to call twice."""
        self._writers.stop()
        for reader in self._readers:
            reader.stop()

    def faults(self) -> list[str]:
        """Stop, wait for what is due, and say what is wrong."""
        self._writers.stop()
        truth = self._writers.truth()
        self.events = sum(map(len, truth.values()))
        with suppress(AssertionError):
            wait_until(
                lambda: all(
                    len(reader.events) >= len(truth[reader.channel])
                    for reader in self._readers
                ),
                REST,
            )
        self.stop()
        self.connections = sum(reader.connections for reader in self._readers)
        return self._compare(truth)

    def _compare(self, truth: dict[str, set[tuple[int, int]]]) -> list[str]:
        found = []
        positions = {
            (event["item"], event["version"]): position
            for reader in self._readers
            for position, event in reader.events
        }
        for reader in self._readers:
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
        [(first, last_one, count)] = self._database.execute(
            "SELECT min(pos), max(pos), count(*) FROM bridge.journal"
        )
        if (first, last_one) != (1, count):
            found.append(f"the journal has holes: {first}, {last_one}, {count}")
        return found
