"""What was committed: of durable channels by position, of plain ones by number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.values.cursor import Cursor

__all__ = ["Journal", "Moment", "PlainEvents"]


class Journal:
    """Every entry that any epoch of the journal has had.

    Args:
        entries: epoch, position, channel and the event's number; None: the
            event has none.
    """

    def __init__(self, entries: Iterable[tuple[str, int, str, int | None]]) -> None:
        self._positions: dict[tuple[str, str], list[int]] = {}
        self._numbers: dict[tuple[str, str, int], int | None] = {}
        for epoch, position, channel, number in entries:
            self._positions.setdefault((epoch, channel), []).append(position)
            self._numbers[epoch, channel, position] = number
        for found in self._positions.values():
            found.sort()

    def between(self, channel: str, epoch: str, after: int, before: int) -> list[int]:
        """Return the channel's positions between two, both left out."""
        found = self._positions.get((epoch, channel), [])
        return [
            position
            for position in found[bisect_right(found, after) :]
            if position < before
        ]

    def has(self, channel: str, at: Cursor, number: int | None) -> bool:
        """Whether this event stands at this place."""
        key = (at.epoch, channel, at.position)
        return key in self._numbers and self._numbers[key] in (None, number)

    def __len__(self) -> int:
        return len(self._numbers)


@dataclass(frozen=True, slots=True)
class Moment:
    """Between which two moments an event was committed; Unix seconds.

    Attributes:
        ended: None: the connection broke at the commit, so nobody knows.
    """

    began: float
    ended: float | None


PlainEvents = dict[str, dict[int, Moment]]
"""Of each plain channel its events by number; numbers are in the order of the
commits and leave none out."""
