"""What one client has: its subscriptions, under the rules for all clients.

Names, cursors, the number of channels, the rate, and the policy's word are
looked at here, whatever the transport and however the client asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from bridge.core.service import ClientCodec, Service
from bridge.core.subscription import Outlet, State, Subscription
from bridge.values.channels import MAX_CHANNEL_BYTES, MAX_LISTEN_BYTES, check_channel
from bridge.values.cursor import parse_cursor
from bridge.values.errors import (
    ClientError,
    Forbidden,
    NotAuthenticated,
    RateLimited,
    TooManyChannels,
    Unavailable,
)
from bridge.values.identity import Identity
from bridge.values.limits import Bucket
from bridge.values.message import Heartbeat, ServerMessage, Subscribe

__all__ = ["Subscriber", "not_open"]

PENDING_RETRY_DELAY = 1.0
"""Seconds; a second request for a channel whose first is not answered yet."""


class Subscriber:
    """One client's subscriptions.

    (The conversation is built on it: an object of its own would cost each idle
    connection.)
    """

    __slots__ = (
        "_bucket",
        "_codec",
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
    ) -> None:
        self._service = service
        self.identity = identity
        self._codec = codec
        self._outlet = outlet
        self._subscriptions: dict[str, Subscription] = {}
        #: What is left of the subscribe rate; None before the first one.
        self._bucket: Bucket | None = None
        #: Nothing is read, written or subscribed any more.
        self.ended = False

    @property
    def channels(self) -> list[str]:
        """The channels subscribed to, oldest first."""
        return [name for name, sub in self._subscriptions.items() if sub.active]

    def heartbeat(self) -> bytes:
        """Encode a heartbeat: where the journal stands, if the client has it all."""
        cursor = self._service.hub.feed.promise_to_all(
            [sub for sub in self._subscriptions.values() if sub.durable]
        )
        return _heartbeat(self._codec.encode, None if cursor is None else str(cursor))

    def end(self) -> None:
        """The connection is over: leave every channel. Safe to call twice."""
        self.ended = True
        while self._subscriptions:
            _, subscription = self._subscriptions.popitem()
            self._service.hub.unsubscribe(subscription)

    def _subscribe(self, request: Subscribe) -> None:
        """Carry a request out; raises `ClientError` when that cannot be done."""
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
            raise not_open(channel)
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

    def _tell(self, message: ServerMessage) -> None:
        self._outlet.write(self._codec.encode(message))


def not_open(channel: str) -> Forbidden:
    """Return the refusal of a channel that a client may not have."""
    return Forbidden(f"channel {channel!r} is not open to you")


@lru_cache(maxsize=8)
def _heartbeat(encode: Callable[[ServerMessage], bytes], cursor: str | None) -> bytes:
    """Encode once for all clients of a moment."""
    return encode(Heartbeat(cursor))
