"""Which subscriptions this worker has per channel, and what they are told.

Data of plain channels comes in through `publish`, `in_force` and
`interrupted`, called by the greenlet of the one listener that owns a channel,
so that a channel's messages have one order. Durable channels follow the
journal (`bridge.core.feed`); they are listened to as well, since somebody may
publish past it. Demand goes out through two callables: `want` when the first
subscription of a channel appears, `unwant` when the last one has left.

The hub is pure: it knows no socket and no greenlet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from bridge.core.fan_out import Audience, FanOut
from bridge.core.feed import Feed
from bridge.core.subscription import MIN_RELOAD_WINDOW, State, Subscription, interrupt
from bridge.values.channels import (
    MAX_LISTEN_BYTES,
    Patterns,
    check_channel,
    not_encodable,
)
from bridge.values.counters import COUNTERS
from bridge.values.errors import ClientError, Unavailable
from bridge.values.message import Batch, Gap, Interrupted

__all__ = ["RELOADS_PER_SECOND", "Hub"]

log = logging.getLogger(__name__)

RELOADS_PER_SECOND = 100
"""How many clients of this worker may load their state a second after a gap.

A page load costs a site's database some milliseconds; a hundred a second leave
it room to answer everybody else."""

DENIED_RETRY_DELAY = 10.0
"""Seconds; somebody must run a command before asking again makes sense."""

MAX_RELOAD_WINDOW = 60.0
"""Seconds; longer than this a page with old content does more harm."""


class _Topic:
    """One channel that is listened to for subscriptions here."""

    __slots__ = ("durable", "from_journal", "plain", "since", "state")

    def __init__(self, state: State) -> None:
        self.state = state
        #: Last moment known complete before the source went away; else None.
        self.since: float | None = None
        self.plain = Audience()
        #: `plain` has been sent entries of the journal, and must be told when it
        #: begins anew.
        self.from_journal = False
        #: Those that follow the journal, and would miss what goes past it.
        self.durable = Audience()

    def audience(self, subscription: Subscription) -> Audience:
        return self.durable if subscription.durable else self.plain

    def __len__(self) -> int:
        return len(self.plain) + len(self.durable)


class Hub:
    """The subscriptions of one worker, by channel.

    Args:
        want: called with a channel that has its first subscription; returns
            whether it is listened to. Raises `ClientError` when it cannot be.
        unwant: called with a channel that has lost its last one.
        workers: how many workers this host runs; they share the reloads.
        tripwire: listen to durable channels as well.
        max_recent_bytes: entries of the journal kept in memory.
        journal_wanted: called when the journal's reader has something to do.
    """

    def __init__(
        self,
        *,
        want: Callable[[str], State],
        unwant: Callable[[str], None],
        fan_out: FanOut,
        workers: int = 1,
        tripwire: bool = True,
        max_recent_bytes: int = 0,
        journal_wanted: Callable[[], None] = lambda: None,
    ) -> None:
        self._want = want
        self._unwant = unwant
        self._fan_out = fan_out
        self._workers = workers
        self._tripwire = tripwire
        self._topics: dict[str, _Topic] = {}
        self.feed = Feed(
            fan_out,
            max_recent_bytes=max_recent_bytes,
            reload_window=self.reload_window,
            wake=journal_wanted,
        )
        #: Subscriptions of which is not known yet whether they are durable.
        self._undecided: dict[Subscription, None] = {}
        #: Tells whether the database's encoding has all characters of a name.
        self.can_encode: Callable[[str], bool] = lambda channel: True
        #: Subscriptions over all channels.
        self.subscriptions = 0
        #: Whether this worker's role may not read the journal.
        self._denied = False
        #: Durable channels that somebody published to with NOTIFY.
        self._stray_channels: set[str] = set()

    @property
    def channels(self) -> int:
        """How many channels are listened to for a subscription here."""
        return len(self._topics)

    def reload_window(self, told: int | None = None) -> float:
        """Seconds over which `told` clients (default: all) spread their reloads."""
        clients = (self.subscriptions if told is None else told) * self._workers
        window = clients / RELOADS_PER_SECOND
        return min(MAX_RELOAD_WINDOW, max(MIN_RELOAD_WINDOW, window))

    # Demand, from conversations.

    def subscribe(self, subscription: Subscription) -> None:
        """Add a subscription; it is told at once how its channel stands.

        Raises:
            ClientError: this worker cannot listen to the channel.
        """
        self.subscriptions += 1
        if self.feed.patterns is None:
            self._undecided[subscription] = None
            if self.feed.state is State.AWAY:
                self._tell_away(subscription)
            return
        try:
            self._enter(subscription)
        except ClientError:
            self.subscriptions -= 1
            raise

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription; nothing is written to it afterwards."""
        if not subscription.active:
            return
        subscription.end()
        self.subscriptions -= 1
        if subscription in self._undecided:
            del self._undecided[subscription]
            return
        if subscription.durable:
            self.feed.unsubscribe(subscription)
        topic = self._topics.get(subscription.channel)
        if topic is not None and subscription in topic.audience(subscription):
            topic.audience(subscription).remove(subscription)
            if not topic:
                del self._topics[subscription.channel]
                self._unwant(subscription.channel)

    def _enter(self, subscription: Subscription) -> None:
        channel = subscription.channel
        if self.feed.is_durable(channel):
            if not self.can_encode(channel):
                raise not_encodable(channel)
            if self._denied:
                raise _not_served(channel)
            if self._tripwire and len(channel.encode()) <= MAX_LISTEN_BYTES:
                self._listen_for_strays(subscription)
            self.feed.subscribe(subscription)
            return
        check_channel(channel)
        topic = self._topic(channel)
        topic.plain.add(subscription)
        if topic.state is State.LIVE:
            # It is new: no gap will be encoded.
            subscription.in_force(bytes, self.reload_window)
        elif topic.state is State.AWAY:
            self._tell_away(subscription)

    def _listen_for_strays(self, subscription: Subscription) -> None:
        try:
            self._topic(subscription.channel).durable.add(subscription)
        except ClientError:
            pass  # The journal does without.

    def _topic(self, channel: str) -> _Topic:
        topic = self._topics.get(channel)
        if topic is None:
            topic = self._topics[channel] = _Topic(self._want(channel))
        return topic

    @staticmethod
    def _tell_away(subscription: Subscription) -> None:
        notice = Interrupted(subscription.channel, "listener_lost")
        subscription.interrupted(subscription.codec.encode(notice))

    # Data, from the listener that owns the channels.

    def publish(self, batch: Batch) -> None:
        """Write a batch to every subscription of its channel."""
        topic = self._topics.get(batch.channel)
        if topic is None:
            return
        self._fan_out.begin()
        COUNTERS.notifications["listener"] += len(batch.payloads)
        # Not live: left over from an earlier LISTEN, with a hole behind it.
        if topic.state is State.LIVE:
            self._fan_out.publish(topic.plain, batch)
        if topic.durable:
            self._publish_strays(topic, batch)

    def in_force(self, channels: Iterable[str]) -> None:
        """The channels are listened to from now on, or again."""
        found = self._change(channels, State.LIVE)
        told = sum(len(topic.plain) for _, topic in found)
        window = self.reload_window(told)
        self._fan_out.begin()
        for channel, topic in found:
            gap = Gap(channel, "listener_lost", window, topic.since)
            topic.since = None
            self._fan_out.each(topic.plain, gap, self._now_in_force)

    def interrupted(self, channels: Iterable[str], since: float | None) -> None:
        """Nothing can arrive on the channels until `in_force`.

        Args:
            since: Unix seconds of the last moment known complete.
        """
        found = self._change(channels, State.AWAY)
        self._fan_out.begin()
        for channel, topic in found:
            topic.since = since
            notice = Interrupted(channel, "listener_lost")
            self._fan_out.each(topic.plain, notice, interrupt)

    def refuse(self, channel: str, error: ClientError) -> None:
        """The channel cannot be listened to: its subscriptions end."""
        topic = self._topics.pop(channel, None)
        if topic is not None:
            ended = list(topic.plain)
            self.subscriptions -= len(ended)
            for subscription in ended:
                subscription.end()
            for subscription in ended:
                subscription.refuse(error)

    def _now_in_force(
        self, subscription: Subscription, gap: Callable[[], bytes]
    ) -> None:
        if subscription.state is not State.LIVE:
            subscription.in_force(gap, self.reload_window)

    def _change(
        self, channels: Iterable[str], state: State
    ) -> list[tuple[str, _Topic]]:
        """Set the state of all channels first, for those who come meanwhile."""
        found = []
        for channel in channels:
            topic = self._topics.get(channel)
            if topic is not None and topic.state is not state:
                topic.state = state
                found.append((channel, topic))
        return found

    def _publish_strays(self, topic: _Topic, batch: Batch) -> None:
        """Deliver what somebody published with NOTIFY, and say so once.

        The journal does not have it.
        """
        slow = Gap(batch.channel, "slow", MIN_RELOAD_WINDOW)
        for codec, members in topic.durable.groups():
            chunks, gap = codec.encode_batch(batch), codec.encode(slow)
            for run in self._fan_out.runs(members):
                for subscription in run:
                    if subscription.active and subscription.answered:
                        # Not queued: what is dropped from a backlog is read again
                        # from the journal, which does not have this.
                        fits = subscription.outlet.idle
                        for chunk in chunks if fits else [gap]:
                            subscription.outlet.write(chunk)
        COUNTERS.strays += len(batch.payloads)
        if batch.channel not in self._stray_channels:
            self._stray_channels.add(batch.channel)
            log.warning(
                "channel %r is durable, and backend %s publishes to it with NOTIFY: "
                "that is delivered, and not kept; use bridge.publish",
                batch.channel,
                batch.pid,
                extra={"action": "stray_notification"},
            )

    # Data, from the reader of the journal.

    def know(self, patterns: Patterns) -> None:
        """Which channels are durable is known, for the first time or anew."""
        self.feed.patterns = patterns
        undecided, self._undecided = self._undecided, {}
        for subscription in undecided:
            # Writing to one may have ended its client, and others of this list.
            if not subscription.active:
                continue
            try:
                self._enter(subscription)
            except ClientError as error:
                self.subscriptions -= 1
                subscription.end()
                subscription.refuse(error)

    def journal_denied(self, denied: bool) -> None:
        """Whether the role may not read the journal: that takes a person to mend.

        Who waits for an answer is told so; who has the channel is told by
        `journal_lost`.
        """
        self._denied = denied
        for subscription in self.feed.waiting() if denied else ():
            if subscription.active:
                self.unsubscribe(subscription)
                subscription.refuse(_not_served(subscription.channel))

    def journal_lost(self) -> None:
        """The journal cannot be read."""
        self.feed.lost()
        for subscription in tuple(self._undecided):
            self._tell_away(subscription)

    def journal_began(self) -> None:
        """The journal begins anew: events before may never have come here.

        Plain subscriptions of its channels are told (durable ones are, by the
        feed): the pattern that makes a channel durable came after them, or went.
        """
        self._fan_out.begin()
        window = self.reload_window()
        for channel, topic in tuple(self._topics.items()):
            concerned = topic.from_journal or self.feed.is_durable(channel)
            if concerned and topic.state is State.LIVE:
                gap = Gap(channel, "not_kept", window)
                self._fan_out.each(topic.plain, gap, _miss)

    def wants(self, channel: str) -> bool:
        """Tell whether anybody here wants what is published to a channel."""
        return self.feed.wants(channel) or channel in self._topics

    def publish_to_plain(self, batch: Batch) -> None:
        """Write entries of the journal to those who do not follow it."""
        topic = self._topics.get(batch.channel)
        if topic is not None and topic.plain and topic.state is State.LIVE:
            topic.from_journal = True
            self._fan_out.publish(topic.plain, replace(batch, cursors=None))


def _not_served(channel: str) -> Unavailable:
    return Unavailable(
        f"channel {channel!r} is durable, and durable channels are not served now",
        retry_delay=DENIED_RETRY_DELAY,
    )


def _miss(subscription: Subscription, gap: Callable[[], bytes]) -> None:
    COUNTERS.gaps["not_kept"] += 1
    subscription.outlet.write(gap())
