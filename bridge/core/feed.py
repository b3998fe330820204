"""The journal as this worker sees it: its tail, and who follows it.

Data comes in through `opened`, `advance`, `replayed` and `lost`, called by the
one greenlet that reads the journal. Demand goes out through `work`: what that
greenlet must read for those who are behind, which are the ones that came with
a cursor and the ones that read too slowly. Those who are behind at the same
position of the same channel are brought forward together.

Subscriptions come and go while anything is written, since that may pause.

Not here: who stands where, and what may be said of that (`bridge.core.standing`).

Pure: no socket, no database, no greenlet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from bridge.core.entries import Entry, Found, Need, Page, batches, first_page
from bridge.core.fan_out import Audience, Audiences, FanOut
from bridge.core.recent import Payload, Recent
from bridge.core.standing import Standing
from bridge.core.subscription import Place, State, Subscription, interrupt
from bridge.values.channels import Patterns
from bridge.values.counters import COUNTERS
from bridge.values.cursor import Cursor
from bridge.values.message import Batch, Gap, Interrupted, Restored

__all__ = ["Feed"]

MAX_GROUPS = 16
"""Brought forward from memory before the tail has its turn again."""


class Feed:
    """The subscriptions that follow the journal.

    Args:
        max_recent_bytes: entries kept in memory for those who come back.
        reload_window: seconds over which so many clients reload their state.
        wake: there is work for who reads the journal.
    """

    def __init__(
        self,
        fan_out: FanOut,
        *,
        max_recent_bytes: int,
        reload_window: Callable[[int], float],
        wake: Callable[[], None],
    ) -> None:
        self._fan_out = fan_out
        self._reload_window = reload_window
        self._wake = wake
        self._standing = Standing(wake)
        #: Which channels are durable; None: not known yet.
        self.patterns: Patterns | None = None
        self.state = State.PENDING
        self.epoch = ""
        self.floor = 0
        self._recent = Recent(max_recent_bytes)
        #: Every subscription.
        self._members = Audiences()

    @property
    def subscriptions(self) -> int:
        """How many follow the journal."""
        return len(self._members)

    @property
    def behind(self) -> int:
        """How many can be brought forward now."""
        return len(self._standing.behind)

    @property
    def position(self) -> int:
        """The last entry that was written to everybody who is live."""
        return self._standing.position

    @property
    def cursor(self) -> Cursor:
        """Where the tail is."""
        return Cursor(self.epoch, self.position)

    def is_durable(self, channel: str) -> bool | None:
        """Tell whether a channel is kept; None: not known yet."""
        return None if self.patterns is None else self.patterns.match(channel)

    def wants(self, channel: str) -> bool:
        """Tell whether a channel's payloads are wanted here."""
        return self._members.of(channel) is not None

    def promise(self, subscription: Subscription) -> Cursor | None:
        """Return up to where a subscription has everything for good.

        Returns:
            None: that cannot be said now.
        """
        return self._cursor(self._standing.promise(subscription))

    def promise_to_all(self, subscriptions: Iterable[Subscription]) -> Cursor | None:
        """Return up to where all of one client's have everything for good.

        Returns:
            None: that cannot be said now, or some are not live, or there are none.
        """
        if self.state is not State.LIVE:
            return None
        return self._cursor(self._standing.promise_to_all(subscriptions))

    # Demand, from the hub.

    def subscribe(self, subscription: Subscription) -> None:
        """Take a subscription in; it is told at once how its channel stands."""
        channel = subscription.channel
        subscription.go_back = self._standing.go_back
        subscription.follows = False
        self._members.add(subscription)
        if self.state is State.LIVE:
            self._admit(subscription)
        elif self.state is State.AWAY:
            notice = Interrupted(channel, "journal_lost")
            subscription.interrupted(subscription.codec.encode(notice))

    def unsubscribe(self, subscription: Subscription) -> None:
        """Let a subscription go; `Subscription.end` was called."""
        self._members.discard(subscription)
        self._standing.leave(subscription)

    # Data, from the greenlet that reads the journal.

    def opened(self, epoch: str, floor: int, newest: int) -> bool:
        """The journal can be read, for the first time or again.

        Args:
            newest: its last position.

        Returns:
            Whether it begins anew at `newest`.
        """
        was, self.state = self.state, State.LIVE
        self._fan_out.begin()
        begins = True
        if was is State.PENDING:
            self._begin(epoch, floor, newest)
        elif epoch != self.epoch or newest < self.position:
            self.reset(epoch, floor, newest, "epoch_changed")
        elif self.position < floor:
            self.reset(epoch, floor, newest, "expired")
        else:
            begins = False
        self.floor = floor
        for channel, audience in self._members.all():
            self._fan_out.each(audience, Restored(channel), self._reopen)
        self._wake()
        return begins

    def reset(self, epoch: str, floor: int, newest: int, reason: str) -> None:
        """What followed the tail cannot be read: begin again at `newest`."""
        told = self._members.all()
        self._begin(epoch, floor, newest)
        self._fan_out.begin()
        window = self._reload_window(self.subscriptions)
        for channel, audience in told:
            gap = self._gap(channel, reason, window)
            self._fan_out.each(audience, gap, partial(self._begin_again, reason))

    def lost(self) -> None:
        """The journal cannot be read: nothing can arrive until `opened`."""
        if self.state is State.AWAY:
            return
        self.state = State.AWAY
        self._fan_out.begin()
        for channel, audience in self._members.all():
            notice = Interrupted(channel, "journal_lost")
            self._fan_out.each(audience, notice, interrupt)

    def advance(
        self,
        entries: Sequence[Entry],
        position: int,
        also: Callable[[Batch], None],
    ) -> None:
        """Write what came after `position`, and move it.

        Args:
            entries: all of the journal after the old position, in order.
            also: takes each batch as well, for those who do not follow the
                journal.
        """
        standing, before = self._standing, self.position
        standing.writing = True
        by_channel: dict[str, list[tuple[int, Payload]]] = {}
        for entry in entries:
            self._recent.add(entry.position, entry.channel, entry.payload)
            if entry.payload is None:
                # Somebody may have come while the others were read.
                for subscription in standing.live(entry.channel) or ():
                    standing.fall_behind(subscription, before)
            else:
                pair = entry.position, entry.payload
                by_channel.setdefault(entry.channel, []).append(pair)
        self._fan_out.begin()
        COUNTERS.notifications["journal"] += len(entries)
        for channel, found in by_channel.items():
            for batch, begin in batches(self.epoch, channel, found, before):
                audience = standing.live(channel)
                if audience is not None:
                    self._fan_out.publish_after(audience, batch, standing.mark(begin))
                also(batch)
        standing.reached(position)
        if self._standing.behind:
            self._wake()

    def work(self) -> Need | None:
        """Bring some of those who are behind forward, with what is in memory.

        Returns:
            What must be read from the table for the next of them, for
            `replayed`; None: nothing must, or not now.
        """
        self._fan_out.begin()
        for _ in range(MAX_GROUPS):
            if not self._standing.behind or self.state is not State.LIVE:
                break
            group = self._standing.next_group()
            if not group:
                continue
            channel, after = group[0].channel, group[0].position
            waiting = not all(one.answered for one in group)
            found = None if waiting else self._recent.after(channel, after)
            if found is None:
                return Need(channel, after, self.position)
            entries = first_page(found)
            complete = len(entries) == len(found)
            upto = self.position if complete else entries[-1][0]
            self._forward(channel, after, entries, upto)
            self._fan_out.breathe()
        return None

    def replayed(self, need: Need, page: Page) -> None:
        """Write what was read for a `Need`."""
        self._fan_out.begin()
        if page.epoch != self.epoch or self.state is not State.LIVE:
            return  # The tail finds the same out, and resets everybody.
        self.floor = max(self.floor, page.floor)
        if need.after < self.floor:
            for subscription in self._standing.at(need.channel, need.after):
                self._expire(subscription)
            return
        self._judge(need, page)
        if need.after <= page.upto:
            self._forward(need.channel, need.after, page.entries, page.upto)

    def forget(self) -> None:
        """What is in memory may not be shown any more."""
        self._recent.forget()

    # What a subscription is told.

    def _admit(self, subscription: Subscription) -> None:
        """Judge the cursor of a new subscription, and answer it."""
        cursor, reason = subscription.cursor, None
        if cursor is not None:
            reason = cursor.obstacle(self.epoch, self.floor)
        elif subscription.resume:
            reason = "not_kept"
        if cursor is None or reason is not None:
            self._answer(subscription, self.position, reason)
            return
        position = cursor.position
        if position <= self.position and self._recent.covers(
            subscription.channel, position
        ):
            self._answer(subscription, position, None)
        else:
            # Only the table knows: retention may have passed it, another
            # worker may have been faster, or it is a lie.
            self._standing.fall_behind(subscription, position)

    def _answer(
        self, subscription: Subscription, begin: int, reason: str | None
    ) -> None:
        """Let a subscription begin after a position, and say so.

        Args:
            reason: why it does not begin where it asked to; None: it does.
        """
        gap = None
        if reason is not None:
            window = self._reload_window(self.subscriptions)
            gap = self._gap(subscription.channel, reason, window)
        self._standing.begin(subscription, begin)
        subscription.answer(Cursor(self.epoch, begin), gap)
        if subscription.active:
            self._standing.settle(subscription)

    def _expire(self, subscription: Subscription) -> None:
        """Retention has passed what a subscription needs next."""
        self._standing.begin(subscription, self.position)
        gap = self._gap(subscription.channel, "expired", self._reload_window(1))
        self._begin_again(
            "expired", subscription, lambda: subscription.codec.encode(gap)
        )

    def _judge(self, need: Need, page: Page) -> None:
        """Answer those whose cursor only the table could judge."""
        for subscription in self._standing.at(need.channel, need.after):
            if subscription.answered:
                continue
            if need.after <= page.newest:
                self._answer(subscription, need.after, None)
            else:
                self._answer(subscription, self.position, "epoch_changed")

    def _reopen(
        self, subscription: Subscription, restored: Callable[[], bytes]
    ) -> None:
        if subscription.answered:
            subscription.restored(restored)
        elif subscription.place is Place.NOWHERE:
            self._admit(subscription)

    def _begin_again(
        self, reason: str, subscription: Subscription, gap: Callable[[], bytes]
    ) -> None:
        """Tell a subscription that has no place now; others came meanwhile."""
        if subscription.place is not Place.NOWHERE:
            return
        if subscription.answered:
            COUNTERS.gaps[reason] += 1
            subscription.reset(gap())
            if subscription.active:
                self._standing.settle(subscription)
        else:
            self._admit(subscription)

    def _forward(self, channel: str, after: int, entries: Found, upto: int) -> None:
        """Write entries to those who are behind at `after`."""
        group = self._standing.write_to(channel, after)
        audience = Audience()
        for subscription in group:
            audience.add(subscription)
        for batch, begin in batches(self.epoch, channel, entries, after):
            mark = self._standing.mark(begin)
            self._fan_out.publish_after(audience, batch, mark)
        for subscription in group:
            self._standing.written(subscription, upto)

    def _begin(self, epoch: str, floor: int, newest: int) -> None:
        self.epoch, self.floor = epoch, floor
        self._standing.begin_anew(
            newest, (one for _, audience in self._members.all() for one in audience)
        )
        self._recent.start(newest)

    def _cursor(self, position: int | None) -> Cursor | None:
        return None if position is None else Cursor(self.epoch, position)

    def _gap(self, channel: str, reason: str, window: float) -> Gap:
        return Gap(channel, reason, window, cursor=str(self.cursor))
