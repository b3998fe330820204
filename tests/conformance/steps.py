"""What the lines of a case do to a connection."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any, Protocol

from conformance.peer import Frame, Peer

__all__ = [
    "KEY",
    "Close",
    "End",
    "Error",
    "Gone",
    "Leave",
    "Message",
    "Payload",
    "Refused",
    "Send",
    "Status",
    "Step",
    "Welcome",
    "request_head",
]

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The sample of RFC 6455, 1.3."""

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Step(Protocol):
    """One line of a case."""

    def play(self, peer: Peer) -> None:
        """Do it; AssertionError when the server does something else."""


# Out.


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes.

    Attributes:
        piece: bytes a write; 0: all at once.
    """

    data: bytes
    piece: int = 0

    def play(self, peer: Peer) -> None:
        peer.send(self.data, self.piece)


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave without a Close frame: by FIN, or by a reset."""

    reset: bool

    def play(self, peer: Peer) -> None:
        if self.reset:
            peer.reset()
        else:
            peer.finish()


# In.


@dataclass(frozen=True, slots=True)
class Payload:
    """A frame with exactly this payload."""

    kind: str
    payload: bytes

    def play(self, peer: Peer) -> None:
        expected, frame = Frame(self.kind, self.payload), peer.frame()
        assert frame == expected, f"{expected} was expected, not {frame}"


@dataclass(frozen=True, slots=True)
class Message:
    """A text frame with this message, however its JSON is written.

    Attributes:
        size: bytes of the payload; None: any.
    """

    message: dict[str, Any]
    size: int | None = None

    def play(self, peer: Peer) -> None:
        frame = peer.frame()
        shown = f"{json.dumps(self.message)[:200]} was expected, not {frame}"
        assert frame.message == self.message, shown
        if self.size is not None:
            size = len(frame.payload)
            assert size == self.size, f"{size} bytes came, not {self.size}"


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's first message."""

    def play(self, peer: Peer) -> None:
        frame = peer.frame()
        found = (frame.message["type"], frame.message.get("protocol"))
        assert found == ("welcome", 1), f"a welcome was expected, not {frame}"


@dataclass(frozen=True, slots=True)
class Error:
    """The message `error` with this code.

    Attributes:
        id: the request's; None: there must be none.
        size: bytes of the payload, at least; None: any.
    """

    code: str
    id: str | None
    size: int | None = None

    def play(self, peer: Peer) -> None:
        frame = peer.frame()
        message = frame.message
        found = (message["type"], message.get("code"), message.get("id"))
        expected = ("error", self.code, self.id)
        assert found == expected, f"{expected} was expected, not {frame}"
        if self.size is not None:
            assert len(frame.payload) >= self.size, f"only {len(frame.payload)} bytes"


@dataclass(frozen=True, slots=True)
class Close:
    """A Close frame.

    Attributes:
        code: None: the payload must be empty.
        reason: None: any of at most 123 bytes of UTF-8.
    """

    code: int | None
    reason: str | None

    def play(self, peer: Peer) -> None:
        frame = peer.frame()
        code = None
        if frame.payload:
            code = int.from_bytes(frame.payload[:2], "big")
        expected = "without a code" if self.code is None else self.code
        shown = f"close {expected} was expected, not {frame}"
        assert (frame.kind, code) == ("close", self.code), shown
        assert len(frame.payload) <= 125, f"{len(frame.payload)} bytes in a Close"
        if self.reason is not None:
            assert frame.payload[2:].decode() == self.reason, shown


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more, and the end of the server's side of the connection.

    Attributes:
        after: seconds before which it must not come.
        within: seconds in which it must.
    """

    within: float
    after: float = 0.0

    def play(self, peer: Peer) -> None:
        began = time.monotonic()
        peer.end(self.within)
        took = time.monotonic() - began
        assert took >= self.after, f"the end came after {took:.2f} s already"


@dataclass(frozen=True, slots=True)
class Gone:
    """The server has closed the socket: it takes no bytes any more."""

    within: float
    after: float = 0.0

    def play(self, peer: Peer) -> None:
        began = time.monotonic()
        peer.gone(self.within)
        took = time.monotonic() - began
        assert took >= self.after, f"the server was gone after {took:.2f} s already"


# HTTP.


def request_head(request: str, headers: list[tuple[str, bytes]]) -> bytes:
    """Write the head of a request; a header without a name is a whole line."""
    lines = [f"{name}: ".encode() + value if name else value for name, value in headers]
    return b"\r\n".join([request.encode(), *lines, b"", b""])


@dataclass(frozen=True, slots=True)
class Status:
    """The answer to a handshake.

    Attributes:
        key: what a 101 must prove to have read.
        headers: names and values; None: the header must not be there.
    """

    code: int
    key: str
    headers: tuple[tuple[str, str | None], ...] = ()

    def play(self, peer: Peer) -> None:
        response = peer.response()
        status, found = response.status, response.headers
        assert status == self.code, f"{status} came: {response.body!r}"
        if status == 101:
            self._check_acceptance(found)
        for name, value in self.headers:
            assert found.get(name.lower()) == value, f"{name} in {found}"

    def _check_acceptance(self, found: dict[str, str]) -> None:
        digest = hashlib.sha1((self.key + _GUID).encode()).digest()
        accept = base64.b64encode(digest).decode()
        assert found["sec-websocket-accept"] == accept, found
        assert found["upgrade"].lower() == "websocket", found
        assert found["connection"].lower() == "upgrade", found
        # No extension is known here, and a 101 has no body.
        for name in (
            "sec-websocket-extensions",
            "sec-websocket-version",
            "content-length",
            "transfer-encoding",
        ):
            assert name not in found, f"{name} in {found}"


@dataclass(frozen=True, slots=True)
class Refused:
    """What must come after a refusal.

    Either it said that the connection ends, or another request is served, and
    nothing of the refused one is left to be misread.
    """

    def play(self, peer: Peer) -> None:
        if peer.closing:
            peer.end(within=2)
        else:
            peer.send(request_head("GET /healthz HTTP/1.1", [("Host", b"a.example")]))
            assert peer.response().status == 200
