"""The rules for one subscription of a durable channel.

It has a *position*: everything of the channel up to there has come, or a gap
stood where it did not, counted from where the subscription began. Each word
about a position is held against the journal. What is found untrue does not
move the position, so that one fault is found once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.values.cursor import Cursor, parse_cursor
from support.attack.finding import Kind, Rules
from support.attack.history import Asked
from support.attack.truth import Journal

__all__ = ["DurableRun"]

Report = Callable[[Kind, str], None]

ONE_PLACE = ("too_large",)
"""Reasons of a gap that stands for one event, and not for all before it."""


class DurableRun:
    """From `subscribed` to the end of the subscription or the connection.

    Args:
        request: the one that is answered.
        answer: its `subscribed`.
    """

    def __init__(
        self,
        journal: Journal,
        rules: Rules,
        report: Report,
        request: Asked,
        answer: dict[str, Any],
    ) -> None:
        self._journal = journal
        self._rules = rules
        self._report = report
        self._channel = str(request.channel)
        said = parse_cursor(answer["cursor"])
        #: Everything up to here has come.
        self.position = said
        #: Nothing but a gap may come now.
        self._owes_gap = False
        #: A gap for which the page itself is the reason may come.
        self._unknown_start = request.resume and request.cursor is None
        if answer["resumed"]:
            if request.cursor is None:
                report(Kind.NOT_GIVEN, f"{answer} without a cursor")
                return
            self.position = parse_cursor(request.cursor)
            if said != self.position:
                report(Kind.NOT_GIVEN, f"{answer}, given {request.cursor}")
        elif request.cursor is not None or request.resume:
            self._owes_gap = True

    def subscribed_again(self, answer: dict[str, Any]) -> None:
        """A second request for the channel is answered."""
        if "cursor" in answer:
            self.claim(parse_cursor(answer["cursor"]), f"subscribed again {answer}")

    def claim(self, cursor: Cursor, said: str) -> None:
        """The page is told that it has everything up to a cursor.

        Args:
            said: the message, for the report.
        """
        if not self._same_epoch(cursor, said):
            return
        at, position = cursor.position, self.position.position
        if at < position:
            self._report(Kind.BACK, f"{said} at {self._where}")
            return
        missing = self._between(position, at + 1)
        if missing:
            self._report(Kind.UNTRUE, f"{said} at {self._where}: {_list(missing)}")
            return
        self.position = cursor

    def notification(self, message: dict[str, Any], number: int | None) -> None:
        """An event has come."""
        self._gap_is_paid(message)
        if "cursor" not in message:
            self._report(Kind.FOREIGN, f"without a cursor: {message}")
            return
        cursor = parse_cursor(message["cursor"])
        if not self._journal.has(self._channel, cursor, number):
            self._report(Kind.FOREIGN, f"{message} on {self._channel}")
        if not self._same_epoch(cursor, f"notification {cursor}"):
            self.position = cursor
            return
        if cursor.position <= self.position.position:
            self._report(Kind.TWICE, f"{cursor} at {self._where}")
            return
        missing = self._between(self.position.position, cursor.position)
        if missing:
            self._report(
                Kind.LOST, f"{_list(missing)} between {self._where} and {cursor}"
            )
        self.position = cursor

    def gap(self, message: dict[str, Any]) -> None:
        """Something is missing, and it is said."""
        reason = message["reason"]
        asked_for = self._owes_gap and self._unknown_start and reason == "not_kept"
        if not asked_for and reason not in self._rules.gaps:
            self._report(Kind.NEEDLESS, f"{message} at {self._where}")
        self._owes_gap = False
        if "cursor" not in message:
            return
        cursor = parse_cursor(message["cursor"])
        if cursor.epoch == self.position.epoch:
            if cursor.position < self.position.position:
                self._report(Kind.BACK, f"{message} at {self._where}")
                return
            missing = self._between(self.position.position, cursor.position)
            if reason in ONE_PLACE and missing:
                self._report(Kind.LOST, f"{_list(missing)} before {message}")
        self.position = cursor

    def _gap_is_paid(self, message: dict[str, Any]) -> None:
        if self._owes_gap:
            self._owes_gap = False
            self._report(Kind.NO_GAP, f"before {message} on {self._channel}")

    def _same_epoch(self, cursor: Cursor, said: str) -> bool:
        if cursor.epoch != self.position.epoch:
            self._report(Kind.EPOCH, f"{said} at {self._where}")
            return False
        return True

    def _between(self, after: int, before: int) -> list[int]:
        return self._journal.between(self._channel, self.position.epoch, after, before)

    @property
    def _where(self) -> str:
        return f"{self.position} of {self._channel}"


def _list(missing: list[int]) -> str:
    return f"{len(missing)} missing, {missing[0]}–{missing[-1]}"
