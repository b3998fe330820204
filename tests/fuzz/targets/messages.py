"""Client messages: any text in a WebSocket message.

Law: a request of ours, with fields of the types that it promises, or
`BadMessage`, whose answer can be sent.
"""

from __future__ import annotations

import json
from random import Random

from bridge.values.errors import BadMessage
from bridge.values.message import (
    Authenticate,
    Ping,
    Request,
    Subscribe,
    Unsubscribe,
    error_message,
)
from bridge.wire import native
from fuzz.inputs import mutate, some_text
from fuzz.run import Target

__all__ = ["request", "target", "text"]

_TYPES = ("subscribe", "unsubscribe", "authenticate", "ping", "pong", "publish", "")
_FIELDS = ("type", "id", "channel", "cursor", "resume", "token", "x")
_ODD = (
    *("null", "true", "false", "0", "-1", "1.5", "1e999", "-0", "1E400", "01"),
    *("NaN", "Infinity", "-Infinity", '"\\ud800"', '"\\u0000"', '""', "[]", "{}"),
    *('{"type":"ping"}', "9" * 30, "9" * 4300, "9" * 4301, "9" * 20000, "'a'"),
)
_SPARE = (
    *("{", "}", "[", "]", ",", ":", '"', "\\", "\\u", "\\ud83d", "[" * 500, "{" * 500),
    *('{"type":' * 300, '"type":"ping"', '"id":', " ", "\ufeff", "\x00", *_ODD),
)


def target() -> Target[str]:
    return Target(text, _run, _judge)


def text(random: Random) -> str:
    """Make what stands in one text message: valid UTF-8, at most 65536 bytes."""
    value = request(random)
    if random.random() < 0.5:
        value = mutate(random, value, _SPARE)
    return value.encode(errors="replace")[: 1 << 16].decode(errors="ignore")


def request(random: Random) -> str:
    """Make a request, with fields that are right, wrong, twice or missing."""
    parts = []
    if random.random() < 0.97:
        parts.append(f'"type":"{random.choice(_TYPES)}"')
    for name in random.choices(_FIELDS, k=random.randrange(5)):
        parts.append(f'"{name}":{_value(random, 3)}')
    if random.random() < 0.02:
        parts *= 10_000 // (100 + sum(map(len, parts)))
    random.shuffle(parts)
    return "{" + random.choice((",", ", ", " ,\n\t")).join(parts) + "}"


def _value(random: Random, depth: int) -> str:
    kind = random.random()
    if kind < 0.5:
        return json.dumps(some_text(random, 70), ensure_ascii=random.random() < 0.5)
    if kind < 0.8 or not depth:
        return random.choice(_ODD)
    inner = [_value(random, depth - 1) for _ in range(random.randrange(4))]
    if kind < 0.9:
        return "[" + ",".join(inner) + "]"
    return "{" + ",".join(f'"k{i}":{value}' for i, value in enumerate(inner)) + "}"


def _run(value: str) -> tuple[Request | BadMessage, bytes]:
    try:
        return native.decode(value), b""
    except BadMessage as error:
        answer = error_message(error, id=error.id, channel=None)
        return error, native.encode(answer)


def _judge(value: str, outcome: tuple[Request | BadMessage, bytes]) -> str:
    found, answer = outcome
    if isinstance(found, BadMessage):
        assert len(answer) < 6000, f"an answer of {len(answer)} bytes"
        return found.code
    # Only an object of JSON can have become a request.
    values = json.loads(value)
    assert values["type"] == type(found).__name__.lower()
    assert found.id == values.get("id")
    assert found.id is None or type(found.id) in (str, int)
    match found:
        case Subscribe():
            assert type(found.channel) is str and type(found.resume) is bool
            assert found.cursor is None or type(found.cursor) is str
        case Unsubscribe():
            assert type(found.channel) is str
        case Authenticate():
            assert type(found.token) is str
        case Ping():
            pass
    return type(found).__name__
