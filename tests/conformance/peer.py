"""A WebSocket client that sends any bytes and forgives nothing.

Every frame of the server is held to RFC 6455 and to docs/protocol.md: final,
not masked, no reserved bit, its length in the fewest bytes, text a JSON object
with a `type`. Heartbeats may come at any time and are left out.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

__all__ = ["OPCODES", "PATIENCE", "Frame", "Peer", "Response", "encode"]

PATIENCE = 10.0
"""Seconds to wait for what must come; nothing waits longer than it must."""

PAUSE = 0.001
"""Seconds between two pieces, so that most arrive as reads of their own."""

OPCODES = {
    "continuation": 0x0,
    "text": 0x1,
    "binary": 0x2,
    "close": 0x8,
    "ping": 0x9,
    "pong": 0xA,
}
_NAMES = {opcode: name for name, opcode in OPCODES.items()}


def encode(
    opcode: int,
    payload: bytes = b"",
    *,
    first_bits: int = 0x80,
    key: bytes | None = b"\x37\xfa\x21\x3d",
    announced: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """Encode a client's frame, well formed or not.

    Args:
        first_bits: FIN and the reserved bits.
        key: None leaves the frame unmasked.
        announced: the length in the head; default: that of `payload`.
        length_bytes: 0, 2 or 8 for the extended length; default: the fewest.
    """
    size = len(payload) if announced is None else announced
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 1 << 16 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([first_bits | opcode, short | (0 if key is None else 0x80)])
    if length_bytes:
        head += size.to_bytes(length_bytes, "big")
    if key is None:
        return head + payload
    mask = (key * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + key + masked.to_bytes(len(payload), "big")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of the server's."""

    kind: str
    payload: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The message in a text frame."""
        assert self.kind == "text", f"a text frame was expected, not {self}"
        message = json.loads(self.payload)
        assert isinstance(message, dict) and "type" in message, self
        return message

    def __str__(self) -> str:
        shown = repr(self.payload[:200])
        if self.kind == "close" and len(self.payload) >= 2:
            code = int.from_bytes(self.payload[:2], "big")
            shown = f"{code} {self.payload[2:]!r}"
        return f"{self.kind} {shown}"


@dataclass(frozen=True, slots=True)
class Response:
    """The head and body of an HTTP response."""

    status: int
    #: By lower-case name; a name that came twice is an error.
    headers: dict[str, str]
    body: bytes


class Peer:
    """One connection to the server."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        #: What has been received and not been looked at.
        self._buffer = b""
        #: The server's side has ended.
        self._ended = False
        #: The last HTTP response said that the connection ends.
        self.closing = False

    # Out.

    def send(self, data: bytes, piece: int = 0) -> None:
        """Send `data`, in pieces of so many bytes; 0: at once."""
        self._socket.settimeout(PATIENCE)
        step = piece or len(data) or 1
        for start in range(0, len(data), step):
            self._socket.sendall(data[start : start + step])
            if piece:
                time.sleep(PAUSE)

    def finish(self) -> None:
        """Send nothing more."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave so that the server's system says `connection reset`."""
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    # In.

    def frame(self) -> Frame:
        """Return the server's next frame."""
        deadline = time.monotonic() + PATIENCE
        while True:
            frame = self._frame(deadline)
            if not _is_heartbeat(frame):
                return frame
            ping = self._frame(deadline)
            assert ping == Frame("ping", b""), f"a ping was expected, not {ping}"

    def end(self, within: float) -> None:
        """Wait for the end of the server's side; nothing may come before."""
        deadline = time.monotonic() + within
        while self._fill(deadline):
            # A heartbeat may stand before the end, nothing else.
            while self._buffer:
                frame = self._frame(deadline)
                beat = _is_heartbeat(frame) or frame == Frame("ping", b"")
                assert beat, f"the end was expected, not {frame}"

    def gone(self, within: float) -> None:
        """Send bytes until the system says that nobody takes them."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                self._socket.sendall(b"\x00")
            except (BrokenPipeError, ConnectionResetError):
                return
            time.sleep(0.02)
        raise AssertionError(f"the server still takes bytes after {within} s")

    def response(self) -> Response:
        """Return the server's next HTTP response."""
        deadline = time.monotonic() + PATIENCE
        while b"\r\n\r\n" not in self._buffer:
            self._need(deadline, "an HTTP response")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        version, status, reason = first.split(" ", 2)
        assert (version, bool(reason)) == ("HTTP/1.1", True), first
        headers: dict[str, str] = {}
        for line in lines:
            name, value = line.split(": ", 1)
            assert name.lower() not in headers, f"{name} stands twice"
            headers[name.lower()] = value
        self.closing = headers.get("connection", "").lower() == "close"
        if status == "101":
            return Response(101, headers, b"")
        size = int(headers["content-length"])
        while len(self._buffer) < size:
            self._need(deadline, "the rest of a body")
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return Response(int(status), headers, body)

    def _frame(self, deadline: float) -> Frame:
        first, second = self._take(2, deadline)
        kind = _NAMES.get(first & 0x0F)
        assert first & 0xF0 == 0x80, f"first byte {first:#x}: FIN alone was expected"
        assert kind not in (None, "continuation"), f"opcode of first byte {first:#x}"
        assert not second & 0x80, "the server masks"
        size = second
        if second > 125:
            size = int.from_bytes(
                self._take(2 if second == 126 else 8, deadline), "big"
            )
            least = 126 if second == 126 else 1 << 16
            assert size >= least, f"{size} is not written in the fewest bytes"
        frame = Frame(str(kind), self._take(size, deadline))
        if frame.kind == "text":
            _ = frame.message
        elif frame.kind == "close" and frame.payload:
            frame.payload[2:].decode()
        return frame

    def _take(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            self._need(deadline, "a frame")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _need(self, deadline: float, what: str) -> None:
        assert self._fill(deadline), f"the connection ended where {what} was expected"

    def _fill(self, deadline: float) -> bool:
        """Receive something; False at the end."""
        if self._ended:
            return False
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            raise AssertionError("nothing came in time") from None
        self._buffer += data
        self._ended = not data
        return bool(data)


def _is_heartbeat(frame: Frame) -> bool:
    return frame.kind == "text" and frame.message["type"] == "heartbeat"
