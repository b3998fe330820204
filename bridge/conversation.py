"""One client: what it asks, who it is, what it may have.

A conversation owns the client's subscriptions and answers its requests in the
order they came. It is called by one greenlet at a time, the client's; asking
the policy may block that greenlet and no other.

Not here: bytes and sockets (clients), how access is decided (access).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from bridge.channels import check_channel
from bridge.errors import (
    BadMessage,
    ClientError,
    CloseCode,
    Forbidden,
    TokenInvalid,
    TooManyChannels,
)
from bridge.hub import Hub
from bridge.message import (
    Authenticate,
    Bye,
    Id,
    Ping,
    Pong,
    Request,
    ServerMessage,
    Subscribe,
    Unsubscribe,
    Unsubscribed,
    Welcome,
    error_message,
)
from bridge.subscription import Codec, Outlet, State, Subscription

__all__ = ["Conversation", "Identity", "Service"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, as the policy said.

    Attributes:
        subject: whose it is, for example a user's id.
        expires_at: Unix seconds; None: does not expire.
        claims: whatever the policy wants to know again later.
    """

    subject: str
    expires_at: float | None = None
    claims: object = None


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
        may_subscribe: asks the policy; may block; raises `Unavailable`.
        heartbeat_interval: seconds between two heartbeats.
        max_channels: subscriptions of one client.
        max_errors: mistakes of one client before it is sent away; 0: any number.
    """

    hub: Hub
    may_subscribe: Callable[[Identity | None, str], bool]
    heartbeat_interval: float
    max_channels: int
    max_errors: int


class Conversation:
    """One connected client.

    Args:
        close: ends the connection with a close code and a reason.
    """

    __slots__ = (
        "_close",
        "_codec",
        "_errors",
        "_outlet",
        "_service",
        "_subscriptions",
        "ended",
        "identity",
    )

    def __init__(
        self,
        service: Service,
        *,
        identity: Identity | None,
        codec: ClientCodec,
        outlet: Outlet,
        close: Callable[[CloseCode, str], None],
    ) -> None:
        self._service = service
        self.identity = identity
        self._codec = codec
        self._outlet = outlet
        self._close = close
        self._subscriptions: dict[str, Subscription] = {}
        #: Requests that could not be carried out.
        self._errors = 0
        #: Nothing is read, written or subscribed any more.
        self.ended = False

    @property
    def channels(self) -> list[str]:
        """The channels subscribed to, oldest first."""
        return list(self._subscriptions)

    def open(self, channels: Iterable[str], *, resume: bool = False) -> None:
        """Welcome the client and subscribe it to the channels of its URL."""
        self._tell(
            Welcome(
                protocol=self._codec.PROTOCOL,
                heartbeat_interval=self._service.heartbeat_interval,
                max_channels=self._service.max_channels,
                authenticated=self.identity is not None,
            )
        )
        for channel in channels:
            if self.ended:
                return
            self._answer(Subscribe(channel, resume=resume))

    def receive(self, text: str) -> None:
        """Handle one message of the client."""
        if self.ended:
            return
        try:
            request = self._codec.decode(text)
        except BadMessage as error:
            self._refuse(error, id=error.id)
        else:
            self._answer(request)

    def bye(self, reason: str, reconnect_delay: float) -> None:
        """Say the last message before a close of ours."""
        if not self.ended:
            self._tell(Bye(reason, reconnect_delay))

    def end(self) -> None:
        """The connection is over: leave every channel. Safe to call twice."""
        self.ended = True
        while self._subscriptions:
            _, subscription = self._subscriptions.popitem()
            self._service.hub.unsubscribe(subscription)

    def _answer(self, request: Request) -> None:
        channel: str | None = None
        try:
            match request:
                case Subscribe():
                    channel = request.channel
                    self._subscribe(request)
                case Unsubscribe():
                    channel = request.channel
                    self._unsubscribe(request)
                case Authenticate():
                    # No policy that takes tokens exists yet.
                    raise TokenInvalid("this server takes no tokens")
                case Ping():
                    self._tell(Pong(request.id))
        except ClientError as error:
            self._refuse(error, id=request.id, channel=channel)

    def _subscribe(self, request: Subscribe) -> None:
        channel = check_channel(request.channel)
        present = self._subscriptions.get(channel)
        if present is not None and present.active:
            if present.state is not State.LIVE:
                raise BadMessage(f"channel {channel!r} is being subscribed to")
            present.confirm(request.id)
            return
        if present is None and len(self._subscriptions) >= self._service.max_channels:
            raise TooManyChannels(
                f"at most {self._service.max_channels} channels a connection"
            )
        if not self._service.may_subscribe(self.identity, channel):
            raise Forbidden(f"channel {channel!r} is not open to you")
        # The policy may have taken seconds, and the client may have left.
        if self.ended:
            return
        subscription = Subscription(
            channel,
            codec=self._codec,
            outlet=self._outlet,
            # A cursor of a plain channel proves nothing: nothing was kept.
            resume=request.resume or request.cursor is not None,
            id=request.id,
        )
        self._subscriptions[channel] = subscription
        try:
            self._service.hub.subscribe(subscription)
        except ClientError:
            del self._subscriptions[channel]
            raise

    def _unsubscribe(self, request: Unsubscribe) -> None:
        subscription = self._subscriptions.pop(request.channel, None)
        if subscription is not None:
            self._service.hub.unsubscribe(subscription)
        self._tell(Unsubscribed(request.channel, "requested", id=request.id))

    def _refuse(
        self, error: ClientError, *, id: Id | None, channel: str | None = None
    ) -> None:
        if self.ended:
            return
        self._tell(error_message(error, id=id, channel=channel))
        # What is not the client's fault does not count against it.
        if error.retry_delay is None:
            self._errors += 1
            if self._errors == self._service.max_errors:
                self._close(CloseCode.TOO_MANY_ERRORS, "too many errors")

    def _tell(self, message: ServerMessage) -> None:
        self._outlet.write(self._codec.encode(message))
