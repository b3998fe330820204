"""The journal as this worker sees it: its tail, and who follows it.

Data comes in through `opened`, `advance`, `replayed` and `lost`, called by the
one greenlet that reads the journal. Demand goes out through `work`: what that
greenlet must read for those who are behind, which are the ones that came with
a cursor and the ones that read too slowly.

Invariants: `position` is the last entry that was written to everybody who is
live; who is not live has a position of its own, at or before it, or ahead of
it when another worker was faster. Those who are behind at the same position of
the same channel are brought forward together. Who is behind has no backlog
beyond one page. While entries are being written (`advance` may pause) nobody
becomes live.

Pure: no socket, no database, no greenlet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from bridge.behind import Behind
from bridge.channels import Patterns
from bridge.counters import COUNTERS
from bridge.cursor import Cursor
from bridge.entries import Entry, Found, Need, Page, batches, first_page
from bridge.fan_out import Audience, Audiences, FanOut
from bridge.message import Batch, Gap, Interrupted, Restored
from bridge.recent import Payload, Recent
from bridge.subscription import State, Subscription, interrupt

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
        #: Which channels are durable; None: not known yet.
        self.patterns: Patterns | None = None
        self.state = State.PENDING
        self.epoch = ""
        self.floor = 0
        self.position = 0
        self._recent = Recent(max_recent_bytes)
        #: Every subscription.
        self._members = Audiences()
        #: Those that are live.
        self._live = Audiences()
        #: Those that are behind and can be written to.
        self._behind = Behind()
        #: Those that have more than the tail, and wait for it.
        self._ahead: dict[Subscription, None] = {}
        #: `advance` is writing.
        self._writing = False

    @property
    def subscriptions(self) -> int:
        """How many follow the journal."""
        return len(self._members)

    @property
    def behind(self) -> int:
        """How many can be brought forward now."""
        return len(self._behind)

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

    def is_live(self, subscription: Subscription) -> bool:
        """Tell whether a subscription has everything up to `position`."""
        return self.state is State.LIVE and subscription in self._live

    def cursor_of(self, subscription: Subscription) -> Cursor:
        """Return up to where a subscription has everything."""
        if self.is_live(subscription):
            return self.cursor
        return Cursor(self.epoch, min(subscription.position, self.position))

    # Demand, from the hub.

    def subscribe(self, subscription: Subscription) -> None:
        """Take a subscription in; it is told at once how its channel stands."""
        channel = subscription.channel
        subscription.fall_behind = self._fall_behind
        subscription.follows = False
        self._members.add(subscription)
        if self.state is State.LIVE:
            self._place(subscription)
        elif self.state is State.AWAY:
            notice = Interrupted(channel, "journal_lost")
            subscription.interrupted(subscription.codec.encode(notice))

    def unsubscribe(self, subscription: Subscription) -> None:
        """Let a subscription go; `Subscription.end` was called."""
        self._members.discard(subscription)
        self._live.discard(subscription)
        self._ahead.pop(subscription, None)
        self._behind.remove(subscription)

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
        self._begin(epoch, floor, newest)
        self._behind.clear()
        self._ahead.clear()
        self._live.clear()
        self._fan_out.begin()
        window = self._reload_window(self.subscriptions)
        told = self._members.all()
        for _, audience in told:
            for subscription in audience:
                subscription.follows = False
                subscription.position = newest
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
        before, self._writing = self.position, True
        by_channel: dict[str, list[tuple[int, Payload]]] = {}
        for entry in entries:
            self._recent.add(entry.position, entry.channel, entry.payload)
            if entry.payload is None:
                # Somebody may have come while the others were read.
                for subscription in self._live.of(entry.channel) or ():
                    self._fall_behind(subscription, before)
            else:
                pair = entry.position, entry.payload
                by_channel.setdefault(entry.channel, []).append(pair)
        self._fan_out.begin()
        COUNTERS.notifications["journal"] += len(entries)
        for channel, found in by_channel.items():
            for batch, mark in batches(self.epoch, channel, found, before):
                audience = self._live.of(channel)
                if audience is not None:
                    self._fan_out.publish_after(audience, batch, mark)
                also(batch)
        self.position, self._writing = position, False
        for subscription in tuple(self._ahead):
            if subscription.position <= position:
                del self._ahead[subscription]
                self._settle(subscription)
        if self._behind:
            self._wake()

    def work(self) -> Need | None:
        """Bring some of those who are behind forward, with what is in memory.

        Returns:
            What must be read from the table for the next of them, for
            `replayed`; None: nothing must, or not now.
        """
        self._fan_out.begin()
        for _ in range(MAX_GROUPS):
            if not self._behind or self.state is not State.LIVE:
                break
            channel, after = self._behind.first
            group = self._behind.at(channel, after)
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
            for subscription in self._behind.take(need.channel, need.after):
                self._expire(subscription)
            return
        self._judge(need, page)
        if need.after <= page.upto:
            self._forward(need.channel, need.after, page.entries, page.upto)

    def forget(self) -> None:
        """What is in memory may not be shown any more."""
        self._recent.forget()

    # Where a subscription stands.

    def _place(self, subscription: Subscription) -> None:
        """Judge the cursor of a new subscription, and answer it."""
        cursor, reason = subscription.cursor, None
        if cursor is not None:
            reason = cursor.obstacle(self.epoch, self.floor)
        elif subscription.resume:
            reason = "not_kept"
        if cursor is None or reason is not None:
            subscription.position = self.position
            self._answer(subscription, reason)
            return
        position = subscription.position = cursor.position
        if position <= self.position and self._recent.covers(
            subscription.channel, position
        ):
            self._answer(subscription, None)
        else:
            # Only the table knows: retention may have passed it, another
            # worker may have been faster, or it is a lie.
            self._queue(subscription)

    def _answer(self, subscription: Subscription, reason: str | None) -> None:
        gap = None
        if reason is not None:
            window = self._reload_window(self.subscriptions)
            gap = self._gap(subscription.channel, reason, window)
        newest = max(self.position, subscription.position)
        subscription.answer(Cursor(self.epoch, newest), gap)
        if subscription.active:
            self._settle(subscription)

    def _settle(self, subscription: Subscription) -> None:
        """Let a subscription follow the tail, or queue it when it is behind."""
        if subscription.position > self.position:
            self._ahead[subscription] = None
        elif subscription.position < self.position or self._writing:
            self._queue(subscription)
        else:
            self._live.add(subscription)
            subscription.follows = True

    def _fall_behind(self, subscription: Subscription, position: int) -> None:
        """Take a subscription that follows back to where it has everything."""
        if not subscription.follows:
            return
        self._live.discard(subscription)
        subscription.follows = False
        subscription.position = position
        self._queue(subscription)

    def _expire(self, subscription: Subscription) -> None:
        """Retention has passed what a subscription needs next."""
        subscription.position = self.position
        gap = self._gap(subscription.channel, "expired", self._reload_window(1))
        self._begin_again(
            "expired", subscription, lambda: subscription.codec.encode(gap)
        )

    def _judge(self, need: Need, page: Page) -> None:
        """Answer those whose cursor only the table could judge."""
        for subscription in self._behind.at(need.channel, need.after):
            if subscription.answered:
                continue
            self._behind.remove(subscription)
            if need.after <= page.newest:
                self._answer(subscription, None)
            else:
                subscription.position = self.position
                self._answer(subscription, "epoch_changed")

    def _reopen(
        self, subscription: Subscription, restored: Callable[[], bytes]
    ) -> None:
        if subscription.answered:
            subscription.restored(restored)
        elif subscription not in self._behind:
            self._place(subscription)

    def _begin_again(
        self, reason: str, subscription: Subscription, gap: Callable[[], bytes]
    ) -> None:
        if subscription.answered:
            COUNTERS.gaps[reason] += 1
            subscription.reset(gap())
            if subscription.active:
                self._settle(subscription)
        else:
            self._place(subscription)

    # Those who are behind.

    def _queue(self, subscription: Subscription) -> None:
        """Bring a subscription forward when it can be written to."""
        if not subscription.outlet.idle:
            subscription.outlet.when_idle(lambda: self._requeue(subscription))
            return
        self._behind.add(subscription)
        self._wake()

    def _requeue(self, subscription: Subscription) -> None:
        """Its outlet is idle; it may have left, or been reset, meanwhile."""
        if (
            subscription.active
            and not subscription.follows
            and subscription not in self._ahead
            and subscription not in self._behind
        ):
            self._queue(subscription)

    def _forward(self, channel: str, after: int, entries: Found, upto: int) -> None:
        """Write entries to those who are behind at `after`."""
        group = self._behind.take(channel, after)
        audience = Audience()
        for subscription in group:
            subscription.position = upto
            subscription.follows = True
            audience.add(subscription)
        for batch, mark in batches(self.epoch, channel, entries, after):
            self._fan_out.publish_after(audience, batch, mark)
        for subscription in group:
            if subscription.follows:
                subscription.follows = False
                self._settle(subscription)

    def _begin(self, epoch: str, floor: int, newest: int) -> None:
        self.epoch, self.floor, self.position = epoch, floor, newest
        self._recent.start(newest)

    def _gap(self, channel: str, reason: str, window: float) -> Gap:
        return Gap(channel, reason, window, cursor=str(self.cursor))
