"""Which subscriptions this worker has per channel; encode once, fan out.

Data comes in through `publish`, `in_force` and `interrupted`, called by the
greenlet of the one listener that owns a channel, so that a channel's messages
have one order. Demand goes out through two callables: `want` when the first
subscription of a channel appears, `unwant` when the last one has left.

The hub is pure: it knows no socket and no greenlet. `pause` is called every
few milliseconds during a large fan-out, so that other greenlets get their
turn; subscriptions may come and go meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from bridge.errors import ClientError
from bridge.message import Batch, Gap, Interrupted
from bridge.subscription import MIN_RELOAD_WINDOW, Codec, State, Subscription

__all__ = ["RELOADS_PER_SECOND", "Hub"]

RELOADS_PER_SECOND = 100
"""How many clients of this worker may load their state a second after a gap.

A page load costs a site's database some milliseconds; a hundred a second leave
it room to answer everybody else."""

MAX_RELOAD_WINDOW = 60.0
"""Seconds; longer than this a page with old content does more harm."""

_RUN_LENGTH = 64
"""Subscriptions between two looks at the clock; a write takes microseconds."""

_MAX_RUN = 0.004
"""Seconds of fan-out after which other greenlets get a turn."""

Group = tuple[Codec, tuple[Subscription, ...]]


class _Topic:
    """One channel that has subscriptions here."""

    __slots__ = ("_groups", "since", "state", "subscriptions")

    def __init__(self, state: State) -> None:
        self.state = state
        #: Last moment known complete before the source went away; else None.
        self.since: float | None = None
        self.subscriptions: dict[Subscription, None] = {}
        #: The same by codec; None after a change.
        self._groups: list[Group] | None = None

    def add(self, subscription: Subscription) -> None:
        self.subscriptions[subscription] = None
        self._groups = None

    def remove(self, subscription: Subscription) -> None:
        del self.subscriptions[subscription]
        self._groups = None

    def groups(self) -> list[Group]:
        if self._groups is None:
            by_codec: dict[Codec, list[Subscription]] = {}
            for subscription in self.subscriptions:
                by_codec.setdefault(subscription.codec, []).append(subscription)
            self._groups = [(codec, tuple(found)) for codec, found in by_codec.items()]
        return self._groups


class Hub:
    """The subscriptions of one worker, by channel.

    Args:
        want: called with a channel that has its first subscription; returns
            whether it is listened to. Raises `ClientError` when it cannot be.
        unwant: called with a channel that has lost its last one.
        pause: lets other greenlets run.
        clock: monotonic seconds.
        workers: how many workers this host runs; they share the reloads.
        write_all: writes a chunk of notifications to every subscription that
            is active; None: one after another, with `Outlet.write`.
    """

    def __init__(
        self,
        *,
        want: Callable[[str], State],
        unwant: Callable[[str], None],
        pause: Callable[[], None],
        clock: Callable[[], float],
        workers: int = 1,
        write_all: Callable[[Sequence[Subscription], bytes], None] | None = None,
    ) -> None:
        self._want = want
        self._unwant = unwant
        self._pause = pause
        self._clock = clock
        self._write_all = write_all or _write_each
        self._workers = workers
        self._topics: dict[str, _Topic] = {}
        #: Subscriptions over all channels.
        self.subscriptions = 0

    @property
    def channels(self) -> int:
        """How many channels have a subscription here."""
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
        channel = subscription.channel
        topic = self._topics.get(channel)
        if topic is None:
            topic = _Topic(self._want(channel))
            self._topics[channel] = topic
        topic.add(subscription)
        self.subscriptions += 1
        if topic.state is State.LIVE:
            subscription.in_force(bytes, self.reload_window)
        elif topic.state is State.AWAY:
            subscription.interrupted(
                subscription.codec.encode(Interrupted(channel, "listener_lost"))
            )

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription; nothing is written to it afterwards."""
        if not subscription.active:
            return
        subscription.end()
        topic = self._topics[subscription.channel]
        topic.remove(subscription)
        self.subscriptions -= 1
        if not topic.subscriptions:
            del self._topics[subscription.channel]
            self._unwant(subscription.channel)

    # Data, from the listener that owns the channels.

    def publish(self, batch: Batch) -> None:
        """Write a batch to every subscription of its channel."""
        topic = self._topics.get(batch.channel)
        # Not live: left over from an earlier LISTEN, with a hole behind it.
        if topic is None or topic.state is not State.LIVE:
            return
        pace = _Pace(self._clock, self._pause)
        for codec, subscriptions in topic.groups():
            chunks = codec.encode_batch(batch)
            for run in pace.runs(subscriptions):
                for chunk in chunks:
                    self._write_all(run, chunk)

    def in_force(self, channels: Iterable[str]) -> None:
        """The channels are listened to from now on, or again."""
        found = self._change(channels, State.LIVE)
        told = sum(len(topic.subscriptions) for _, topic in found)
        window = self.reload_window(told)
        pace = _Pace(self._clock, self._pause)
        for channel, topic in found:
            message = Gap(channel, "listener_lost", window, topic.since)
            topic.since = None
            for codec, subscriptions in topic.groups():
                gap = _once(codec, message)
                for run in pace.runs(subscriptions):
                    for subscription in run:
                        if subscription.active and subscription.state is not State.LIVE:
                            subscription.in_force(gap, self.reload_window)

    def interrupted(self, channels: Iterable[str], since: float | None) -> None:
        """Nothing can arrive on the channels until `in_force`.

        Args:
            since: Unix seconds of the last moment known complete.
        """
        found = self._change(channels, State.AWAY)
        pace = _Pace(self._clock, self._pause)
        for channel, topic in found:
            topic.since = since
            for codec, subscriptions in topic.groups():
                notice = codec.encode(Interrupted(channel, "listener_lost"))
                for run in pace.runs(subscriptions):
                    for subscription in run:
                        if subscription.active:
                            subscription.interrupted(notice)

    def refuse(self, channel: str, error: ClientError) -> None:
        """The channel cannot be listened to: its subscriptions end."""
        topic = self._topics.pop(channel, None)
        if topic is not None:
            self.subscriptions -= len(topic.subscriptions)
            for subscription in topic.subscriptions:
                subscription.end()
            for subscription in topic.subscriptions:
                subscription.refuse(error)

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


class _Pace:
    """Lets other greenlets run when a fan-out has run for long enough."""

    __slots__ = ("_began", "_clock", "_pause")

    def __init__(self, clock: Callable[[], float], pause: Callable[[], None]) -> None:
        self._clock = clock
        self._pause = pause
        self._began = clock()

    def runs(
        self, subscriptions: tuple[Subscription, ...]
    ) -> Iterator[tuple[Subscription, ...]]:
        """Cut subscriptions into runs; pause between two when it is time."""
        for start in range(0, len(subscriptions), _RUN_LENGTH):
            if self._clock() - self._began > _MAX_RUN:
                self._pause()
                self._began = self._clock()
            yield subscriptions[start : start + _RUN_LENGTH]


def _write_each(subscriptions: Sequence[Subscription], chunk: bytes) -> None:
    for subscription in subscriptions:
        if subscription.active:
            subscription.outlet.write(chunk, subscription)


def _once(codec: Codec, message: Gap) -> Callable[[], bytes]:
    """Encode at the first call only: most topics need no gap."""
    return lru_cache(maxsize=1)(lambda: codec.encode(message))
