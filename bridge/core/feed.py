"""The journal as this worker sees it: its tail, and who follows it.

Data comes in through `opened`, `advance`, `replayed` and `lost`, called by the
one greenlet that reads the journal. Demand goes out through `work`: what that
greenlet must read for those who are behind.

Subscriptions come and go while anything is written, since that may pause.

Not here: who stands where (`standing`), what a subscription is told of its
place (`answers`), how those who are behind catch up (`replay`).

Pure: no socket, no database, no greenlet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from bridge.core.answers import Answers
from bridge.core.entries import Entry, Need, Page, batches
from bridge.core.fan_out import Audiences, FanOut
from bridge.core.recent import Payload, Recent
from bridge.core.replay import Replay
from bridge.core.standing import Standing
from bridge.core.subscription import State, Subscription, interrupt
from bridge.values.channels import Patterns
from bridge.values.counters import COUNTERS
from bridge.values.cursor import Cursor
from bridge.values.message import Batch, Interrupted, Restored

__all__ = ["Feed"]


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
        self._wake = wake
        self._standing = Standing(wake)
        #: Which channels are durable; None: not known yet.
        self.patterns: Patterns | None = None
        self.state = State.PENDING
        self._recent = Recent(max_recent_bytes)
        #: Every subscription.
        self._members = Audiences()
        self._answers = Answers(
            self._standing,
            self._recent,
            reload_window,
            members=lambda: self.subscriptions,
        )
        self._replay = Replay(
            fan_out,
            self._standing,
            self._recent,
            self._answers,
            live=lambda: self.state is State.LIVE,
        )

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
        return self._answers.cursor(self.position)

    @property
    def epoch(self) -> str:
        """The journal's epoch: positions of another one cannot be compared."""
        return self._answers.epoch

    @property
    def floor(self) -> int:
        """Retention has passed every entry up to this one."""
        return self._answers.floor

    def is_durable(self, channel: str) -> bool | None:
        """Tell whether a channel is durable; None: not known yet."""
        return None if self.patterns is None else self.patterns.match(channel)

    def waiting(self) -> list[Subscription]:
        """Return those whose request has no answer yet."""
        return [
            one
            for _, audience in self._members.all()
            for one in audience
            if not one.answered
        ]

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
            self._answers.admit(subscription)
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
        self._answers.floor = floor
        for channel, audience in self._members.all():
            self._fan_out.each(audience, Restored(channel), self._answers.reopen)
        self._wake()
        return begins

    def reset(self, epoch: str, floor: int, newest: int, reason: str) -> None:
        """What followed the tail cannot be read: begin again at `newest`."""
        told = self._members.all()
        self._begin(epoch, floor, newest)
        self._fan_out.begin()
        window = self._answers.window()
        begin_again = partial(self._answers.begin_again, reason)
        for channel, audience in told:
            gap = self._answers.gap(channel, reason, window)
            self._fan_out.each(audience, gap, begin_again)

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
        upto: int,
        to_plain: Callable[[Batch], None],
    ) -> None:
        """Write the entries after `self.position`, and move it to `upto`.

        Args:
            entries: all of the journal in between, in order.
            to_plain: takes each batch as well, for plain subscriptions.
        """
        standing, before = self._standing, self.position
        standing.writing = True
        by_channel: dict[str, list[tuple[int, Payload]]] = {}
        for entry in entries:
            self._recent.add(entry.position, entry.channel, entry.payload)
            if entry.payload is None:
                # Nobody wanted its payload when it was read, but somebody may have
                # subscribed since: they read it from the table.
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
                to_plain(batch)
        standing.reached(upto)
        if self._standing.behind:
            self._wake()

    def work(self) -> Need | None:
        """Bring some of those who are behind forward, see `Replay.work`."""
        return self._replay.work()

    def replayed(self, need: Need, page: Page) -> None:
        """Write what was read for a `Need`."""
        self._replay.replayed(need, page)

    def expire(self, floor: int) -> None:
        """Retention has passed every entry up to `floor`."""
        self._answers.floor = floor

    def forget(self) -> None:
        """What is in memory may not be shown any more."""
        self._recent.forget()

    def _begin(self, epoch: str, floor: int, newest: int) -> None:
        self._answers.epoch, self._answers.floor = epoch, floor
        self._standing.begin_anew(
            newest, (one for _, audience in self._members.all() for one in audience)
        )
        self._recent.start(newest)

    def _cursor(self, position: int | None) -> Cursor | None:
        return None if position is None else self._answers.cursor(position)
