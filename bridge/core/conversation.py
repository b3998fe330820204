"""One client: what it asks, who it is, what it may have.

A conversation owns the client's subscriptions and answers its requests in the
order they came. It is called by one greenlet at a time, the client's; asking
the policy may block that greenlet and no other.

Not here: bytes and sockets (clients), how access is decided (access).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from functools import lru_cache

from bridge.core.service import ClientCodec, Service
from bridge.core.subscription import Outlet, State, Subscription
from bridge.values.channels import MAX_CHANNEL_BYTES, MAX_LISTEN_BYTES, check_channel
from bridge.values.cursor import parse_cursor
from bridge.values.errors import (
    BadMessage,
    ClientError,
    CloseCode,
    Forbidden,
    NotAuthenticated,
    RateLimited,
    TokenInvalid,
    TooManyChannels,
    Unavailable,
)
from bridge.values.identity import Identity
from bridge.values.limits import Bucket
from bridge.values.message import (
    Authenticate,
    Authenticated,
    Bye,
    Heartbeat,
    Id,
    Pong,
    Request,
    ServerMessage,
    Subscribe,
    Unsubscribe,
    Unsubscribed,
    Welcome,
    error_message,
)

__all__ = ["Conversation"]

PENDING_RETRY_DELAY = 1.0
"""Seconds; a second request for a channel whose first is not answered yet."""


class Conversation:
    """One connected client.

    Args:
        close: ends the connection with a close code and a reason.
        set_alarm: have `alarm` called once, after so many seconds, or not at
            all; replaces what was set before.
    """

    __slots__ = (
        "_bucket",
        "_close",
        "_codec",
        "_errors",
        "_outlet",
        "_service",
        "_set_alarm",
        "_subscriptions",
        "_waiting",
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
        set_alarm: Callable[[float | None], None],
    ) -> None:
        self._service = service
        self.identity = identity
        self._codec = codec
        self._outlet = outlet
        self._close = close
        self._set_alarm = set_alarm
        self._subscriptions: dict[str, Subscription] = {}
        #: Requests that could not be carried out.
        self._errors = 0
        #: What is left of the subscribe rate; None before the first one.
        self._bucket: Bucket | None = None
        #: Subscriptions of the URL that wait for a token; None: none do.
        self._waiting: list[Subscribe] | None = None
        #: Nothing is read, written or subscribed any more.
        self.ended = False

    @property
    def channels(self) -> list[str]:
        """The channels subscribed to, oldest first."""
        return [name for name, sub in self._subscriptions.items() if sub.active]

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
            # A browser has no other way to send a token than after this.
            if (
                self.identity is None
                and access.takes_tokens
                and not access.is_public(channel)
            ):
                self._wait_for_token(request)
            else:
                self._answer(request)

    def refuse(self, error: ClientError) -> None:
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
            self._refuse(error, id=error.id)
        else:
            self._answer(request)

    def heartbeat(self) -> bytes:
        """Encode a heartbeat: where the journal stands, if the client has it all."""
        cursor = self._service.hub.feed.promise_to_all(
            [sub for sub in self._subscriptions.values() if sub.durable]
        )
        return _heartbeat(self._codec.encode, None if cursor is None else str(cursor))

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
                    self._authenticate(request)
                case _:
                    self._tell(Pong(request.id))
        except ClientError as error:
            self._refuse(error, id=request.id, channel=channel)

    def _subscribe(self, request: Subscribe) -> None:
        feed = self._service.hub.feed
        durable = feed.is_durable(request.channel)
        most = MAX_LISTEN_BYTES if durable is False else MAX_CHANNEL_BYTES
        channel = check_channel(request.channel, most)
        present = self._subscriptions.get(channel)
        if present is not None and present.active:
            if present.state is not State.LIVE:
                raise Unavailable(
                    f"channel {channel!r} is not listened to yet",
                    retry_delay=PENDING_RETRY_DELAY,
                )
            promise = feed.promise(present) if present.durable else None
            present.confirm(request.id, None if promise is None else str(promise))
            return
        # A cursor of a plain channel proves nothing, whatever it says.
        given = request.cursor
        cursor = None if given is None or durable is False else parse_cursor(given)
        self._check_rate()
        if len(self._subscriptions) >= self._service.max_channels:
            self._drop_refused()
            if len(self._subscriptions) >= self._service.max_channels:
                raise self._too_many()
        access = self._service.access
        if not access.may_subscribe(self.identity, channel):
            if self.identity is None and access.takes_tokens:
                raise NotAuthenticated(f"channel {channel!r} needs a token")
            raise _not_open(channel)
        # The policy may have taken seconds, and the client may have left.
        if self.ended:
            return
        subscription = Subscription(
            channel,
            codec=self._codec,
            outlet=self._outlet,
            cursor=cursor,
            resume=request.resume or given is not None,
            id=request.id,
        )
        self._subscriptions[channel] = subscription
        try:
            self._service.hub.subscribe(subscription)
        except ClientError:
            del self._subscriptions[channel]
            raise

    def _wait_for_token(self, request: Subscribe) -> None:
        if self._waiting is None:
            self._waiting = []
            self._set_alarm(self._service.authenticate_timeout)
        if len(self._waiting) < self._service.max_channels:
            self._waiting.append(request)
        else:
            self._refuse(self._too_many(), id=None, channel=request.channel)

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

    def _leave(self, subscription: Subscription, answer: ClientError) -> bool:
        """End a subscription.

        Args:
            answer: to the request for it, if that has none yet.

        Returns:
            Whether that was said.
        """
        unanswered = subscription.active and not subscription.answered
        self._service.hub.unsubscribe(subscription)
        if unanswered:
            subscription.refuse(answer)
        return unanswered

    def _drop_refused(self) -> None:
        """Forget the subscriptions that PostgreSQL could not listen to."""
        for channel, subscription in list(self._subscriptions.items()):
            if not subscription.active:
                del self._subscriptions[channel]

    def _too_many(self) -> TooManyChannels:
        return TooManyChannels(
            f"at most {self._service.max_channels} channels a connection"
        )

    def _check_rate(self) -> None:
        rate, now = self._service.subscribe_rate, self._service.clock()
        if self._bucket is None:
            self._bucket = Bucket(rate, now)
        delay = self._bucket.take(rate, now)
        if delay:
            raise RateLimited(
                f"at most {rate.per_second:g} subscribes a second",
                retry_delay=round(delay + 0.001, 3),
            )

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
            if self._leave(subscription, error or _not_open(channel)):
                continue
            if error is None:
                self._tell(Unsubscribed(channel, "revoked"))
            else:
                self._refuse(error, id=None, channel=channel)

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


def _not_open(channel: str) -> Forbidden:
    return Forbidden(f"channel {channel!r} is not open to you")


@lru_cache(maxsize=8)
def _heartbeat(encode: Callable[[ServerMessage], bytes], cursor: str | None) -> bytes:
    """Encode once for all clients of a moment."""
    return encode(Heartbeat(cursor))
