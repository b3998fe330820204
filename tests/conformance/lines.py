"""One line of a case: the bytes that go out, or what must come back."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass

from conformance import steps
from conformance.peer import OPCODES, encode
from conformance.steps import Step

__all__ = ["END_WITHIN", "expected", "items", "outgoing", "value_of"]

END_WITHIN = 1.5
"""Seconds; below the server's wait for a Close frame, which is 2 s."""

_ITEM = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\[[0-9a-fA-F ]*\])(?:\*(\d+))?(?=\s|$)"""
)
_WORD = re.compile(r"""[^\s"'\[]\S*""")
_ARROW = re.compile(r"(>>|>)(?:\*(\d+)|(\d+))?\s+(.*)")


@dataclass(frozen=True, slots=True)
class _Words:
    """A line in its parts: words, options, and the bytes of its items."""

    words: list[str]
    options: dict[str, str]
    #: None when there is no item at all.
    payload: bytes | None

    @classmethod
    def read(cls, text: str) -> _Words:
        words: list[str] = []
        options: dict[str, str] = {}
        payload: bytes | None = None
        at = 0
        while at < len(text):
            if text[at] == " ":
                at += 1
                continue
            item = _ITEM.match(text, at)
            if item:
                payload = (payload or b"") + _item(item[1]) * int(item[2] or 1)
                at = item.end()
                continue
            word = _WORD.match(text, at)
            if word is None:
                raise ValueError(f"cannot read {text[at:]!r}")
            name, equals, value = word[0].partition("=")
            if equals:
                options[name] = value
            else:
                words.append(word[0])
            at = word.end()
        return cls(words, options, payload)


def _item(text: str) -> bytes:
    if text.startswith("["):
        return bytes.fromhex(text[1:-1])
    return str(ast.literal_eval(text)).encode()


def items(text: str) -> bytes:
    words = _Words.read(text)
    if words.words or words.options:
        raise ValueError(f"only strings and bytes are expected in {text!r}")
    return words.payload or b""


def value_of(text: str) -> bytes:
    return items(text) if text.startswith(('"', "'", "[")) else text.encode()


def outgoing(text: str) -> tuple[bool, bytes, int]:
    """Read a line of `>`: whether it waits, its bytes, bytes a write."""
    arrow = _ARROW.fullmatch(text)
    if arrow is None:
        raise ValueError(f"cannot read {text!r}")
    data = _outgoing_bytes(_Words.read(arrow[4])) * int(arrow[2] or 1)
    return arrow[1] == ">>", data, int(arrow[3] or 0)


def _outgoing_bytes(words: _Words) -> bytes:
    kind, *flags = words.words
    options = dict(words.options)
    payload = words.payload or b""
    if kind == "bytes":
        return payload
    if kind == "ask":
        kind = "text"
        payload = b'{"type":"ping","id":"' + payload + b'"}'
        payload = payload.ljust(int(options.pop("padded", 0)))
    if kind == "close" and flags and flags[0].isdigit():
        payload = int(flags.pop(0)).to_bytes(2, "big") + payload
    opcode = OPCODES[kind] if kind in OPCODES else int(kind, 16)
    bits = 0x80
    key: bytes | None = b"\x37\xfa\x21\x3d"
    if "key" in options:
        key = bytes.fromhex(options.pop("key"))
    for flag in flags:
        if flag == "unmasked":
            key = None
        elif flag == "unfinished":
            bits &= 0x7F
        else:
            bits |= {"rsv1": 0x40, "rsv2": 0x20, "rsv3": 0x10}[flag]
    announced = options.pop("announced", None)
    length = options.pop("length", None)
    if options:
        raise ValueError(f"unknown: {', '.join(options)}")
    return encode(
        opcode,
        payload,
        first_bits=bits,
        key=key,
        announced=None if announced is None else int(announced),
        length_bytes=None if length is None else {"16": 2, "64": 8}[length],
    )


def expected(text: str) -> Step:
    words = _Words.read(text)
    kind, *rest = words.words
    payload = words.payload or b""
    options = words.options
    size = int(options["size"]) if "size" in options else None
    if kind == "answer":
        return steps.Message({"type": "pong", "id": payload.decode()}, size)
    if kind == "message":
        return steps.Message(json.loads(payload), size)
    if kind == "error":
        return steps.Error(rest[0], options.get("id"), size)
    if kind == "close":
        code = int(rest[0]) if rest else None
        exact = words.payload is not None
        return steps.Close(code, payload.decode() if exact else None)
    if kind == "end":
        within = float(options.get("within", END_WITHIN))
        return steps.End(within, float(options.get("after", 0)))
    if kind == "gone":
        within = float(options.get("within", END_WITHIN))
        return steps.Gone(within, float(options.get("after", 0)))
    if kind == "pong":
        return steps.Payload(kind, payload)
    raise ValueError(f"{kind!r} cannot be expected")
