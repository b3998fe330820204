"""Subscribers that write down all they are told, and come back when closed.

One thread serves all of them: hundreds cost it little, since a message is
kept as bytes and read when all is over. Each is a page with one channel. It
keeps its last cursor, or says that it had the channel before; it waits for
as long as `bye` asks, answers pings, and gives a connection up that says
nothing for two heartbeats.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from support.gunicorn import Gunicorn
from support.raw import HANDSHAKE, PONG, cut_frames, text_frame

from bridge.values.cursor import parse_cursor
from bridge.values.errors import BadCursor
from faults.account import Entry, Received, Subscribed, Told

RETRY = (0.05, 0.25)
"""Seconds until a connection that was lost is tried again."""

LOOK = 0.1
"""Seconds between two looks at who must come back."""

NOTIFICATION = b'{"type":"notification"'


class Witness:
    """One subscriber; its thread is that of `Witnesses`.

    Attributes:
        log: Unix seconds and bytes of each message but heartbeats.
        closes: Unix seconds when a connection ended that had begun.
        problems: errors that are no reason to come again.
    """

    def __init__(self, channel: str, kept: bool) -> None:
        self.channel = channel
        self.kept = kept
        self.log: list[tuple[float, bytes]] = []
        self.closes: list[float] = []
        self.problems: list[str] = []
        #: What it resumes from: the cursor of the last notification, unless
        #: something newer gave one; plain channels have none.
        self.last: bytes | None = None
        self.cursor: str | None = None
        self.subscribed = False
        self.socket: socket.socket | None = None
        #: What has arrived and is no whole frame yet.
        self.rest = b""
        #: The answer to the handshake has arrived.
        self.upgraded = False
        #: Monotonic seconds: when to connect, when something was heard last.
        self.due = 0.0
        self.heard = 0.0
        #: Seconds between two heartbeats.
        self.heartbeat = 25.0

    @property
    def port(self) -> int | None:
        """Of its end of the connection; None: it has none."""
        return None if self.socket is None else self.socket.getsockname()[1]

    def newest(self) -> float:
        """When the last event that came was published; Unix seconds."""
        for _, message in reversed(self.log):
            if message.startswith(NOTIFICATION):
                found = _event(message)
                if found is not None:
                    return found[2]
        return 0.0

    def has(self, writer: str, number: int) -> bool:
        """Whether an event is among the last that came."""
        return any(
            message.startswith(NOTIFICATION)
            and (found := _event(message)) is not None
            and found[:2] == (writer, number)
            for _, message in reversed(self.log[-100:])
        )

    def entries(self) -> list[Entry]:
        """Return what came, for the judge."""
        return list(self._entries())

    def _entries(self) -> Iterator[Entry]:
        for at, message in self.log:
            if message.startswith(NOTIFICATION):
                found = _event(message)
                if found is not None:
                    writer, number, began, position = found
                    yield Received(at, writer, number, began, position)
                continue
            said = json.loads(message)
            if said["type"] == "subscribed":
                yield Subscribed(at)
            elif said["type"] == "gap":
                yield Told(at, said.get("since"))

    # For the thread.

    def request(self) -> bytes:
        """Return the frame that subscribes."""
        fields: dict[str, Any] = {"type": "subscribe", "channel": self.channel}
        if self.last is not None:
            self.cursor = json.loads(self.last).get("cursor")
        if self.cursor is not None:
            fields["cursor"] = self.cursor
        elif self.subscribed:
            fields["resume"] = True
        return text_frame(fields)

    def hear(self, message: bytes) -> float | None:
        """Take a message; returns seconds to stay away, or None to stay."""
        now = time.time()
        if message.startswith(NOTIFICATION):
            self.log.append((now, message))
            self.last = message
            return None
        said = json.loads(message)
        kind = said["type"]
        if kind == "heartbeat":
            if self.kept and "cursor" in said:
                self.cursor, self.last = said["cursor"], None
            return None
        self.log.append((now, message))
        if kind == "welcome":
            self.heartbeat = said["heartbeat_interval"]
        elif kind == "subscribed":
            self.subscribed = True
            if self.cursor is None:
                self.cursor = said.get("cursor")
        elif kind == "gap" and "cursor" in said:
            self.cursor, self.last = said["cursor"], None
        elif kind == "bye":
            return float(said["reconnect_delay"])
        elif kind == "error":
            if "retry_delay" not in said:
                self.problems.append(message.decode())
            return float(said.get("retry_delay", 1.0))
        return None


class Witnesses:
    """The thread that serves them, until `stop`."""

    def __init__(self, server: Gunicorn) -> None:
        self._server = server
        self._selector = selectors.DefaultSelector()
        self._texts: dict[bytes, bytes] = {}
        self._chance = random.Random(0)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._new: list[Witness] = []
        self.all: list[Witness] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def add(self, channel: str, *, kept: bool) -> Witness:
        """Let one come; it is not subscribed yet."""
        witness = Witness(channel, kept)
        self.all.append(witness)
        with self._lock:
            self._new.append(witness)
        return witness

    def stop(self) -> None:
        """Close all of them. Safe to call twice."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        here: list[Witness] = []
        look = 0.0
        while not self._stop.is_set():
            for key, events in self._selector.select(0.02):
                if events & selectors.EVENT_WRITE:
                    self._greet(key.data)
                else:
                    self._read(key.data)
            now = time.monotonic()
            if now >= look or self._new:
                look = now + LOOK
                with self._lock:
                    here += self._new
                    self._new.clear()
                for witness in here:
                    self._look(witness, now)
        for witness in here:
            if witness.socket is not None:
                witness.socket.close()
        self._selector.close()

    def _look(self, witness: Witness, now: float) -> None:
        if witness.socket is None:
            if now >= witness.due:
                self._connect(witness)
        elif now > witness.heard + 2 * witness.heartbeat:
            self._leave(witness, None)

    def _connect(self, witness: Witness) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", self._server.port))
        witness.socket = sock
        witness.rest, witness.upgraded = b"", False
        witness.heard = time.monotonic()
        self._selector.register(sock, selectors.EVENT_WRITE, witness)

    def _greet(self, witness: Witness) -> None:
        """It is connected, or could not be: then the send says so."""
        assert witness.socket is not None
        try:
            witness.socket.send(HANDSHAKE.format(path="/ws").encode())
        except OSError:
            self._leave(witness, None)
            return
        self._selector.modify(witness.socket, selectors.EVENT_READ, witness)

    def _read(self, witness: Witness) -> None:
        assert witness.socket is not None
        try:
            data = witness.socket.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave(witness, None)
            return
        witness.heard = time.monotonic()
        witness.rest += data
        if not witness.upgraded:
            head, end, rest = witness.rest.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self._leave(witness, None)
                return
            witness.upgraded, witness.rest = True, rest
            self._send(witness, witness.request())
        frames, witness.rest = cut_frames(witness.rest)
        for opcode, payload in frames:
            if opcode == 0x9:
                self._send(witness, PONG)
            elif opcode == 0x8:
                self._leave(witness, None)
                return
            else:
                # One text for all that got the same.
                away = witness.hear(self._texts.setdefault(payload, payload))
                if away is not None:
                    self._leave(witness, away)
                    return

    @staticmethod
    def _send(witness: Witness, data: bytes) -> None:
        assert witness.socket is not None
        try:
            witness.socket.send(data)
        except OSError:
            pass  # the next read says it again

    def _leave(self, witness: Witness, away: float | None) -> None:
        """End a connection, and come back after so many seconds."""
        assert witness.socket is not None
        self._selector.unregister(witness.socket)
        witness.socket.close()
        witness.socket = None
        if witness.upgraded:
            witness.closes.append(time.time())
        away = self._chance.uniform(*RETRY) if away is None else away
        witness.due = time.monotonic() + away


@lru_cache(maxsize=300_000)
def _event(
    message: bytes,
) -> tuple[str, int, float, tuple[str, int] | None] | None:
    """Return writer, number, stamp and position; None: not of our writers."""
    said = json.loads(message)
    event = said.get("data")
    if not isinstance(event, dict) or "w" not in event:
        return None
    position = None
    if "cursor" in said:
        try:
            cursor = parse_cursor(said["cursor"])
        except BadCursor:
            return None
        position = (cursor.epoch, cursor.position)
    return event["w"], event["n"], event["t"], position
