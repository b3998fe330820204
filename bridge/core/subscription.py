"""One channel for one client: what it has been told, and what comes next.

A plain channel's subscription follows its listener::

    pending ──in_force──▶ live ◀──in_force── away
       └──────interrupted──▶ away ◀──interrupted── live

A durable one follows the journal: it is answered when its cursor was judged,
and then stands in one `Place` of `bridge.core.standing`.

Invariants: `Subscribed` is the first word about a channel except for
`Interrupted`, and is said once; every `Interrupted` is followed by exactly one
`Subscribed`, `Restored` or `Gap`; after `end` nothing is written.

Not here: who listens (hub), who is where in the journal (standing), how bytes
leave (outlet), what an entry looks like on the wire (the codec).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.values.counters import COUNTERS
from bridge.values.cursor import Cursor
from bridge.values.errors import ClientError
from bridge.values.message import (
    Batch,
    Gap,
    Id,
    ServerMessage,
    Subscribed,
    error_message,
)

__all__ = [
    "MIN_RELOAD_WINDOW",
    "Before",
    "Codec",
    "Mark",
    "Outlet",
    "Place",
    "State",
    "Subscription",
    "interrupt",
]

MIN_RELOAD_WINDOW = 1.0
"""Seconds; enough for the reloads of some hundred clients."""


class Codec(Protocol):
    """How one protocol writes messages; a module of `bridge.wire` is one."""

    @property
    def encode(self) -> Callable[[ServerMessage], bytes]:
        """Encode one message for one client."""

    @property
    def encode_batch(self) -> Callable[[Batch], list[bytes]]:
        """Encode a batch once for all clients, in chunks of whole messages."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a durable channel's subscription goes on when what follows is dropped.

    Attributes:
        era: counts, in this process, how often all subscriptions began anew; not
            the journal's epoch.
        position: it has everything up to here.
    """

    era: int
    position: int


Before = Mark | float | None
"""What a client has if a chunk is not delivered. Of a durable channel a `Mark`; of
a plain one everything until these Unix seconds, None: unknown."""


class Outlet(Protocol):
    """Where a client's bytes go. Never blocks, never raises."""

    def write(
        self,
        chunk: bytes,
        owner: Subscription | None = None,
        before: Before = None,
    ) -> None:
        """Send or keep one chunk.

        Args:
            owner: the subscription whose notifications these are. Only such
                chunks may be dropped when the client is slow; its `dropped`
                says what the client gets in their place.
            before: what the owner has without it.
        """

    @property
    def idle(self) -> bool:
        """Whether nothing waits, so that nothing can be dropped."""

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call once, when nothing waits any more; not at all if it ends."""


class State(enum.Enum):
    """Whether a source, a listener or the journal, delivers what is published.

    Of a subscription: as its client was told.
    """

    PENDING = "pending"
    LIVE = "live"
    AWAY = "away"


class Place(enum.Enum):
    """Where a durable channel's subscription stands."""

    #: Not answered yet, or ended, or being told that all begins anew.
    NOWHERE = "nowhere"
    #: It gets what the tail brings.
    LIVE = "live"
    #: It has more than the tail, and waits for it.
    AHEAD = "ahead"
    #: It is behind, and can be brought forward.
    BEHIND = "behind"
    #: It is behind, and its outlet keeps something.
    WAITING = "waiting"
    #: What brings it forward is being written.
    WRITING = "writing"


