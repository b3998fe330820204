"""One channel for one client: what it has been told, and what comes next.

A plain channel's subscription follows its listener::

    pending ──in_force──▶ live ◀──in_force── away
       └──────interrupted──▶ away ◀──interrupted── live

A durable one follows the journal: it is answered when its cursor was judged,
and then either live, which is where the worker's tail is, or behind at a
`position` of its own, where replay brings it forward. A client that reads too
slowly falls behind, and nothing is kept for it::

    pending ──answer──▶ live ──dropped──▶ behind ──caught_up──▶ live
                 └────▶ behind          (away is told at any time)

Invariants: `Subscribed` is the first word about a channel except for
`Interrupted`, and is said once; every `Interrupted` is followed by exactly one
`Subscribed`, `Restored` or `Gap`; after `end` nothing is written.

Not here: who listens (hub), who is where in the journal (feed), how bytes
leave (outlet), what an entry looks like on the wire (the codec).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

from bridge.counters import COUNTERS
from bridge.cursor import Cursor
from bridge.errors import ClientError
from bridge.message import (
    Batch,
    Gap,
    Id,
    ServerMessage,
    Subscribed,
    error_message,
)

__all__ = [
    "MIN_RELOAD_WINDOW",
    "Codec",
    "Outlet",
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


class Outlet(Protocol):
    """Where a client's bytes go. Never blocks, never raises."""

    def write(
        self,
        chunk: bytes,
        owner: Subscription | None = None,
        before: float | None = None,
    ) -> None:
        """Send or keep one chunk.

        Args:
            owner: the subscription whose notifications these are. Only such
                chunks may be dropped when the client is slow; its `dropped`
                says what the client gets in their place.
            before: what the client has without it: the journal up to a
                position; of a plain channel all up to Unix seconds, None:
                unknown.
        """

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call once, when nothing waits any more; not at all if it ends."""


class State(enum.Enum):
    """What the client has been told about the channel's source."""

    PENDING = "pending"
    LIVE = "live"
    AWAY = "away"


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
        "fall_behind",
        "follows",
        "outlet",
        "position",
        "resume",
        "state",
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
        #: Batches of its audience are for it.
        self.follows = True
        #: Of a durable channel, behind: everything up to here was written.
        self.position = 0
        #: Of a durable channel: takes it back to the position before what was
        #: dropped. None: the channel is plain.
        self.fall_behind: Callable[[Subscription, int], None] | None = None
        self._id = id
        #: `Subscribed` has been said.
        self._answered = False

    @property
    def durable(self) -> bool:
        """Whether it follows the journal."""
        return self.fall_behind is not None

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

    def dropped(self, before: float | None) -> bytes:
        """The client was too slow; returns what stands in the place.

        Args:
            before: of the first of what was dropped, see `Outlet.write`.
        """
        if self.fall_behind is not None:
            assert before is not None  # the journal knows
            self.fall_behind(self, int(before))
            return b""
        COUNTERS.gaps["slow"] += 1
        return self.codec.encode(Gap(self.channel, "slow", MIN_RELOAD_WINDOW, before))

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

    def answer(self, newest: Cursor, gap: Gap | None) -> None:
        """Say `Subscribed`, and what may be missing.

        Args:
            newest: where the journal stands.
            gap: why nothing before `newest` can be had; None: all of it can,
                or the client did not ask.
        """
        self._answered = True
        self.state = State.LIVE
        resumed = self.cursor is not None and gap is None
        self._tell(Subscribed(self.channel, True, resumed, self._id, str(newest)))
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
