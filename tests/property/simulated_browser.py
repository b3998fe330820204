"""A browser that knows the journal, and finds every step that leaves something out.

It keeps a cursor for each channel as the shipped client does, comes back with
it, and holds each message against what the journal had.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from support.raw import cut_frames

from bridge.clients.outlet import Outlet, OutletOptions
from bridge.core.conversation import Conversation
from bridge.core.service import Service
from bridge.values.cursor import Cursor, parse_cursor
from bridge.values.errors import CloseCode
from bridge.wire import native
from property.simulated_socket import SimulatedSocket

PLAIN = "plain"
"""The channel that is not durable; its payloads count 1, 2, 3 ..."""


class Truth(Protocol):
    """What there was to receive."""

    plain: int
    """The last payload of the plain channel."""

    def between(self, channel: str, after: Cursor, upto: Cursor) -> list[int]:
        """Return the positions of a channel's entries after one, up to another."""


@dataclass
class Kept:
    """What a page knows of a durable channel.

    Attributes:
        cursor: it has everything up to here.
        gap_due: `subscribed` has said that something may be missing.
    """

    cursor: Cursor
    gap_due: bool = False


@dataclass
class Counted:
    """What a page knows of the plain channel.

    Attributes:
        last: the last payload; None: after a gap.
    """

    last: int | None


