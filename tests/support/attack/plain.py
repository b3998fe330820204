"""The rules for one subscription of a plain channel.

Its events are numbered in the order of their commits, so each step from one to
the next is by one, or a gap stands there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.attack.finding import Kind
from support.attack.history import Asked
from support.attack.truth import Moment

__all__ = ["PlainRun"]

Report = Callable[[Kind, str], None]


class PlainRun:
    """From `subscribed` to the end of the subscription or the connection.

    Args:
        events: of the channel, by number.
        request: the one that is answered.
        at: Unix seconds, when the answer was read.
    """

    def __init__(
        self, events: dict[int, Moment], report: Report, request: Asked, at: float
    ) -> None:
        self._events = events
        self._report = report
        self._channel = request.channel
        self._began = at
        #: The last number; None: there was none yet.
        self._last: int | None = None
        #: The gaps since then; of each, what is complete before it.
        self._gaps: list[float | None] = []
        self._owes_gap = request.resume

    def notification(self, message: dict[str, Any], number: int | None) -> None:
        """An event has come."""
        if self._owes_gap:
            self._owes_gap = False
            self._report(Kind.NO_GAP, f"before {message}")
        if number not in self._events:
            self._report(Kind.FOREIGN, f"{message}")
            return
        assert number is not None
        last = self._last
        if last is not None and number <= last:
            self._report(Kind.TWICE, f"{number} after {last} of {self._channel}")
            return
        self._judge(self._missing(number), number)
        self._last, self._gaps = number, []

    def gap(self, message: dict[str, Any]) -> None:
        """Something is missing, and it is said."""
        self._owes_gap = False
        self._gaps.append(message.get("since"))

    def _missing(self, number: int) -> list[int]:
        """Return what should have come since the last event, or since the start."""
        if self._last is not None:
            return list(range(self._last + 1, number))
        before = self._events.get(number - 1)
        found = []
        while before is not None and before.began > self._began:
            number -= 1
            found.append(number)
            before = self._events.get(number - 1)
        return found[::-1]

    def _judge(self, missing: list[int], number: int) -> None:
        if not self._gaps:
            lost = missing
        else:
            lost = [one for one in missing if not self._covered(one)]
        if lost:
            self._report(
                Kind.LOST,
                f"{len(lost)}, {lost[0]}–{lost[-1]}, before {number} of "
                f"{self._channel}, gaps since {self._gaps}",
            )

    def _covered(self, number: int) -> bool:
        """Whether a gap tells of it: not if it says that all before is complete."""
        event = self._events.get(number)
        if event is None or event.ended is None:
            return True
        return any(since is None or event.ended >= since for since in self._gaps)
