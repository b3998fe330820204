"""A second parser of a client's frames, written from RFC 6455 alone.

It is slow, takes a whole stream at once and knows nothing of `bridge`. What it
says of a stream is what `bridge.wire.frames` must say, however that was cut.
"""

from __future__ import annotations

__all__ = ["events"]

Event = tuple[object, ...]

_SURROGATES = [bytes((0xED, second)) for second in range(0xA0, 0xC0)]
"""How the encoding of half a surrogate pair begins."""


class _End(Exception):
    """Nothing after this counts: a Close frame, or a violation."""

    def __init__(self, *event: object) -> None:
        self.event = event


def events(stream: bytes, limit: int) -> list[Event]:
    """Say what a stream means.

    Args:
        limit: largest message, over all its fragments.

    Returns:
        ("text", str), ("binary", bytes), ("ping", bytes), ("pong", bytes), and
        as the last one perhaps ("close", code, reason) or ("violation", code).
    """
    found: list[Event] = []
    message: bytes | None = None
    kind = ""
    try:
        while True:
            frame = _frame(stream, message, limit)
            if frame is None:
                return found
            final, opcode, payload, stream = frame
            if opcode == 9:
                found.append(("ping", payload))
            elif opcode == 10:
                found.append(("pong", payload))
            elif opcode == 8:
                _close(payload)
            else:
                if opcode:
                    message, kind = b"", {1: "text", 2: "binary"}[opcode]
                assert message is not None
                message += payload
                text = _text(message, final) if kind == "text" else ""
                if final:
                    found.append((kind, text if kind == "text" else message))
                    message = None
    except _End as end:
        return [*found, end.event]


def _frame(
    stream: bytes, message: bytes | None, limit: int
) -> tuple[bool, int, bytes, bytes] | None:
    """Take the first frame; None when it is not all there."""
    if len(stream) < 2:
        return None
    final, opcode = bool(stream[0] & 0b10000000), stream[0] & 0b1111
    length = stream[1] & 0b1111111
    if stream[0] & 0b01110000 or not stream[1] & 0b10000000:
        raise _End("violation", 1002)
    if opcode >= 8:
        if opcode > 10 or not final or length > 125:
            raise _End("violation", 1002)
    elif opcode > 2 or (opcode == 0) != (message is not None):
        raise _End("violation", 1002)
    start = 2
    if length >= 126:
        start = 4 if length == 126 else 10
        if len(stream) < start:
            return None
        fewest = 126 if length == 126 else 65536
        length = int(stream[2:start].hex(), 16)
        if length >= 2**63 or length < fewest:
            raise _End("violation", 1002)
    if opcode < 8 and len(message or b"") + length > limit:
        raise _End("violation", 1009)
    end = start + 4 + length
    if len(stream) < end:
        return None
    key, body = stream[start : start + 4], stream[start + 4 : end]
    payload = bytes(byte ^ key[index % 4] for index, byte in enumerate(body))
    return final, opcode, payload, stream[end:]


def _text(message: bytes, final: bool) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError as exc:
        # More bytes can still make a character of the last ones. Python also
        # waits for the third byte of a surrogate, which is allowed: RFC 6455
        # says that invalid text is refused, not how soon.
        surrogate = message[exc.start :] in _SURROGATES
        if not final and (exc.reason == "unexpected end of data" or surrogate):
            return ""
        raise _End("violation", 1007) from None


def _close(payload: bytes) -> None:
    if not payload:
        raise _End("close", 1005, "")
    code = payload[0] * 256 + payload[1] if len(payload) > 1 else 0
    known = set(range(1000, 1015)) - {1004, 1005, 1006}
    if code not in known and not 3000 <= code < 5000:
        raise _End("violation", 1002)
    raise _End("close", code, _text(payload[2:], final=True))
