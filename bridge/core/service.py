"""What the conversations of a worker have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.core.hub import Hub
from bridge.core.subscription import Codec
from bridge.values.identity import Identity
from bridge.values.limits import Rate
from bridge.values.message import Request

__all__ = ["Access", "ClientCodec", "Service"]


class Access(Protocol):
    """Decides who a client is and what it may have. May block."""

    @property
    def takes_tokens(self) -> bool:
        """Whether `authenticate` can succeed."""

    def authenticate(self, token: str) -> Identity:
        """Tell whose token it is.

        Raises:
            TokenInvalid, TokenExpired: it is no good.
            Unavailable: nobody can say now.
        """

    def is_public(self, channel: str) -> bool:
        """Tell whether everybody may have the channel. Does not block."""

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        """Tell whether a client may have the channel.

        Raises:
            Unavailable: nobody can say now.
        """


class ClientCodec(Codec, Protocol):
    """A codec that also reads what clients say."""

    @property
    def decode(self) -> Callable[[str], Request]:
        """Read one request. Raises `BadMessage`."""

    @property
    def PROTOCOL(self) -> int:
        """The protocol's number, said in `Welcome`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What all conversations of a worker share.

    Attributes:
        access: asks the policy.
        heartbeat_interval: seconds between two heartbeats.
        max_channels: subscriptions of one client.
        subscribe_rate: subscribes of one client.
        max_errors: mistakes of one client before it is sent away; 0: any number.
        authenticate_timeout: seconds that the channels of a URL wait for a token.
        clock: monotonic seconds.
    """

    hub: Hub
    access: Access
    heartbeat_interval: float
    max_channels: int
    subscribe_rate: Rate
    max_errors: int
    authenticate_timeout: float
    clock: Callable[[], float] = time.monotonic