class Subscription:
    """A client's interest in one channel.

    Args:
        cursor: the client has everything up to here; None: it gave none.
        resume: the client had this channel before and may have missed
            something.
    """

    __slots__ = (
        "_answered",
        "_id",
        "active",
        "channel",
        "codec",
        "cursor",
        "follows",
        "go_back",
        "outlet",
        "place",
        "position",
        "resume",
        "state",
        "turn",
    )

    def __init__(
        self,
        channel: str,
        *,
        codec: Codec,
        outlet: Outlet,
        cursor: Cursor | None = None,
        resume: bool = False,
        id: Id | None = None,
    ) -> None:
        self.channel = channel
        self.codec = codec
        self.outlet = outlet
        self.cursor = cursor
        self.resume = resume or cursor is not None
        self.state = State.PENDING
        #: False from the moment the client left the channel.
        self.active = True
        #: What is published to its audience now is written to it.
        self.follows = True
        #: Of a durable channel; `bridge.core.standing` changes these.
        self.place = Place.NOWHERE
        #: Everything up to here was written; while live: up to the tail.
        self.position = 0
        #: When it was last brought forward: larger is later.
        self.turn = 0
        #: Takes it back to where what was dropped begins; None: it is plain.
        self.go_back: Callable[[Subscription, Sequence[Mark]], None] | None = None
        self._id = id
        #: `Subscribed` has been said.
        self._answered = False

    @property
    def durable(self) -> bool:
        """Whether it follows the journal."""
        return self.go_back is not None

    @property
    def answered(self) -> bool:
        """Whether `Subscribed` has been said."""
        return self._answered

    # Both kinds.

    def interrupted(self, notice: bytes) -> None:
        """The source is away; `notice` is the encoded `Interrupted`."""
        if self.state is not State.AWAY:
            self.state = State.AWAY
            reason = "journal_lost" if self.durable else "listener_lost"
            COUNTERS.interruptions[reason] += 1
            self.outlet.write(notice)

    def confirm(self, id: Id | None, cursor: str | None = None) -> None:
        """Say `Subscribed`; also the answer to a second request."""
        self._tell(Subscribed(self.channel, self.durable, False, id, cursor))

    def refuse(self, error: ClientError) -> None:
        """Say that the channel cannot be had; the hub has ended it."""
        self._tell(error_message(error, id=self._id, channel=self.channel))

    def dropped(self, before_each: Sequence[Before]) -> bytes:
        """The client was too slow; returns what stands in the place.

        Args:
            before_each: of the chunks that were dropped, oldest first.
        """
        if self.go_back is not None:
            self.go_back(self, [mark for mark in before_each if isinstance(mark, Mark)])
            return b""
        since = before_each[0]
        assert not isinstance(since, Mark)
        COUNTERS.gaps["slow"] += 1
        return self.codec.encode(Gap(self.channel, "slow", MIN_RELOAD_WINDOW, since))

    def end(self) -> None:
        """The client left the channel."""
        self.active = self.follows = False

    # Plain channels.

    def in_force(
        self, gap: Callable[[], bytes], reload_window: Callable[[], float]
    ) -> None:
        """The channel is listened to: what commits from now on arrives.

        Args:
            gap: gives the encoded `Gap` for a subscriber that was live before.
            reload_window: gives the seconds over which all clients reload, for
                one that comes back and whose loss the server cannot judge.
        """
        if not self._answered:
            self._answered = True
            # Nothing of a plain channel is kept, so nothing is ever resumed.
            self.confirm(self._id)
            if self.resume and self.active:
                COUNTERS.gaps["not_kept"] += 1
                self._tell(Gap(self.channel, "not_kept", reload_window()))
        elif self.state is State.AWAY:
            COUNTERS.gaps["listener_lost"] += 1
            self.outlet.write(gap())
        self.state = State.LIVE

    # Durable channels.

    def answer(self, begin: Cursor, gap: Gap | None) -> None:
        """Say `Subscribed`, and what may be missing.

        Args:
            begin: what comes after this is delivered.
            gap: why what the client asked for before that cannot be had; None:
                it can, or the client did not ask.
        """
        self._answered = True
        self.state = State.LIVE
        resumed = self.cursor is not None and gap is None
        self._tell(Subscribed(self.channel, True, resumed, self._id, str(begin)))
        if gap is not None and self.active:
            COUNTERS.gaps[gap.reason] += 1
            self._tell(gap)

    def restored(self, notice: Callable[[], bytes]) -> None:
        """The source is back; `notice` gives the encoded `Restored`."""
        if self.state is State.AWAY:
            self.state = State.LIVE
            self.outlet.write(notice())

    def reset(self, gap: bytes) -> None:
        """What was missed cannot be had; `gap` is the encoded `Gap`."""
        self.state = State.LIVE
        self.outlet.write(gap)

    def _tell(self, message: ServerMessage) -> None:
        self.outlet.write(self.codec.encode(message))


def interrupt(subscription: Subscription, notice: Callable[[], bytes]) -> None:
    """Say that the source is away; `notice` gives the encoded `Interrupted`."""
    subscription.interrupted(notice())
