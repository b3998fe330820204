"""Bring those who are behind forward, at their own pace.

They came with a cursor, or read too slowly. Those who are behind at the same
position of the same channel are brought forward together, with what is in
memory, or with what the journal's reader finds in the table for a `Need`.

Pure: no socket, no database, no greenlet.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.core.answers import Answers
from bridge.core.entries import Found, Need, Page, batches, first_page
from bridge.core.fan_out import Audience, FanOut
from bridge.core.recent import Recent
from bridge.core.standing import Standing

__all__ = ["MAX_GROUPS", "Replay"]

MAX_GROUPS = 16
"""Brought forward from memory before the tail has its turn again."""


class Replay:
    """Writes what was missed.

    Args:
        recent: entries in memory.
        live: whether the journal can be read.
    """

    def __init__(
        self,
        fan_out: FanOut,
        standing: Standing,
        recent: Recent,
        answers: Answers,
        live: Callable[[], bool],
    ) -> None:
        self._fan_out = fan_out
        self._standing = standing
        self._recent = recent
        self._answers = answers
        self._live = live

    def work(self) -> Need | None:
        """Bring some of those who are behind forward, with what is in memory.

        Returns:
            What must be read from the table for the next of them, for
            `replayed`; None: nothing must, or not now.
        """
        standing = self._standing
        self._fan_out.begin()
        for _ in range(MAX_GROUPS):
            if not standing.behind or not self._live():
                break
            group = standing.next_group()
            if not group:
                continue
            channel, after = group[0].channel, group[0].position
            waiting = not all(one.answered for one in group)
            found = None if waiting else self._recent.after(channel, after)
            if found is None:
                return Need(channel, after, standing.position)
            entries = first_page(found)
            complete = len(entries) == len(found)
            upto = standing.position if complete else entries[-1][0]
            self._forward(channel, after, entries, upto)
            self._fan_out.breathe()
        return None

    def replayed(self, need: Need, page: Page) -> None:
        """Write what was read for a `Need`."""
        answers = self._answers
        self._fan_out.begin()
        if page.epoch != answers.epoch or not self._live():
            return  # Reading the tail finds this too, and resets everybody.
        answers.floor = max(answers.floor, page.floor)
        if need.after < answers.floor:
            for subscription in self._standing.at(need.channel, need.after):
                answers.expire(subscription)
            return
        answers.judge(need, page)
        if need.after <= page.upto:
            self._forward(need.channel, need.after, page.entries, page.upto)

    def _forward(self, channel: str, after: int, entries: Found, upto: int) -> None:
        """Write entries to those who are behind at `after`."""
        group = self._standing.write_to(channel, after)
        audience = Audience()
        for subscription in group:
            audience.add(subscription)
        for batch, begin in batches(self._answers.epoch, channel, entries, after):
            mark = self._standing.mark(begin)
            self._fan_out.publish_after(audience, batch, mark)
        for subscription in group:
            self._standing.written(subscription, upto)
