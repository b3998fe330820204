"""RFC 6455 frames: encode what the server sends, decode what a client sends.

No I/O. `Decoder.feed` takes whatever a read brought and returns what became
complete. It never raises: bytes that break the protocol become one last
`Violation`, after which the decoder takes no more, so that messages which
came before it in the same read are still handled.

Invariants: a length is judged from the frame's header, before any of its
payload is kept; the decoder holds at most `max_message_bytes` of an unfinished
message and one unfinished frame of at most as much, and what it was told not
to decode yet.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from bridge.values.errors import CloseCode, ProtocolViolation

__all__ = [
    "Binary",
    "Close",
    "Decoder",
    "Event",
    "Ping",
    "Pong",
    "Text",
    "Violation",
    "encode_close",
    "encode_ping",
    "encode_pong",
    "encode_text",
]

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FIN = 0x80
_MASKED = 0x80
_MAX_CONTROL_BYTES = 125

NO_STATUS = 1005
"""What a Close frame without a code means (RFC 6455, 7.4.1); never sent."""

_UTF8 = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Text:
    """A whole text message."""

    data: str


@dataclass(frozen=True, slots=True)
class Binary:
    """A whole binary message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping, to be answered with a pong of the same payload."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong, asked for or not."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer's Close frame; nothing it sends afterwards counts."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol; close with this code and reason."""

    close_code: CloseCode
    reason: str


Event = Text | Binary | Ping | Pong | Close | Violation


# Encoding. Server frames are never masked and never fragmented.


