"""Every open connection of this worker: their limit, heartbeats and drain.

One greenlet gives each connection its heartbeat. It goes round a ring of
slots, one slot a turn, so that the heartbeats of 10,000 clients, and their
pongs, are spread over the whole interval.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import gevent

from bridge.values.counters import COUNTERS
from bridge.values.errors import CloseCode

__all__ = ["Client", "Connections"]

_SLOTS = 50
_MAX_RUN = 0.004
"""Seconds of heartbeats after which other greenlets get a turn."""

CLOSES_PER_SECOND = 200
"""Pace of a drain, so that the clients do not come back all at once."""

RECONNECT_SPREAD = 2.0
"""Seconds over which the clients of a drain are asked to come back, at least."""


class Client(Protocol):
    """What heartbeats and the drain need of a connection."""

    def beat(self) -> None:
        """Send a heartbeat, or close when the last ones were not answered."""

    def dismiss(self, code: CloseCode, reason: str, reconnect_delay: float) -> None:
        """Say goodbye and close."""

    def abandon(self) -> None:
        """Close the socket at once."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait for the client."""

    def describe(self) -> dict[str, object]:
        """Who it is, for the operator."""


class Connections:
    """The open connections of one worker.

    Args:
        heartbeat_interval: seconds between two heartbeats of one connection.
        max_connections: how many may be open; `full` says when they are.
    """

    def __init__(self, *, heartbeat_interval: float, max_connections: int) -> None:
        self.max_connections = max_connections
        self._turn = heartbeat_interval / _SLOTS
        self._slots: list[set[Client]] = [set() for _ in range(_SLOTS)]
        self._slot_of: dict[Client, int] = {}
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def __len__(self) -> int:
        return len(self._slot_of)

    @property
    def full(self) -> bool:
        """Whether another connection must be refused."""
        return len(self._slot_of) >= self.max_connections

    def add(self, connection: Client) -> None:
        """Take a new connection in."""
        COUNTERS.opened += 1
        slot = random.randrange(_SLOTS)
        self._slots[slot].add(connection)
        self._slot_of[connection] = slot

    def remove(self, connection: Client) -> None:
        """A connection has ended."""
        COUNTERS.closed += 1
        slot = self._slot_of.pop(connection)
        self._slots[slot].discard(connection)

    def __iter__(self) -> Iterator[Client]:
        return iter(tuple(self._slot_of))

    def start(self) -> None:
        """Start the heartbeats."""
        self._greenlet = gevent.spawn(self._beat)

    def stop(self) -> None:
        """Stop the heartbeats."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def _beat(self) -> None:
        while True:
            for slot in self._slots:
                gevent.sleep(self._turn)
                self._each(slot, lambda connection: connection.beat())

    def _each(self, connections: set[Client], do: Callable[[Client], None]) -> None:
        began = time.monotonic()
        for connection in tuple(connections):
            if connection in self._slot_of:
                do(connection)
            if time.monotonic() - began > _MAX_RUN:
                gevent.sleep(0)
                began = time.monotonic()

    def drain(self, window: float, close_timeout: float) -> None:
        """Dismiss every connection, at a pace, and wait until they are gone.

        Args:
            window: seconds over which a full worker's connections are closed;
                few connections take less.
            close_timeout: seconds to wait for the last answers.
        """
        total = len(self)
        window = min(window, total / CLOSES_PER_SECOND)
        spread = max(window, RECONNECT_SPREAD)
        began = time.monotonic()
        for done, connection in enumerate(tuple(self._slot_of), start=1):
            if connection in self._slot_of:
                self._dismiss(connection, spread)
            gevent.sleep(max(0.0, began + window * done / total - time.monotonic()))
        until = time.monotonic() + close_timeout
        while self._slot_of and time.monotonic() < until:
            # Handshakes that were under way; for the others it does nothing.
            for connection in tuple(self._slot_of):
                self._dismiss(connection, spread)
            gevent.sleep(0.05)
        for connection in tuple(self._slot_of):
            connection.abandon()

    @staticmethod
    def _dismiss(connection: Client, spread: float) -> None:
        delay = round(random.uniform(0, spread), 2)
        connection.dismiss(CloseCode.RESTART, "restart", delay)
