"""The values that travel: batches from PostgreSQL, messages to and from clients.

Each class is one row of docs/protocol.md. How a message looks on a wire is
that wire's business (`bridge.wire`).
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.values.errors import ClientError

__all__ = [
    "Authenticate",
    "Authenticated",
    "Batch",
    "Bye",
    "Error",
    "Gap",
    "Heartbeat",
    "Id",
    "Interrupted",
    "Ping",
    "Pong",
    "Request",
    "Restored",
    "ServerMessage",
    "Subscribe",
    "Subscribed",
    "Unsubscribe",
    "Unsubscribed",
    "Welcome",
    "error_message",
]

Id = str | int


# Client to server.


@dataclass(frozen=True, slots=True)
class Subscribe:
    channel: str
    cursor: str | None = None
    resume: bool = False
    id: Id | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channel: str
    id: Id | None = None


@dataclass(frozen=True, slots=True)
class Authenticate:
    token: str
    id: Id | None = None

    def __repr__(self) -> str:
        return f"Authenticate(token=<{len(self.token)} characters>, id={self.id!r})"


@dataclass(frozen=True, slots=True)
class Ping:
    id: Id | None = None


Request = Subscribe | Unsubscribe | Authenticate | Ping


# Server to client. A field that is None is left out on the wire.


@dataclass(frozen=True, slots=True)
class Welcome:
    protocol: int
    heartbeat_interval: float
    max_channels: int
    authenticated: bool


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A token was accepted.

    Attributes:
        expires_in: seconds; None: it does not expire.
    """

    id: Id | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """What commits from here on is delivered.

    Attributes:
        resumed: nothing since the cursor given is missing.
        cursor: what comes after this is delivered; of durable channels. None in
            the answer to a second request: the client has the right one.
    """

    channel: str
    durable: bool
    resumed: bool
    id: Id | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    channel: str
    reason: str
    id: Id | None = None


@dataclass(frozen=True, slots=True)
class Interrupted:
    channel: str
    reason: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Something may be missing.

    Attributes:
        since: Unix seconds, the last moment known complete; None: unknown.
        reload_window: seconds over which clients spread their reloads.
        cursor: what comes is after this; of durable channels.
    """

    channel: str
    reason: str
    reload_window: float
    since: float | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """A durable channel's source is back, and nothing is missing."""

    channel: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life.

    Attributes:
        cursor: you have everything up to here on all your durable channels;
            None: you have none, or that cannot be said now.
    """

    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Pong:
    id: Id | None = None


@dataclass(frozen=True, slots=True)
class Error:
    code: str
    message: str
    id: Id | None = None
    channel: str | None = None
    retry_delay: float | None = None


@dataclass(frozen=True, slots=True)
class Bye:
    """The last message before a close of ours.

    Attributes:
        reconnect_delay: seconds after which the client should come back.
    """

    reason: str
    reconnect_delay: float


def error_message(error: ClientError, *, id: Id | None, channel: str | None) -> Error:
    """Say `error` as the answer to a request."""
    return Error(error.code, error.message, id, channel, error.retry_delay)


ServerMessage = (
    Welcome
    | Authenticated
    | Subscribed
    | Unsubscribed
    | Interrupted
    | Gap
    | Restored
    | Heartbeat
    | Pong
    | Error
    | Bye
)


# From PostgreSQL.


@dataclass(frozen=True, slots=True)
class Batch:
    """Notifications of one channel that came together, oldest first.

    Attributes:
        payloads: the text of each, as PostgreSQL delivered it; a `Gap` where
            the journal has one that cannot be delivered.
        cursors: of each, when they come from the journal; else None.
        pid: the backend that sent the last one; None: unknown.
        complete_until: Unix seconds; what had committed by then came earlier.
            None: unknown, or they come from the journal.
    """

    channel: str
    payloads: tuple[str | Gap, ...]
    cursors: tuple[str, ...] | None = None
    pid: int | None = None
    complete_until: float | None = None
