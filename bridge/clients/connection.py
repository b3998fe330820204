"""One client's connection: what it is whatever the transport.

A transport is a class on top of this one. It says how it reads (`_read`), how
it says goodbye (`_say_goodbye`) and which codec its messages have; counting,
limits, log lines, the heartbeat, dismissal and the end are here.

Invariants: every byte after the response's head goes through the outlet;
nothing here holds the request or the environ (4 kB each); the conversation is
ended before the goodbye is written, so nothing follows it.
"""

from __future__ import annotations

import logging
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import gevent

from bridge.clients.connections import Connections
from bridge.clients.outlet import ClientSocket, Outlet, OutletOptions
from bridge.core.conversation import Conversation
from bridge.core.service import ClientCodec, Service
from bridge.values.errors import ClientError, CloseCode
from bridge.values.identity import Identity
from bridge.values.limits import Addresses, Rate

__all__ = [
    "CLOSE_TIMEOUT",
    "HAND_OVER",
    "Connection",
    "ConnectionOptions",
    "HandOver",
    "OnOpen",
    "ReadingOptions",
    "Visitor",
    "opener",
]

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds to wait for the peer's end after our goodbye."""

_READABLE = 1
"""libev's EV_READ."""

OnOpen = Callable[[ClientSocket, bytes], None]
"""Takes over a connected socket, and the bytes that came after the head."""

HAND_OVER = "bridge.hand_over"
"""Key in the environ, where the server is ours: a `HandOver`."""

HandOver = Callable[[int, OnOpen], None]
"""Called by a view: have the socket taken over once the head of the answer is
written, if the answer has this status."""


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How much is read of a client.

    Attributes:
        max_message_bytes: largest message taken from a client.
        rate: frames of one client: messages, fragments of messages, pings, pongs.
        dead_after: seconds; a client that is not read and whose kernel has not
            acknowledged what it was sent for so long is gone.
    """

    max_message_bytes: int
    rate: Rate
    dead_after: float
    #: The timers of those that pause now: most never do, and a field in each
    #: connection would cost all of them.
    pauses: dict[Connection, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What all connections of a worker share.

    Attributes:
        send_buffer_bytes: the kernel's send buffer; 0: the system's default.
    """

    service: Service
    connections: Connections
    addresses: Addresses
    outlet: OutletOptions
    reading: ReadingOptions
    send_buffer_bytes: int


@dataclass(frozen=True, slots=True)
class Visitor:
    """A client that has come in, and what it brought.

    Attributes:
        channels: those of the URL.
        cursor: the one that it gave for them.
        identity: who it is; None: nobody known.
        refusal: why it is told to leave at once; None: it may stay.
        address: its IP address; "" when unknown.
    """

    channels: Sequence[str]
    cursor: str | None
    identity: Identity | None
    refusal: ClientError | None
    address: str


def opener(
    transport: type[Connection], options: ConnectionOptions, visitor: Visitor
) -> OnOpen:
    """Return what makes a connection of the socket."""

    def open(client: ClientSocket, early: bytes) -> None:
        connection = transport(options, client, visitor.identity, visitor.address)
        if visitor.refusal is not None:
            connection.refuse(visitor.refusal)
        else:
            connection.open(visitor.channels, visitor.cursor, early)

    return open


