"""Hostile inputs: mutations of any text or bytes, and cuts of them.

Everything here is a function of the `Random` it is given, so that the number
of an input is enough to make it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

__all__ = ["MAX_SIZE", "mutate", "pieces", "some_bytes", "some_text"]

MAX_SIZE = 100_000
"""No input is longer: bytes or characters."""

T = TypeVar("T", bytes, str)

_CHARACTERS = (
    "\x00\x01\t\n\r\x1b\x1f \"'*\\/:;,.@%{}[]()<>&=?#+-_~\x7f\x80\xa0"
    "\u0660\u20ac\u2028\ufeff\uffff\U0001f600\U0010ffff\ud800\udfff"
)


def some_bytes(random: Random, most: int) -> bytes:
    """Return up to `most` bytes, of all values or of few."""
    size = random.randrange(most + 1)
    if random.random() < 0.3:
        return random.randbytes(1) * size
    return random.randbytes(size)


def some_text(random: Random, most: int) -> str:
    """Return up to `most` characters: plain, odd, or half a surrogate."""
    size = random.randrange(most + 1)
    kind = random.random()
    if kind < 0.4:
        return "".join(random.choices("abcdefghij0123456789_", k=size))
    if kind < 0.5:
        return random.choice(_CHARACTERS) * size
    if kind < 0.8:
        return "".join(random.choices(_CHARACTERS + "abc", k=size))
    return "".join(chr(random.randrange(0x110000)) for _ in range(size))


def mutate(random: Random, value: T, spare: Sequence[T]) -> T:
    """Damage `value` in one to six places.

    Args:
        spare: parts to put in: words of the language, other inputs.
    """
    for _ in range(random.randrange(1, 7)):
        value = random.choice(_MUTATIONS)(random, value, spare)[:MAX_SIZE]
    return value


def pieces(random: Random, data: bytes) -> list[bytes]:
    """Cut `data` as TCP might."""
    kind = random.random()
    if kind < 0.4 or len(data) < 2:
        return [data]
    if kind < 0.5 and len(data) < 500:
        return [data[i : i + 1] for i in range(len(data))]
    cuts = sorted(random.randrange(len(data)) for _ in range(random.randrange(1, 12)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _place(random: Random, value: bytes | str) -> tuple[int, int]:
    """Choose a short slice of `value`."""
    start = random.randrange(len(value) + 1)
    return start, min(len(value), start + random.choice((0, 1, 1, 2, 4, 9, 40)))


def _delete(random: Random, value: T, spare: Sequence[T]) -> T:
    start, end = _place(random, value)
    return value[:start] + value[end:]


def _repeat(random: Random, value: T, spare: Sequence[T]) -> T:
    start, end = _place(random, value)
    times = random.choice((2, 3, 10, 100, 1000))
    return value[:start] + value[start:end] * times + value[end:]


def _insert(random: Random, value: T, spare: Sequence[T]) -> T:
    at = random.randrange(len(value) + 1)
    return value[:at] + random.choice(spare) + value[at:]


def _replace(random: Random, value: T, spare: Sequence[T]) -> T:
    start, end = _place(random, value)
    return value[:start] + random.choice(spare) + value[end:]


def _change(random: Random, value: T, spare: Sequence[T]) -> T:
    """Put another byte or character in the place of one."""
    if not value:
        return value
    at = random.randrange(len(value))
    if isinstance(value, bytes):
        other = random.choice((value[at] ^ 1 << random.randrange(8), 0, 0x7F, 0xFF))
        return value[:at] + bytes((other,)) + value[at + 1 :]
    return value[:at] + random.choice(_CHARACTERS) + value[at + 1 :]


def _cut(random: Random, value: T, spare: Sequence[T]) -> T:
    at = random.randrange(len(value) + 1)
    return value[:at] if random.random() < 0.7 else value[at:]


def _swap(random: Random, value: T, spare: Sequence[T]) -> T:
    a, b = _place(random, value)
    c, d = _place(random, value)
    if not b <= c:
        return value
    return value[:a] + value[c:d] + value[b:c] + value[a:b] + value[d:]


def _splice(random: Random, value: T, spare: Sequence[T]) -> T:
    other = random.choice(spare)
    a, b = random.randrange(len(value) + 1), random.randrange(len(other) + 1)
    return value[:a] + other[b:]


_MUTATIONS = (
    _change,
    _change,
    _delete,
    _repeat,
    _insert,
    _replace,
    _cut,
    _swap,
    _splice,
)
