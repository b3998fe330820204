"""Where each subscription of the journal stands, and what it may be told of that.

A cursor that a client was told must stay true: everything up to it has gone
out. So a position is told only when nothing that is queued can still be dropped:

- `begin` says where a subscription begins: nothing before is owed to it.
- `promise` says up to where one has everything for good; of one whose outlet
  keeps something, nothing: what is kept may be dropped.
- `go_back` takes one back to before the first chunk that was dropped, wherever
  it stands by then. Chunks from before `begin_anew`, of another era, do not
  count: a gap has covered them.

A notification's own cursor is in one chunk with it, and is dropped with it.

Invariants: a subscription stands in one place. The outlet of one that is
`BEHIND` was idle when it became so: nothing of the journal is queued in it.
While the tail is being written nobody becomes live.

Pure: no socket, no database, no greenlet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bridge.core.behind import Behind
from bridge.core.fan_out import Audience, Audiences
from bridge.core.subscription import Mark, Outlet, Place, Subscription

__all__ = ["Standing"]


class Standing:
    """The subscriptions that follow the journal, each in its place.

    Args:
        wake: somebody can be brought forward.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        #: The last entry that was written to everybody who is live.
        self.position = 0
        #: Entries after `position` are being written; set by the feed.
        self.writing = False
        #: Counts the times that `begin_anew` was called.
        self._era = 0
        self._live = Audiences()
        #: Those that can be brought forward now.
        self.behind = Behind()
        #: Those that are behind and wait for their outlet, by outlet.
        self._waiting: dict[Outlet, dict[Subscription, None]] = {}
        self._ahead: dict[Subscription, None] = {}
        #: How many turns were had; see `Subscription.turn`.
        self._turns = 0

    # What is told, and what takes it back.

    def begin(self, subscription: Subscription, position: int) -> None:
        """Let a subscription begin after a position; `settle` follows."""
        self.leave(subscription)
        subscription.position = position

    def begin_anew(
        self, position: int, subscriptions: Iterable[Subscription] = ()
    ) -> None:
        """Begin again: these subscriptions, which are all, and the tail."""
        self._era += 1
        self.position = position
        for subscription in subscriptions:
            self.begin(subscription, position)

    def mark(self, position: int) -> Mark:
        """Return what `go_back` takes, for entries written after a position."""
        return Mark(self._era, position)

    def go_back(self, subscription: Subscription, marks: Sequence[Mark]) -> None:
        """Chunks that were written to a subscription were dropped.

        Args:
            marks: of each, oldest first. Those from before all began anew stand
                before a gap.
        """
        of_now = [mark for mark in marks if mark.era == self._era]
        if of_now and subscription.place is not Place.NOWHERE:
            self.fall_behind(subscription, of_now[0].position)

    def promise(self, subscription: Subscription) -> int | None:
        """Return up to where a subscription has everything for good.

        Returns:
            None: that cannot be said now.
        """
        if not subscription.outlet.idle:
            return None
        match subscription.place:
            case Place.LIVE:
                return None if self.writing else self.position
            case Place.BEHIND | Place.AHEAD:
                return subscription.position
            case _:
                return None

    def promise_to_all(self, subscriptions: Iterable[Subscription]) -> int | None:
        """Return up to where all of one client's have everything for good.

        Returns:
            None: that cannot be said now, or some are not live, or there are none.
        """
        promises = [
            self.promise(one) if one.place is Place.LIVE else None
            for one in subscriptions
        ]
        return None if not promises or None in promises else self.position

    # Places.

    def live(self, channel: str) -> Audience | None:
        """Return those of a channel that are live; None: nobody is."""
        return self._live.of(channel)

    def settle(self, subscription: Subscription) -> None:
        """Give a subscription the place that its position asks for."""
        self.leave(subscription)
        if subscription.position > self.position:
            self._ahead[subscription] = None
            subscription.place = Place.AHEAD
        elif subscription.position < self.position or self.writing:
            self.line_up(subscription)
        else:
            self._live.add(subscription)
            subscription.place = Place.LIVE
            subscription.follows = True

    def fall_behind(self, subscription: Subscription, position: int) -> None:
        """Bring a subscription forward again from a position."""
        self.leave(subscription)
        subscription.position = position
        self.line_up(subscription)

    def line_up(self, subscription: Subscription) -> None:
        """Bring a subscription forward as soon as its outlet is idle."""
        outlet = subscription.outlet
        if outlet.idle:
            self.behind.add(subscription)
            subscription.place = Place.BEHIND
            self._wake()
            return
        subscription.place = Place.WAITING
        waiting = self._waiting.get(outlet)
        if waiting is None:
            self._waiting[outlet] = {subscription: None}
            outlet.when_idle(lambda: self._outlet_is_idle(outlet))
        else:
            waiting[subscription] = None

    def leave(self, subscription: Subscription) -> None:
        """Take a subscription from its place; it has none then."""
        match subscription.place:
            case Place.LIVE:
                self._live.discard(subscription)
            case Place.BEHIND:
                self.behind.remove(subscription)
            case Place.AHEAD:
                del self._ahead[subscription]
            case Place.WAITING:
                waiting = self._waiting[subscription.outlet]
                del waiting[subscription]
                if not waiting:
                    del self._waiting[subscription.outlet]
        subscription.place = Place.NOWHERE
        subscription.follows = False

    def reached(self, position: int) -> None:
        """The tail has been written up to a position."""
        self.position, self.writing = position, False
        for subscription in tuple(self._ahead):
            if subscription.position <= position:
                self.settle(subscription)

    # Bringing forward.

    def next_group(self) -> tuple[Subscription, ...]:
        """Return those who are next to be brought forward, at one position.

        Somebody is behind. Returns nobody when those have to wait for their
        outlets.
        """
        return self._with_idle_outlets(*self.behind.first)

    def at(self, channel: str, position: int) -> tuple[Subscription, ...]:
        """Return those of a channel who are behind at a position."""
        return self.behind.at(channel, position)

    def write_to(self, channel: str, position: int) -> tuple[Subscription, ...]:
        """Take those of a channel who are behind at a position, to be written to.

        An outlet may have been written to since they lined up. Only into an idle
        one more is written: then it is begun at once, and never dropped and read
        again.
        """
        group = self._with_idle_outlets(channel, position)
        for subscription in group:
            self.leave(subscription)
            subscription.place = Place.WRITING
            subscription.follows = True
        return group

    def written(self, subscription: Subscription, position: int) -> None:
        """One of `write_to` has what came up to a position, unless it was moved."""
        if subscription.place is Place.WRITING:
            self._turns += 1
            subscription.turn = self._turns
            subscription.position = position
            self.settle(subscription)

    def _with_idle_outlets(
        self, channel: str, position: int
    ) -> tuple[Subscription, ...]:
        group = self.behind.at(channel, position)
        for subscription in group:
            if not subscription.outlet.idle:
                self.leave(subscription)
                self.line_up(subscription)
        return self.behind.at(channel, position)

    def _outlet_is_idle(self, outlet: Outlet) -> None:
        waiting = self._waiting.pop(outlet, {})
        # Only one page may fit: who has waited for longest comes first.
        for subscription in sorted(waiting, key=lambda one: one.turn):
            self.line_up(subscription)
