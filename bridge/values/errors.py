"""Every error of ours, and every code a client can be told.

    BridgeError
    ├── SettingsError            start-up: which settings are wrong, all at once
    ├── ProtocolViolation        a peer's bytes break RFC 6455
    ├── ClientError              a client's request is answered with ``error``
    │   ├── BadMessage  UnknownType  BadChannel  BadCursor
    │   ├── Forbidden  NotAuthenticated  TokenInvalid  TokenExpired
    │   └── TooManyChannels  RateLimited  Unavailable
    ├── RequestRefused           an HTTP request is refused before the 101
    └── DatabaseError            PostgreSQL is away, late or said no

The code for HTTP and WebSockets only translates: ``close_code`` is the close
code for an error that ends a connection, ``http_status`` the status for one
that refuses an HTTP request.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

__all__ = [
    "BadChannel",
    "BadCursor",
    "BadMessage",
    "BridgeError",
    "ClientError",
    "CloseCode",
    "DatabaseError",
    "Forbidden",
    "NotAuthenticated",
    "ProtocolViolation",
    "RateLimited",
    "RequestRefused",
    "SettingsError",
    "TokenExpired",
    "TokenInvalid",
    "TooManyChannels",
    "Unavailable",
    "UnknownType",
]


class CloseCode(enum.IntEnum):
    """A WebSocket close code that the server sends or understands.

    Codes from 4000 are ours (RFC 6455, 7.4.2). ``reconnect`` says what the
    client does next; the shipped client's table is held equal by a test.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    OVERLOADED = 1013
    TOKEN_EXPIRED = 4001
    AUTHENTICATE_TIMEOUT = 4002
    SLOW = 4008
    HEARTBEAT_TIMEOUT = 4009
    TOO_MANY_ERRORS = 4500
    NOT_AUTHENTICATED = 4501
    FORBIDDEN = 4503
    REVOKED = 4504
    PROTOCOL_UNSUPPORTED = 4505

    @property
    def reconnect(self) -> bool:
        """Whether a client that was closed with this code should come back."""
        return self not in _FINAL


_FINAL = frozenset(
    {
        CloseCode.NORMAL,
        CloseCode.PROTOCOL_ERROR,
        CloseCode.UNSUPPORTED_DATA,
        CloseCode.INVALID_DATA,
        CloseCode.TOO_BIG,
        CloseCode.TOO_MANY_ERRORS,
        CloseCode.NOT_AUTHENTICATED,
        CloseCode.FORBIDDEN,
        CloseCode.REVOKED,
        CloseCode.PROTOCOL_UNSUPPORTED,
    }
)


class BridgeError(Exception):
    """The base of every error that pgbridge raises."""

    close_code = CloseCode.INTERNAL
    http_status = 500


class SettingsError(BridgeError):
    """One or more settings are wrong; start-up stops here.

    Args:
        problems: one sentence each; it names the variable and what to do.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class ProtocolViolation(BridgeError):
    """A peer's bytes break RFC 6455; the connection ends with `close_code`."""

    def __init__(self, close_code: CloseCode, reason: str) -> None:
        super().__init__(close_code, reason)
        self.close_code = close_code
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class ClientError(BridgeError):
    """A request of a client cannot be carried out; the connection is kept.

    Attributes:
        code: what the ``error`` message carries.
        retry_delay: seconds after which asking again makes sense; None: never.
    """

    code = "internal"
    http_status = 400

    def __init__(self, message: str, *, retry_delay: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_delay = retry_delay

    def __str__(self) -> str:
        return self.message


class BadMessage(ClientError):
    """Not a JSON object of the protocol, or a field of the wrong type.

    Attributes:
        id: the request's ``id``, when that much could be read.
    """

    code = "bad_message"

    def __init__(self, message: str, *, id: str | int | None = None) -> None:
        super().__init__(message)
        self.id = id


class UnknownType(BadMessage):
    """A well-formed message whose ``type`` this server does not know."""

    code = "unknown_type"


class BadChannel(ClientError):
    """Not a name that PostgreSQL can LISTEN to, or one that is reserved."""

    code = "bad_channel"


class BadCursor(ClientError):
    """Not a cursor that this server ever gave."""

    code = "bad_cursor"


class Forbidden(ClientError):
    """The channel is not open to this client."""

    code = "forbidden"
    close_code = CloseCode.FORBIDDEN
    http_status = 403


class NotAuthenticated(ClientError):
    """The channel is open to nobody who has not said who they are."""

    code = "not_authenticated"
    close_code = CloseCode.NOT_AUTHENTICATED
    http_status = 401


class TokenInvalid(ClientError):
    """The token says nothing that this server believes."""

    code = "token_invalid"
    close_code = CloseCode.NOT_AUTHENTICATED
    http_status = 401


class TokenExpired(ClientError):
    """The token was good once; a fresh one is needed."""

    code = "token_expired"
    close_code = CloseCode.TOKEN_EXPIRED
    http_status = 401


class TooManyChannels(ClientError):
    """The connection has as many subscriptions as it may have."""

    code = "too_many_channels"


class RateLimited(ClientError):
    """Too many requests in too short a time."""

    code = "rate_limited"


class Unavailable(ClientError):
    """Nobody can say now; asking again later makes sense."""

    code = "unavailable"
    http_status = 503


class RequestRefused(BridgeError):
    """An HTTP request is refused before anything was accepted.

    Args:
        http_status: 400, 403, 426, 501 or 503.
        message: what the client reads; no secret, no setting.
        headers: further response headers.
    """

    def __init__(
        self,
        http_status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(http_status, message)
        self.http_status = http_status
        self.message = message
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        return self.message


class DatabaseError(BridgeError):
    """PostgreSQL is away, did not answer in time, or refused."""

    http_status = 503
