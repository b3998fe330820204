"""A small table in shared memory: how many connections each worker has.

The kernel gives a new connection to whichever worker asks first, so workers
that share a listening socket end up with up to twice as many clients as
others. Each worker looks here before it accepts, and leaves the connection
for some milliseconds to one that has fewer.

The table is made in Gunicorn's master and inherited by the workers. A row is
written by its worker alone, and a torn read does no harm.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable

__all__ = ["Row", "Table"]

ROWS = 256
"""More workers than a host has; old and new ones live together in a reload."""

STALE_AFTER = 3.0
"""Seconds without a sign of life: frozen or killed, and waits for nobody."""

SLACK, SLACK_SHARE = 4, 0.02
"""How many more connections are no reason to wait: the larger of a number and
a share of what the other has."""

BOOTING = 2**62
"""In the place of a count: accepts soon, and nobody need wait for it."""

BOOT_TIME = 30.0
"""Seconds in which a worker that was made accepts, or never will."""

_ROW = struct.Struct("=dq")  # time of the last sign of life, connections


class Table:
    """The rows of all workers of a master.

    Args:
        clock: seconds that mean the same in every process: `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._memory = mmap.mmap(-1, ROWS * _ROW.size)
        self._clock = clock

    def row(self, number: int) -> Row:
        """Return a worker's row; `number` is its age, which Gunicorn counts."""
        return Row(self, number % ROWS)

    def write(self, row: int, connections: int | None, ahead: float = 0.0) -> None:
        """Set a row; None: the worker accepts nothing.

        Args:
            ahead: seconds for which this counts as a sign of life.
        """
        alive = (0.0, 0)
        if connections is not None:
            alive = (self._clock() + ahead, connections)
        _ROW.pack_into(self._memory, row * _ROW.size, *alive)

    def least(self, row: int) -> int | None:
        """Return the fewest connections of another live worker, if there is one."""
        fresh = self._clock() - STALE_AFTER
        counts = [
            connections
            for other, (at, connections) in enumerate(_ROW.iter_unpack(self._memory))
            if at > fresh and other != row
        ]
        return min(counts, default=None)


class Row:
    """One worker's place in the table."""

    def __init__(self, table: Table, number: int) -> None:
        self._table = table
        self._number = number
        table.write(number, BOOTING, ahead=BOOT_TIME)

    def update(self, connections: int) -> None:
        """Say how many connections this worker has; at least once a second."""
        self._table.write(self._number, connections)

    @property
    def is_alone(self) -> bool:
        """Whether no other worker accepts, or is about to."""
        return self._table.least(self._number) is None

    def leave(self) -> None:
        """Accept nothing any more: nobody should wait for this worker."""
        self._table.write(self._number, None)

    def should_wait(self, connections: int) -> bool:
        """Tell whether another worker has clearly fewer connections."""
        self.update(connections)
        least = self._table.least(self._number)
        if least is None:
            return False
        return connections > least + max(SLACK, SLACK_SHARE * least)
