"""One client: what it asks, who it is, and what it is told.

A conversation answers the client's requests in the order they came. It is
called by one greenlet at a time, the client's; asking the policy may block
that greenlet and no other.

Not here: bytes and sockets (clients), how access is decided (access), what may
be subscribed to (`bridge.core.subscriber`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from bridge.core.service import ClientCodec, Service
from bridge.core.subscriber import Subscriber, not_open
from bridge.core.subscription import Outlet
from bridge.values.errors import (
    BadMessage,
    ClientError,
    CloseCode,
    TokenInvalid,
    Unavailable,
)
from bridge.values.identity import Identity
from bridge.values.message import (
    Authenticate,
    Authenticated,
    Bye,
    Id,
    Pong,
    Request,
    Subscribe,
    Unsubscribe,
    Unsubscribed,
    Welcome,
    error_message,
)

__all__ = ["Conversation"]


class Conversation(Subscriber):
    """One connected client.

    Args:
        close: ends the connection with a close code and a reason.
        set_alarm: have `alarm` called once, after so many seconds, or not at
            all; replaces what was set before.
    """

    __slots__ = ("_close", "_errors", "_set_alarm", "_waiting")

    def __init__(
        self,
        service: Service,
        *,
        identity: Identity | None,
        codec: ClientCodec,
        outlet: Outlet,
        close: Callable[[CloseCode, str], None],
        set_alarm: Callable[[float | None], None],
    ) -> None:
        super().__init__(service, identity=identity, codec=codec, outlet=outlet)
        self._close = close
        self._set_alarm = set_alarm
        #: Requests that could not be carried out.
        self._errors = 0
        #: Subscriptions of the URL that wait for a token; None: none do.
        self._waiting: list[Subscribe] | None = None

    def open(self, channels: Iterable[str], *, cursor: str | None = None) -> None:
        """Welcome the client and subscribe it to the channels of its URL.

        Args:
            cursor: the one it gave for all of them.
        """
        self._welcome()
        self._watch_expiry()
        access = self._service.access
        for channel in dict.fromkeys(channels):
            if self.ended:
                return
            request = Subscribe(channel, cursor)
            # A browser can send a token only after the handshake: wait for it.
            if (
                self.identity is None
                and access.takes_tokens
                and not access.is_public(channel)
            ):
                self._wait_for_token(request)
            else:
                self._answer(request)

    def turn_away(self, error: ClientError) -> None:
        """Say why this client is not let in, and close.

        A browser cannot read the status of a refused handshake.
        """
        self._welcome()
        self._tell(error_message(error, id=None, channel=None))
        self._close(error.close_code, error.message)

    def _welcome(self) -> None:
        self._tell(
            Welcome(
                protocol=self._codec.PROTOCOL,
                heartbeat_interval=self._service.heartbeat_interval,
                max_channels=self._service.max_channels,
                authenticated=self.identity is not None,
            )
        )

    def alarm(self) -> None:
        """The time set with `set_alarm` is over."""
        if self.ended:
            return
        if self._waiting is not None:
            self.bye("authenticate_timeout", 0)
            self._close(CloseCode.AUTHENTICATE_TIMEOUT, "no token came in time")
        else:
            self.bye("token_expired", 0)
            self._close(CloseCode.TOKEN_EXPIRED, "the token has expired")

    def receive(self, text: str) -> None:
        """Handle one message of the client."""
        if self.ended:
            return
        try:
            request = self._codec.decode(text)
        except BadMessage as error:
            self._answer_error(error, id=error.id)
        else:
            self._answer(request)

    def bye(self, reason: str, reconnect_delay: float) -> None:
        """Say the last message before a close of ours."""
        if not self.ended:
            self._tell(Bye(reason, reconnect_delay))

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
                    self._authenticate(request)
                case _:
                    self._tell(Pong(request.id))
        except ClientError as error:
            self._answer_error(error, id=request.id, channel=channel)

    def _wait_for_token(self, request: Subscribe) -> None:
        if self._waiting is None:
            self._waiting = []
            self._set_alarm(self._service.authenticate_timeout)
        if len(self._waiting) < self._service.max_channels:
            self._waiting.append(request)
        else:
            self._answer_error(self._too_many(), id=None, channel=request.channel)

    def _unsubscribe(self, request: Unsubscribe) -> None:
        if self._waiting is not None:
            self._waiting = [
                waiting
                for waiting in self._waiting
                if waiting.channel != request.channel
            ]
            if not self._waiting:
                self._waiting = None
                self._set_alarm(None)
        subscription = self._subscriptions.pop(request.channel, None)
        if subscription is not None:
            left = f"channel {request.channel!r} was left before it was listened to"
            self._leave(subscription, Unavailable(left))
        self._tell(Unsubscribed(request.channel, "requested", id=request.id))

    def _authenticate(self, request: Authenticate) -> None:
        # As dear as a subscribe: every channel is asked again.
        self._check_rate()
        identity = self._service.access.authenticate(request.token)
        if self.ended:
            return
        if self.identity is not None and identity.subject != self.identity.subject:
            raise TokenInvalid("the token is another subject's")
        self.identity = identity
        expires_in = self._watch_expiry()
        self._tell(Authenticated(request.id, expires_in))
        self._ask_again()
        waiting, self._waiting = self._waiting, None
        for subscribe in waiting or ():
            if not self.ended:
                self._answer(subscribe)

    def _watch_expiry(self) -> float | None:
        """Close when the identity expires; returns the seconds until then."""
        expires_at = None if self.identity is None else self.identity.expires_at
        if self.ended or expires_at is None or not math.isfinite(expires_at):
            self._set_alarm(None)
            return None
        expires_in = max(0.0, expires_at - time.time())
        self._set_alarm(expires_in)
        return round(expires_in, 3)

    def _ask_again(self) -> None:
        """A new token may allow less: ask the policy about every channel."""
        self._drop_refused()
        for channel, subscription in list(self._subscriptions.items()):
            error: ClientError | None = None
            try:
                allowed = self._service.access.may_subscribe(self.identity, channel)
            except ClientError as exc:
                allowed, error = False, exc
            if allowed or self._subscriptions.get(channel) is not subscription:
                continue
            del self._subscriptions[channel]
            if self._leave(subscription, error or not_open(channel)):
                continue
            if error is None:
                self._tell(Unsubscribed(channel, "revoked"))
            else:
                self._answer_error(error, id=None, channel=channel)

    def _answer_error(
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