class SimulatedBrowser:
    """A page with several channels on one connection.

    Args:
        buffer_bytes: of the socket.
    """

    def __init__(
        self, truth: Truth, service: Service, buffer_bytes: int, backlog_bytes: int
    ) -> None:
        self._truth = truth
        self._service = service
        self._buffer_bytes = buffer_bytes
        self._options = OutletOptions(backlog_bytes, write_timeout=30.0)
        #: Of the channels that it wants: the cursor, None before the first.
        self.wanted: dict[str, Cursor | None] = {}
        self._ids = 0
        #: Durable entries and plain payloads that came, over all connections.
        self.received = 0
        self.connect()

    # What the page does.

    def connect(self) -> None:
        """Connect, and ask for every channel again."""
        self.gone = False
        self.socket = SimulatedSocket(self._buffer_bytes)
        self._rest = b""
        self._known: dict[str, Kept | Counted] = {}
        #: What was asked and not answered: by id, type, channel and cursor, and
        #: the last payload of the plain channel at that moment.
        self._asked: dict[int, tuple[str, str, Cursor | None, int]] = {}
        self._conversation = Conversation(
            self._service,
            identity=None,
            codec=native,
            outlet=Outlet(self.socket, self._options, self._failed),  # type: ignore[arg-type]
            close=self._closed,
            set_alarm=lambda seconds: None,
        )
        self._conversation.open(())
        for channel in self.wanted:
            self._ask(channel)

    def reconnect(self) -> None:
        """Leave at once, with what stands in the buffer unread."""
        self._conversation.end()
        self.connect()

    def subscribe(self, channel: str) -> None:
        """Ask for a channel, or ask again."""
        self.wanted.setdefault(channel, None)
        self._ask(channel)

    def unsubscribe(self, channel: str) -> None:
        """Give a channel up; its cursor is kept."""
        if channel in self.wanted:
            self._request("unsubscribe", channel)

    def heartbeat(self) -> None:
        """Let the server's sweep come by."""
        if not self.gone:
            self._conversation._outlet.write(self._conversation.heartbeat())

    def read(self, size: int) -> None:
        """Read so many bytes, and handle the messages that are whole."""
        frames, self._rest = cut_frames(self._rest + self.socket.read(size))
        for _, payload in frames:
            self._handle(json.loads(payload))

    @property
    def waiting(self) -> bool:
        """Whether something waits to be read."""
        return bool(self.socket.buffer)

    def check_end(self, newest: Cursor) -> None:
        """Everything has been read: nothing may be missing."""
        assert not self._asked, "requests without an answer"
        for channel, known in self._known.items():
            if isinstance(known, Kept):
                self._promise(channel, known, newest)
            else:
                assert known.last in (None, self._truth.plain)

    # Its requests.

    def _ask(self, channel: str) -> None:
        cursor = self.wanted[channel]
        if channel == PLAIN or cursor is None:
            self._request("subscribe", channel)
        else:
            self._request("subscribe", channel, cursor)

    def _request(self, kind: str, channel: str, cursor: Cursor | None = None) -> None:
        if self.gone:
            return
        self._ids += 1
        self._asked[self._ids] = (kind, channel, cursor, self._truth.plain)
        request: dict[str, Any] = {"type": kind, "channel": channel, "id": self._ids}
        if cursor is not None:
            request["cursor"] = str(cursor)
        self._conversation.receive(json.dumps(request))

    def _failed(self, code: CloseCode | None) -> None:
        self._closed(code or CloseCode.INTERNAL, "")

    def _closed(self, code: CloseCode, reason: str) -> None:
        assert code == CloseCode.SLOW, (code, reason)
        self.gone = True
        self._conversation.end()

    # What it is told.

    def _handle(self, message: dict[str, Any]) -> None:
        handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "welcome": _ignore,
            "interrupted": _ignore,
            "restored": _ignore,
            "subscribed": self._subscribed,
            "unsubscribed": self._unsubscribed,
            "error": self._error,
            "notification": self._notification,
            "gap": self._gap,
            "heartbeat": self._heartbeat,
        }
        handlers[message["type"]](message)

    def _answered(
        self, message: dict[str, Any], kind: str
    ) -> tuple[Cursor | None, int]:
        asked, channel, cursor, plain = self._asked.pop(message["id"])
        assert (asked, channel) == (kind, message["channel"])
        return cursor, plain

    def _subscribed(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        given, plain = self._answered(message, "subscribe")
        known = self._known.get(channel)
        if channel == PLAIN:
            if known is None:
                self._known[channel] = Counted(plain)
        elif known is not None:
            assert isinstance(known, Kept)
            if "cursor" in message:
                self._promise(channel, known, parse_cursor(message["cursor"]))
        else:
            begin = parse_cursor(message["cursor"])
            self._known[channel] = Kept(begin, not message["resumed"] and bool(given))
            if message["resumed"]:
                assert begin == given
            self.wanted[channel] = begin

    def _unsubscribed(self, message: dict[str, Any]) -> None:
        self._answered(message, "unsubscribe")
        self._known.pop(message["channel"], None)

    def _error(self, message: dict[str, Any]) -> None:
        self._answered(message, "subscribe")
        assert message["code"] == "unavailable"

    def _notification(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        known = self._known[channel]
        self.received += 1
        if isinstance(known, Counted):
            number = int(message["text"])
            assert known.last in (None, number - 1), f"{known.last}, then {number}"
            known.last = number
            return
        assert not known.gap_due
        cursor = parse_cursor(message["cursor"])
        assert cursor.epoch == known.cursor.epoch
        assert cursor.position > known.cursor.position, f"{known.cursor}, then {cursor}"
        missing = self._truth.between(channel, known.cursor, cursor)[:-1]
        assert not missing, f"{channel}: {known.cursor}, then {cursor}: no {missing}"
        assert message["text"] == f"{channel} {cursor}"
        known.cursor = self.wanted[channel] = cursor

    def _gap(self, message: dict[str, Any]) -> None:
        known = self._known[message["channel"]]
        if isinstance(known, Counted):
            known.last = None
            return
        assert message["reason"] in ("expired", "epoch_changed")
        known.gap_due = False
        cursor = parse_cursor(message["cursor"])
        assert (
            cursor.epoch != known.cursor.epoch
            or cursor.position >= known.cursor.position
        )
        known.cursor = self.wanted[message["channel"]] = cursor

    def _heartbeat(self, message: dict[str, Any]) -> None:
        if "cursor" in message:
            for channel, known in self._known.items():
                if isinstance(known, Kept):
                    self._promise(channel, known, parse_cursor(message["cursor"]))

    def _promise(self, channel: str, known: Kept, cursor: Cursor) -> None:
        """It was said that everything up to a cursor has come."""
        assert not known.gap_due
        assert cursor.epoch == known.cursor.epoch
        assert cursor.position >= known.cursor.position, f"{known.cursor} > {cursor}"
        missing = self._truth.between(channel, known.cursor, cursor)
        assert not missing, f"{channel}: {known.cursor}, said {cursor}: no {missing}"
        known.cursor = self.wanted[channel] = cursor


def _ignore(message: dict[str, Any]) -> None:
    """Says nothing of a position."""
