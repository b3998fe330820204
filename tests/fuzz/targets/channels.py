"""Channel names, and patterns over them.

Law: the name as it was, exactly when it is one by docs/protocol.md, else
`BadChannel` with a short text; a pattern says what a slow matcher says.
"""

from __future__ import annotations

from random import Random

from bridge.values.channels import Patterns, check_channel
from bridge.values.errors import BadChannel
from bridge.values.message import Error
from bridge.wire import native
from fuzz.inputs import mutate, some_text
from fuzz.run import Target

__all__ = ["target"]

MAX_STARS = 3
"""In a pattern; each one more takes 63 times as long at worst."""

_SEEDS = ("watchers_1", "bridge_revoke", "bridge", "a b", "'; DROP", "é" * 31, "a" * 63)
_PATTERNS = ("watchers_*", "*", "a*b*c*", "*a*a*b", "", "a", "**", "[a-z]*", "\n*")

Input = tuple[str, str]
Outcome = tuple[str | BadChannel, bytes, bool]


def target() -> Target[Input]:
    return Target(_make, _run, _judge)


def _make(random: Random) -> Input:
    name = some_text(random, 70) if random.random() < 0.5 else random.choice(_SEEDS)
    if random.random() < 0.5:
        name = mutate(random, name, (*_SEEDS, "*", "\x00", "\x7f", "\ud800", "€"))
    pattern = random.choice(_PATTERNS)
    if random.random() < 0.5:
        pattern = mutate(random, pattern, ("*", "a", ".*", "(a+)+", "\\", name[:20]))
    head, *rest = pattern.split("*")
    stars, tail = rest[:MAX_STARS], "".join(rest[MAX_STARS:])
    return name, "*".join([head, *stars]) + tail


def _run(value: Input) -> Outcome:
    name, pattern = value
    matched = Patterns(["nothing", pattern]).match(name[:63])
    try:
        return check_channel(name), b"", matched
    except BadChannel as error:
        answer = Error(error.code, error.message, channel=name)
        return error, native.encode(answer), matched


def _judge(value: Input, outcome: Outcome) -> str:
    name, pattern = value
    found, _, matched = outcome
    assert matched == (_matches(pattern, name[:63]) or name[:63] == "nothing")
    valid = _is_valid(name)
    if isinstance(found, str):
        assert valid and found == name, f"{found!r} was taken"
        return "taken"
    assert not valid, f"refused: {found}"
    assert len(str(found)) < 700, f"a text of {len(str(found))} characters"
    return "refused"


def _is_valid(name: str) -> bool:
    if any(0xD800 <= ord(c) <= 0xDFFF or ord(c) < 32 or c in "\x7f*" for c in name):
        return False
    return 1 <= len(name.encode()) <= 63 and not name.startswith("bridge_")


def _matches(pattern: str, name: str) -> bool:
    """Match by hand: `*` is any run of characters, the rest itself."""
    head, *parts = pattern.split("*")
    if not parts:
        return name == head
    *middle, tail = parts
    at = len(head)
    if not name.startswith(head) or not name.endswith(tail):
        return False
    for part in middle:
        at = name.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return at <= len(name) - len(tail)