class Connection(ABC):
    """A connected client.

    Args:
        identity: who it is; None: nobody known.
        address: its IP address; "" when unknown.
    """

    __slots__ = (
        "_address",
        "_alarm",
        "_closing",
        "_conversation",
        "_opened_at",
        "_options",
        "_outlet",
        "_socket",
        "_watcher",
    )

    codec: ClassVar[ClientCodec]
    """Writes the transport's messages, and reads the client's."""

    def __init__(
        self,
        options: ConnectionOptions,
        client: ClientSocket,
        identity: Identity | None,
        address: str,
    ) -> None:
        self._options = options
        self._socket = client
        self._address = address
        self._opened_at = time.monotonic()
        if options.send_buffer_bytes:
            client.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer_bytes
            )
        self._outlet = Outlet(client, options.outlet, self._cannot_write)
        self._conversation = Conversation(
            options.service,
            identity=identity,
            codec=self.codec,
            outlet=self._outlet,
            close=self.close,
            set_alarm=self._set_alarm,
        )
        #: Says when the socket can be read; None once nothing is read any more.
        self._watcher: Any = gevent.get_hub().loop.io(client.fileno(), _READABLE)
        #: The timer that the conversation has set; None: none.
        self._alarm: Any = None
        #: The timer that bounds the wait for the peer to close; None before we did.
        self._closing: Any = None
        options.connections.add(self)
        options.addresses.add(address)

    # What a transport says.

    @abstractmethod
    def _read(self, early: bytes = b"") -> None:
        """Begin to read; called once, in a greenlet, since it may block.

        Args:
            early: what has been read already.
        """

    @abstractmethod
    def _say_goodbye(self, code: int, reason: str) -> None:
        """Write the last bytes; the peer then ends the connection, or a timer."""

    # The beginning.

    def refuse(self, error: ClientError) -> None:
        """Say why the client must leave; called instead of `open`."""
        self._conversation.turn_away(error)
        if not self._ended:
            self._read()

    def open(self, channels: Sequence[str], cursor: str | None, early: bytes) -> None:
        """Begin the conversation; called once, in the request's greenlet.

        Args:
            early: what the client sent after its request.
        """
        log.info(
            "subscriber %s opened", self._address or "-", extra={"action": "opened"}
        )
        self._guard(partial(self._conversation.open, channels, cursor=cursor))
        if not self._ended:
            self._read(early)

    # While it lasts.

    def beat(self) -> None:
        """Send a heartbeat."""
        if self._closing is None:
            self._outlet.write(self._conversation.heartbeat())

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait for the client."""
        return self._outlet.backlog_bytes

    def describe(self) -> dict[str, object]:
        """Who it is, for the operator."""
        identity = self._conversation.identity
        return {
            "address": self._address,
            "subject": None if identity is None else identity.subject,
            "seconds": round(time.monotonic() - self._opened_at, 1),
            "backlog_bytes": self.backlog_bytes,
            "channels": self._conversation.channels,
        }

    def _guard(self, call: Callable[[], None]) -> None:
        """The top of the client's greenlet: no error may go unseen."""
        try:
            call()
        except Exception:
            log.exception(
                "conversation with %s failed",
                self._address or "-",
                extra={"action": "conversation_failed"},
            )
            self.close(CloseCode.INTERNAL, "internal error")

    def _set_alarm(self, seconds: float | None) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm.close()
            self._alarm = None
        if seconds is not None and not self._ended:
            self._alarm = gevent.get_hub().loop.timer(seconds)
            # The loop's own idea of now may be old: it would ring too early.
            self._alarm.start(self._conversation.alarm, update=True)

    # The end.

    @property
    def _ended(self) -> bool:
        """Whether nothing is read any more."""
        return self._watcher is None

    def dismiss(self, code: CloseCode, reason: str, reconnect_delay: float) -> None:
        """Say `Bye`, then close."""
        self._conversation.bye(reason, reconnect_delay)
        self.close(code, reason)

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye and wait a moment for the peer's end. Safe to call twice."""
        if self._closing is not None or self._ended:
            return
        self._conversation.end()
        self._closing = gevent.get_hub().loop.timer(CLOSE_TIMEOUT)
        self._closing.start(self._end, update=True)
        self._say_goodbye(code, reason)

    def abandon(self) -> None:
        """Close the socket at once, whatever waits."""
        self._end()

    def _half_close(self) -> None:
        """End our direction once everything is written.

        Closing the socket with unread bytes in it would send a reset, which
        can overtake what was written. The peer's end, or the timer, does the rest.
        """
        if not self._ended:
            self._outlet.when_idle(self._shut_down)

    def _shut_down(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._end()

    def _cannot_write(self, code: CloseCode | None) -> None:
        """The outlet gave up: nothing can be said to the client any more."""
        if code is not None:
            # Logging may block, and this may be the event loop.
            gevent.spawn(
                log.warning,
                "subscriber %s dropped: it does not read what it is sent",
                self._address or "-",
                extra={"action": "dropped_slow"},
            )
        self._end()

    def _stop_reading(self) -> None:
        """Read nothing more. Safe to call twice."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def _end(self) -> None:
        """Release everything. Safe to call twice, also from the event loop."""
        if self._ended:
            return
        self._stop_reading()
        self._conversation.end()
        self._options.connections.remove(self)
        self._outlet.stop()
        self._options.addresses.remove(self._address)
        for timer in (self._closing, self._alarm):
            if timer is not None:
                timer.stop()
                timer.close()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The peer was first.
        self._socket.close()
        gevent.spawn(
            log.info,
            "subscriber %s closed after %.1f s",
            self._address or "-",
            time.monotonic() - self._opened_at,
            extra={"action": "closed"},
        )
