"""The frame parser: any bytes, cut in any way.

Law: events of ours, the same ones that the reference sees in the whole stream;
and an unfinished message keeps memory in proportion to the largest one allowed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from random import Random
from typing import Any

from bridge.values.errors import CloseCode
from bridge.wire.frames import (
    Binary,
    Close,
    Decoder,
    Event,
    Ping,
    Pong,
    Text,
    Violation,
)
from fuzz import reference
from fuzz.inputs import mutate, pieces, some_bytes
from fuzz.run import Target

__all__ = ["stream", "target"]

LIMITS = (0, 1, 125, 126, 300, 2000)
"""Largest messages; small, so that inputs reach them."""

MAX_HELD_FACTOR = 3
"""Bytes kept for each byte of the largest message: it, one frame that is not
complete, and room to grow."""

MAX_HELD = 1024
"""Bytes kept beside them, however many fragments there were."""

_KEYS = (b"\x00\x00\x00\x00", b"\x37\xfa\x21\x3d", b"\xff\xff\xff\xff")
_LENGTHS = (0, 1, 2, 124, 125, 126, 127, 128, 299, 300, 301, 1999, 2000, 2001)
_HUGE = (65535, 65536, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_CODES = (0, 999, 1000, 1003, 1004, 1005, 1006, 1014, 1015, 2999, 3000, 4999, 5000)
_TEXTS = (
    b'{"type":"ping","id":"a"}',
    "κόσμε €\U0001f600".encode(),
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf0\x9f\x98",
    b"\xe2\x82",
    b"\x80",
)
_FRAGMENTS = (b"", b"a", b"\xe2\x82\xac")
_SPARE = (b"\x81\x85", b"\x88\x82", b"\x89\x80", b"\x01\xfe", b"\x80\xff", b"\x00" * 8)


@dataclass(frozen=True, slots=True)
class Input:
    """A stream, where it is cut, and the largest message allowed."""

    limit: int
    reads: list[bytes]

    @property
    def stream(self) -> bytes:
        return b"".join(self.reads)


def target() -> Target[Input]:
    return Target(_make, _run, _judge)


def stream(random: Random) -> bytes:
    """Make a stream of frames, most of them well formed."""
    data = b""
    message = False
    for _ in range(random.choice((1, 2, 3, 5, 10))):
        kind = random.random()
        if kind < 0.4:
            # A control frame, rarely wrong.
            data += _control(random)
            continue
        opcode = random.choice((1, 1, 1, 2))
        if message and random.random() < 0.95:
            opcode = 0
        final = random.random() < 0.5
        data += _frame(random, opcode, final, _payload(random))
        message = not final
        if message and random.random() < 0.05:
            # Many fragments of a few bytes, or of none.
            fragment = _frame(random, 0, False, random.choice(_FRAGMENTS))
            data += fragment * random.choice((10, 100, 5000))
    if random.random() < 0.4:
        data = mutate(random, data, _SPARE)
    return data


def _control(random: Random) -> bytes:
    opcode = random.choice((8, 9, 9, 9, 10, 10))
    payload = some_bytes(random, 20)
    if opcode == 8:
        code = random.choice(_CODES).to_bytes(2, "big")
        payload = random.choice((b"", code, code + random.choice(_TEXTS), payload))
    elif random.random() < 0.1:
        payload = random.randbytes(random.choice((124, 125, 126)))
    return _frame(random, opcode, random.random() < 0.97, payload)


def _payload(random: Random) -> bytes:
    kind = random.random()
    if kind < 0.4:
        return random.choice(_TEXTS)
    if kind < 0.6:
        return b"a" * random.choice(_LENGTHS)
    if kind < 0.8:
        return some_bytes(random, 40)
    return b""


def _frame(random: Random, opcode: int, final: bool, payload: bytes) -> bytes:
    first = opcode | (0x80 if final else 0)
    if random.random() < 0.01:
        first ^= random.choice((0x10, 0x20, 0x40, 0x04))
    size = len(payload)
    if random.random() < 0.01:
        size = random.choice(_HUGE)
    fewest = 0 if size < 126 else 2 if size < 1 << 16 else 8
    wide = max(fewest, random.choice((2, 8))) if random.random() < 0.01 else fewest
    second = {0: size, 2: 126, 8: 127}[wide]
    length = size.to_bytes(wide, "big") if wide else b""
    if random.random() < 0.01:
        return bytes((first, second)) + length + payload
    key = random.choice(_KEYS)
    masked = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
    return bytes((first, second | 0x80)) + length + key + masked


def _make(random: Random) -> Input:
    data = some_bytes(random, 300) if random.random() < 0.05 else stream(random)
    return Input(random.choice(LIMITS), pieces(random, data))


def _run(value: Input) -> tuple[list[Event], Decoder]:
    decoder = Decoder(value.limit)
    return [event for read in value.reads for event in decoder.feed(read)], decoder


def _judge(value: Input, outcome: tuple[list[Event], Decoder]) -> str:
    events, decoder = outcome
    found = [_plain(event) for event in events]
    expected = reference.events(value.stream, value.limit)
    assert found == expected, f"{found[-3:]} came, not {expected[-3:]}"
    held = sum(_held(getattr(decoder, name)) for name in decoder.__slots__)
    most = MAX_HELD + MAX_HELD_FACTOR * value.limit
    assert held <= most, f"{held} bytes are kept, {most} are allowed"
    if not found:
        return "nothing"
    last = found[-1]
    return f"violation {last[1]}" if last[0] == "violation" else str(last[0])


def _plain(event: Event) -> tuple[object, ...]:
    match event:
        case Text(data) | Binary(data) | Ping(data) | Pong(data):
            return type(event).__name__.lower(), data
        case Close(code, reason):
            return "close", code, reason
        case Violation(code, reason):
            assert isinstance(code, CloseCode) and 0 < len(reason.encode()) <= 123
            return "violation", int(code)
    raise AssertionError(f"{event!r} is no event")


def _held(value: Any) -> int:
    """Return the bytes of an attribute and of what is in it."""
    inner = sum(map(sys.getsizeof, value)) if isinstance(value, list) else 0
    return sys.getsizeof(value) + inner
