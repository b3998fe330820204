"""One channel for one client: what it has been told, and what comes next.

The states of a plain channel's subscription::

    pending ──in_force──▶ live ◀──in_force── away
       └──────interrupted──▶ away ◀──interrupted── live

Invariants: `Subscribed` is the first word about a channel except for
`Interrupted`, and is said once; every `Interrupted` is followed by exactly one
`Subscribed` or `Gap`; after `end` nothing is written.

Not here: who listens (hub), how bytes leave (outlet), what an entry looks like
on the wire (the codec).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol

from bridge.errors import ClientError
from bridge.message import Batch, Gap, Id, ServerMessage, Subscribed, error_message

__all__ = ["MIN_RELOAD_WINDOW", "Codec", "Outlet", "State", "Subscription"]

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

    def write(self, chunk: bytes, owner: Subscription | None = None) -> None:
        """Send or keep one chunk.

        Args:
            owner: the subscription whose notifications these are. Only such
                chunks may be dropped when the client is slow; what the client
                then gets in their place is the owner's `slow_gap`.
        """


class State(enum.Enum):
    """What the client has been told about the channel's source."""

    PENDING = "pending"
    LIVE = "live"
    AWAY = "away"


class Subscription:
    """A client's interest in one plain channel."""

    __slots__ = (
        "_answered",
        "_id",
        "_resume",
        "active",
        "channel",
        "codec",
        "outlet",
        "state",
    )

    def __init__(
        self,
        channel: str,
        *,
        codec: Codec,
        outlet: Outlet,
        resume: bool = False,
        id: Id | None = None,
    ) -> None:
        self.channel = channel
        self.codec = codec
        self.outlet = outlet
        self.state = State.PENDING
        #: False from the moment the client left the channel.
        self.active = True
        #: The client had this channel before and may have missed something.
        self._resume = resume
        self._id = id
        #: `Subscribed` has been said.
        self._answered = False

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
            self.confirm(self._id)
            if self._resume and self.active:
                self._tell(Gap(self.channel, "not_kept", reload_window()))
        elif self.state is State.AWAY:
            self.outlet.write(gap())
        self.state = State.LIVE

    def confirm(self, id: Id | None) -> None:
        """Say `Subscribed`; also the answer to a second request."""
        # Nothing of a plain channel is kept, so nothing is ever resumed.
        self._tell(Subscribed(self.channel, durable=False, resumed=False, id=id))

    def interrupted(self, notice: bytes) -> None:
        """The source is away; `notice` is the encoded `Interrupted`."""
        if self.state is not State.AWAY:
            self.state = State.AWAY
            self.outlet.write(notice)

    def slow_gap(self, since: float) -> bytes:
        """Encode what stands in the place of dropped notifications.

        Args:
            since: Unix seconds when the first of them was to be written.
        """
        return self.codec.encode(Gap(self.channel, "slow", MIN_RELOAD_WINDOW, since))

    def refuse(self, error: ClientError) -> None:
        """Say that the channel cannot be had; the hub has ended it."""
        self._tell(error_message(error, id=self._id, channel=self.channel))

    def end(self) -> None:
        """The client left the channel."""
        self.active = False

    def _tell(self, message: ServerMessage) -> None:
        self.outlet.write(self.codec.encode(message))