def _encode(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= _MAX_CONTROL_BYTES:
        return bytes((_FIN | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((_FIN | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_FIN | opcode, 127)) + size.to_bytes(8, "big") + payload


def encode_text(payload: bytes) -> bytes:
    """Encode one text message; `payload` is UTF-8."""
    return _encode(_TEXT, payload)


def encode_ping(payload: bytes = b"") -> bytes:
    """Encode a ping; `payload` has at most 125 bytes."""
    return _encode(_PING, payload)


def encode_pong(payload: bytes) -> bytes:
    """Encode the answer to a ping."""
    return _encode(_PONG, payload)


def encode_close(code: int, reason: str = "") -> bytes:
    """Encode a Close frame; `reason` is cut at a character to 123 bytes."""
    if code == NO_STATUS:
        return _encode(_CLOSE, b"")
    text = reason.encode()[: _MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return _encode(_CLOSE, code.to_bytes(2, "big") + text)


# Decoding.


class Decoder:
    """What a client sends, as events. One instance a connection.

    Args:
        max_message_bytes: largest message taken, over all its fragments.
    """

    __slots__ = ("_buffer", "_ended", "_max", "_message", "_utf8", "frames")

    def __init__(self, max_message_bytes: int) -> None:
        self._max = max_message_bytes
        #: Bytes of a frame that is not complete, or not to be decoded yet.
        self._buffer = b""
        #: What has come of a fragmented message; None between such messages.
        self._message: bytearray | None = None
        #: Checks a fragmented text as it comes; None for a binary one.
        self._utf8: codecs.IncrementalDecoder | None = None
        #: After a Close frame or a violation: nothing more is read.
        self._ended = False
        #: Frames that the last call has decoded; more than its events when a
        #: message came in fragments.
        self.frames = 0

    def feed(self, data: bytes, most: int | None = None) -> list[Event]:
        """Take bytes as they came and return what they completed, in order.

        Args:
            most: frames to decode, at most; the bytes of others wait for the
                next call. None: all of them.
        """
        events: list[Event] = []
        self.frames = 0
        buffer = self._buffer + data if self._buffer else data
        position = 0
        try:
            while not self._ended and (most is None or self.frames < most):
                frame = self._frame(buffer, position)
                if frame is None:
                    break
                self.frames += 1
                first, payload, position = frame
                event = self._event(first, payload)
                if event is not None:
                    events.append(event)
                    self._ended = isinstance(event, Close)
        except ProtocolViolation as violation:
            events.append(Violation(violation.close_code, violation.reason))
            self._ended = True
        self._buffer = b"" if self._ended else buffer[position:]
        return events

    def _frame(self, buffer: bytes, start: int) -> tuple[int, bytes, int] | None:
        """Cut one frame: its first byte, its payload, where the next begins.

        Returns None while the frame is not complete.
        """
        available = len(buffer) - start
        if available < 2:
            return None
        first, second = buffer[start], buffer[start + 1]
        _check_head(first, second, fragmented=self._message is not None)
        size = second & 0x7F
        head = 2
        if size > _MAX_CONTROL_BYTES:
            head = 4 if size == 126 else 10
            if available < head:
                return None
            size = _long_size(buffer[start + 2 : start + head])
        before = len(self._message) if self._message is not None else 0
        if not first & 0x08 and before + size > self._max:
            raise ProtocolViolation(
                CloseCode.TOO_BIG, f"message exceeds {self._max} bytes"
            )
        body = start + head + 4
        if len(buffer) < body + size:
            return None
        return (
            first,
            _unmask(buffer[body - 4 : body], buffer[body : body + size]),
            (body + size),
        )

    def _event(self, first: int, payload: bytes) -> Event | None:
        opcode = first & 0x0F
        if opcode == _PING:
            return Ping(payload)
        if opcode == _PONG:
            return Pong(payload)
        if opcode == _CLOSE:
            return _close(payload)
        if first & _FIN and self._message is None:
            return Text(_decode(payload)) if opcode == _TEXT else Binary(payload)
        return self._fragment(opcode, bool(first & _FIN), payload)

    def _fragment(self, opcode: int, final: bool, payload: bytes) -> Event | None:
        if self._message is None:
            self._message = bytearray()
            self._utf8 = _UTF8() if opcode == _TEXT else None
        self._message += payload
        if self._utf8 is not None:
            # Invalid text is told at once, not when the last fragment comes.
            _decode(payload, self._utf8, final)
        if not final:
            return None
        whole = bytes(self._message)
        event = Binary(whole) if self._utf8 is None else Text(_decode(whole))
        self._message, self._utf8 = None, None
        return event


def _check_head(first: int, second: int, *, fragmented: bool) -> None:
    """Judge a frame by its first two bytes (RFC 6455, 5.2, 5.4 and 5.5)."""
    opcode = first & 0x0F
    if first & 0x70:
        raise _error("reserved bit set")
    if not second & _MASKED:
        raise _error("frame is not masked")
    if opcode in (_CLOSE, _PING, _PONG):
        if not first & _FIN:
            raise _error("control frame is fragmented")
        if second & 0x7F > _MAX_CONTROL_BYTES:
            raise _error("control frame exceeds 125 bytes")
    elif opcode == _CONTINUATION:
        if not fragmented:
            raise _error("continuation without a message to continue")
    elif opcode in (_TEXT, _BINARY):
        if fragmented:
            raise _error("new message inside a fragmented one")
    else:
        raise _error(f"reserved opcode {opcode:#x}")


def _long_size(field: bytes) -> int:
    size = int.from_bytes(field, "big")
    if size >> 63:
        raise _error("length has its highest bit set")
    if size <= _MAX_CONTROL_BYTES or (len(field) == 8 and size < 1 << 16):
        raise _error("length is not written in the fewest bytes")
    return size


def _unmask(key: bytes, payload: bytes) -> bytes:
    """XOR as one large integer: far faster than a loop over bytes."""
    size = len(payload)
    mask = (key * (size // 4 + 1))[:size]
    value = int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")
    return value.to_bytes(size, "little")


def _decode(
    payload: bytes,
    decoder: codecs.IncrementalDecoder | None = None,
    final: bool = True,
) -> str:
    try:
        return decoder.decode(payload, final) if decoder else payload.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(
            CloseCode.INVALID_DATA, "text is not valid UTF-8"
        ) from None


def _close(payload: bytes) -> Close:
    if not payload:
        return Close(NO_STATUS, "")
    if len(payload) == 1:
        raise _error("close code is cut off")
    code = int.from_bytes(payload[:2], "big")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise _error(f"close code {code} is not valid")
    return Close(code, _decode(payload[2:]))


def _error(reason: str) -> ProtocolViolation:
    return ProtocolViolation(CloseCode.PROTOCOL_ERROR, reason)
