"""One message to many subscriptions: grouped by codec, encoded once, paced.

Pure: how bytes leave is a callable, and so is `pause`, which lets other
greenlets run every few milliseconds; subscriptions may come and go meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bridge.core.subscription import Before, Codec, Mark, Subscription
from bridge.values.counters import COUNTERS
from bridge.values.message import Batch, ServerMessage

__all__ = ["Audience", "Audiences", "FanOut", "WriteAll"]

_RUN_LENGTH = 64
"""Subscriptions between two looks at the clock; a write takes microseconds."""

_MAX_SECONDS = 0.004
"""Seconds of fan-out after which other greenlets get a turn."""

Group = tuple[Codec, tuple[Subscription, ...]]

WriteAll = Callable[[Sequence[Subscription], bytes, Before], None]
"""Writes a chunk of notifications to every subscription that follows; the last
argument is the `before` of `Outlet.write`."""


class Audience:
    """The subscriptions of one channel that are told the same."""

    __slots__ = ("_groups", "_members")

    def __init__(self) -> None:
        self._members: dict[Subscription, None] = {}
        #: The same by codec; None after a change.
        self._groups: list[Group] | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(tuple(self._members))

    def __contains__(self, subscription: Subscription) -> bool:
        return subscription in self._members

    def add(self, subscription: Subscription) -> None:
        self._members[subscription] = None
        self._groups = None

    def remove(self, subscription: Subscription) -> None:
        del self._members[subscription]
        self._groups = None

    def groups(self) -> list[Group]:
        """Return the members by codec, as they are now."""
        if self._groups is None:
            by_codec: dict[Codec, list[Subscription]] = {}
            for subscription in self._members:
                by_codec.setdefault(subscription.codec, []).append(subscription)
            self._groups = [(codec, tuple(found)) for codec, found in by_codec.items()]
        return self._groups


class Audiences:
    """Audiences by channel; an empty one is none."""

    def __init__(self) -> None:
        self._by_channel: dict[str, Audience] = {}

    def __len__(self) -> int:
        """How many subscriptions there are in all."""
        return sum(map(len, self._by_channel.values()))

    def __contains__(self, subscription: Subscription) -> bool:
        return subscription in self._by_channel.get(subscription.channel, ())

    def of(self, channel: str) -> Audience | None:
        """Return a channel's audience; None: it has none."""
        return self._by_channel.get(channel)

    def all(self) -> tuple[tuple[str, Audience], ...]:
        """Return channels and audiences, as they are now."""
        return tuple(self._by_channel.items())

    def add(self, subscription: Subscription) -> None:
        self._by_channel.setdefault(subscription.channel, Audience()).add(subscription)

    def discard(self, subscription: Subscription) -> None:
        """Take a subscription out, if it is in here."""
        audience = self._by_channel.get(subscription.channel)
        if audience is not None and subscription in audience:
            audience.remove(subscription)
            if not audience:
                del self._by_channel[subscription.channel]


class FanOut:
    """Writes to audiences.

    Args:
        clock: monotonic seconds.
        pause: lets other greenlets run.
        write_all: None: one after another, with `Outlet.write`.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        pause: Callable[[], None],
        write_all: WriteAll | None = None,
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._write_all = write_all or _write_each
        self._began = clock()

    def begin(self) -> None:
        """Count from now on the time that others have had no turn."""
        self._began = self._clock()

    def breathe(self) -> None:
        """Pause when it is time."""
        if self._clock() - self._began > _MAX_SECONDS:
            self._pause()
            self._began = self._clock()

    def publish(self, audience: Audience, batch: Batch) -> None:
        """Write a batch of notifications to those who follow."""
        for codec, members in audience.groups():
            chunks = codec.encode_batch(batch)
            _count(batch, chunks, len(members))
            for run in self.runs(members):
                for chunk in chunks:
                    self._write_all(run, chunk, batch.complete_until)

    def publish_after(self, audience: Audience, batch: Batch, before: Mark) -> None:
        """Write a batch of the journal to those who follow.

        As one chunk, which is sent or dropped whole: a subscription whose chunk
        is dropped reads it again from `before`.

        Args:
            before: the position before its first entry.
        """
        for codec, members in audience.groups():
            chunk = b"".join(codec.encode_batch(batch))
            _count(batch, [chunk], len(members))
            for run in self.runs(members):
                self._write_all(run, chunk, before)

    def each(
        self,
        audience: Audience,
        message: ServerMessage,
        do: Callable[[Subscription, Callable[[], bytes]], None],
    ) -> None:
        """Do something with every active member, and a message encoded once.

        Args:
            do: gets a function that encodes `message` for this member, at its
                first call only.
        """
        for codec, members in audience.groups():
            encoded = _Once(codec, message)
            for run in self.runs(members):
                for subscription in run:
                    if subscription.active:
                        do(subscription, encoded)

    def runs(
        self, subscriptions: Sequence[Subscription]
    ) -> Iterator[Sequence[Subscription]]:
        """Cut subscriptions into runs; pause between two when it is time."""
        for start in range(0, len(subscriptions), _RUN_LENGTH):
            self.breathe()
            yield subscriptions[start : start + _RUN_LENGTH]


class _Once:
    """Encodes a message at the first call."""

    __slots__ = ("_bytes", "_codec", "_message")

    def __init__(self, codec: Codec, message: ServerMessage) -> None:
        self._codec = codec
        self._message = message
        self._bytes: bytes | None = None

    def __call__(self) -> bytes:
        if self._bytes is None:
            self._bytes = self._codec.encode(self._message)
        return self._bytes


def _count(batch: Batch, chunks: Sequence[bytes], members: int) -> None:
    COUNTERS.deliveries += len(batch.payloads) * members
    COUNTERS.delivered_bytes += sum(map(len, chunks)) * members


def _write_each(
    subscriptions: Sequence[Subscription], chunk: bytes, before: Before
) -> None:
    for subscription in subscriptions:
        if subscription.follows:
            subscription.outlet.write(chunk, subscription, before)
