"""One WebSocket connection: the socket, what comes and goes, its end.

Invariants: every byte after the 101 goes through the outlet; nothing here
holds the request or the environ (4 kB each); the conversation is ended before
the Close frame is written, so nothing follows it.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent

from bridge.clients.connections import Connections
from bridge.clients.outlet import Outlet, OutletOptions, Transport
from bridge.clients.reader import Reader, ReaderOptions
from bridge.core.conversation import Conversation
from bridge.core.service import Service
from bridge.values.errors import ClientError, CloseCode
from bridge.values.identity import Identity
from bridge.values.limits import Addresses
from bridge.wire import frames, native

__all__ = ["OnOpen", "WebSocketConnection", "WebSocketOptions", "opener"]

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 2.0
"""Seconds to wait for the peer's Close frame."""

MISSED_HEARTBEATS = 2
"""Heartbeats without any byte from the peer after which it counts as gone."""

_PING = frames.encode_ping()

OnOpen = Callable[[Transport, bytes], None]
"""Takes over a connected transport, and the bytes that came after the head."""


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """What all connections of a worker share.

    Attributes:
        send_buffer_bytes: the kernel's send buffer; 0: the system's default.
    """

    service: Service
    connections: Connections
    addresses: Addresses
    outlet: OutletOptions
    reader: ReaderOptions
    send_buffer_bytes: int


def opener(
    options: WebSocketOptions,
    *,
    channels: Sequence[str],
    cursor: str | None,
    identity: Identity | None,
    refusal: ClientError | None,
    address: str,
) -> OnOpen:
    """Return what takes the socket over once the 101 is written.

    Args:
        channels: those of the URL.
        cursor: the one that the client gave for them.
        refusal: why the client is told to leave at once; None: it may stay.
        address: the client's; "" when unknown.
    """

    def open(transport: Transport, early: bytes) -> None:
        size = options.send_buffer_bytes
        if size:
            transport.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        connection = WebSocketConnection(options, transport, identity, address)
        if refusal is not None:
            connection.refuse(refusal)
        else:
            connection.open(channels, cursor, early)

    return open


class WebSocketConnection(Reader):
    """A connected browser."""

    __slots__ = (
        "_address",
        "_alarm",
        "_closing",
        "_conversation",
        "_opened_at",
        "_options",
        "_outlet",
    )

    def __init__(
        self,
        options: WebSocketOptions,
        transport: Transport,
        identity: Identity | None,
        address: str,
    ) -> None:
        super().__init__(transport, options.reader)
        self._options = options
        self._address = address
        self._opened_at = time.monotonic()
        self._outlet = Outlet(transport, options.outlet, self._cannot_write)
        self._conversation = Conversation(
            options.service,
            identity=identity,
            codec=native,
            outlet=self._outlet,
            close=self.close,
            set_alarm=self._set_alarm,
        )
        #: The timer that the conversation has set; None: none.
        self._alarm: Any = None
        #: The timer that ends the wait for the peer's Close; None before ours.
        self._closing: Any = None
        options.connections.add(self)
        options.addresses.add(address)

    def refuse(self, error: ClientError) -> None:
        """Say why the client must leave; called instead of `open`."""
        self._conversation.refuse(error)
        if not self._ended:
            self._read()

    def open(self, channels: Sequence[str], cursor: str | None, early: bytes) -> None:
        """Begin the conversation; called once, in the handshake's greenlet."""
        log.info(
            "subscriber %s opened", self._address or "-", extra={"action": "opened"}
        )
        self._guard(partial(self._conversation.open, channels, cursor=cursor))
        if not self._ended:
            self._read(early)

    # What is read.

    def _handle(self, event: frames.Event) -> None:
        match event:
            case frames.Text(data):
                self._guard(partial(self._conversation.receive, data))
            case frames.Ping(data):
                if self._closing is None:
                    self._outlet.write(frames.encode_pong(data))
            case frames.Close(code):
                # The first Close is answered, the second ends the handshake.
                if self._closing is None:
                    self._send_close(code)
                    self._half_close()
                else:
                    self._end()
            case frames.Violation(code, reason):
                self.close(code, reason)
                self._half_close()
            case frames.Binary():
                self.close(CloseCode.UNSUPPORTED_DATA, "messages must be text")

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

    # Ending.

    def beat(self) -> None:
        """Send a heartbeat, or close when the last ones were not answered."""
        if self._closing is not None:
            return
        if not self._is_read:
            self._silent = 0  # Nobody listens to it.
        if self._silent >= MISSED_HEARTBEATS:
            self.close(CloseCode.HEARTBEAT_TIMEOUT, "heartbeats not answered")
            return
        self._silent += 1
        # A message for JavaScript, which cannot see pings, and one of those.
        self._outlet.write(self._conversation.heartbeat() + _PING)

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

    def dismiss(self, code: CloseCode, reason: str, reconnect_delay: float) -> None:
        """Say `Bye`, then close."""
        self._conversation.bye(reason, reconnect_delay)
        self.close(code, reason)

    def close(self, code: CloseCode, reason: str) -> None:
        """Send a Close frame and wait a moment for the peer's."""
        if self._closing is None and not self._ended:
            self._send_close(code, reason)

    def abandon(self) -> None:
        """Close the socket at once, whatever waits."""
        self._end()

    def _send_close(self, code: int, reason: str = "") -> None:
        self._conversation.end()
        self._closing = gevent.get_hub().loop.timer(CLOSE_TIMEOUT)
        self._closing.start(self._end, update=True)
        self._outlet.write(frames.encode_close(code, reason))
        # What comes is not answered any more, and the peer's Close is behind it.
        self._lift_limit()

    def _half_close(self) -> None:
        """End our direction, so that the peer reads the Close frame.

        Closing the socket with unread bytes in it would send a reset, which
        can overtake the frame. The peer's end, or the timer, does the rest.
        """
        if not self._ended:
            self._outlet.when_idle(self._shut_down)

    def _shut_down(self) -> None:
        try:
            self._transport.shutdown(socket.SHUT_WR)
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
            self._transport.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # The peer was first.
        self._transport.close()
        gevent.spawn(
            log.info,
            "subscriber %s closed after %.1f s",
            self._address or "-",
            time.monotonic() - self._opened_at,
            extra={"action": "closed"},
        )
