"""What a subscription of the journal is told about where it begins.

A cursor is judged once, when the journal is open: it can be met, or why not. A
place that is lost later is told with a `gap`, and a new one given.

Pure: no socket, no database, no greenlet.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.core.entries import Need, Page
from bridge.core.recent import Recent
from bridge.core.standing import Standing
from bridge.core.subscription import Place, Subscription
from bridge.values.counters import COUNTERS
from bridge.values.cursor import Cursor
from bridge.values.message import Gap

__all__ = ["Answers"]


class Answers:
    """Gives subscriptions their place, and says so.

    Args:
        recent: entries in memory.
        reload_window: seconds over which so many clients reload their state.
        members: how many subscriptions there are.
    """

    def __init__(
        self,
        standing: Standing,
        recent: Recent,
        reload_window: Callable[[int], float],
        members: Callable[[], int],
    ) -> None:
        self._standing = standing
        self._recent = recent
        self._reload_window = reload_window
        self._members = members
        self.epoch = ""
        #: Retention has passed every entry up to this one.
        self.floor = 0

    def cursor(self, position: int) -> Cursor:
        """Return the cursor of a position in this epoch."""
        return Cursor(self.epoch, position)

    def window(self) -> float:
        """Return the seconds over which everybody reloads their state."""
        return self._reload_window(self._members())

    def admit(self, subscription: Subscription) -> None:
        """Judge the cursor of a new subscription, and answer it."""
        cursor, reason = subscription.cursor, None
        if cursor is not None:
            reason = cursor.obstacle(self.epoch, self.floor)
        elif subscription.resume:
            reason = "not_kept"
        newest = self._standing.position
        if cursor is None or reason is not None:
            self._answer(subscription, newest, reason)
            return
        position = cursor.position
        if position <= newest and self._recent.covers(subscription.channel, position):
            self._answer(subscription, position, None)
        else:
            # Only the table knows: retention may have passed it, another
            # worker may have been faster, or it is a lie.
            self._standing.fall_behind(subscription, position)

    def judge(self, need: Need, page: Page) -> None:
        """Answer those whose cursor only the table could judge."""
        for subscription in self._standing.at(need.channel, need.after):
            if subscription.answered:
                continue
            if need.after <= page.newest:
                self._answer(subscription, need.after, None)
            else:
                self._answer(subscription, self._standing.position, "epoch_changed")

    def expire(self, subscription: Subscription) -> None:
        """Retention has passed what a subscription needs next."""
        self._standing.begin(subscription, self._standing.position)
        gap = self.gap(subscription.channel, "expired", self._reload_window(1))
        self.begin_again(
            "expired", subscription, lambda: subscription.codec.encode(gap)
        )

    def reopen(self, subscription: Subscription, restored: Callable[[], bytes]) -> None:
        """The journal can be read again, and nothing was lost."""
        if subscription.answered:
            subscription.restored(restored)
        elif subscription.place is Place.NOWHERE:
            self.admit(subscription)

    def begin_again(
        self, reason: str, subscription: Subscription, gap: Callable[[], bytes]
    ) -> None:
        """Tell a subscription that was there when all began anew.

        One that has a place already came after that.
        """
        if subscription.place is not Place.NOWHERE:
            return
        if subscription.answered:
            COUNTERS.gaps[reason] += 1
            subscription.reset(gap())
            if subscription.active:
                self._standing.settle(subscription)
        else:
            self.admit(subscription)

    def gap(self, channel: str, reason: str, window: float) -> Gap:
        """Make the gap after which a channel goes on at the tail."""
        cursor = self.cursor(self._standing.position)
        return Gap(channel, reason, window, cursor=str(cursor))

    def _answer(
        self, subscription: Subscription, begin: int, reason: str | None
    ) -> None:
        """Let a subscription begin after a position, and say so.

        Args:
            reason: why it does not begin where it asked to; None: it does.
        """
        gap = None
        if reason is not None:
            gap = self.gap(subscription.channel, reason, self.window())
        self._standing.begin(subscription, begin)
        subscription.answer(self.cursor(begin), gap)
        if subscription.active:
            self._standing.settle(subscription)
