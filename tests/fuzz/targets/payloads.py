"""Payloads of notifications: any text that PostgreSQL can deliver.

Law: frames of JSON, each with the payload as it was: as `data` when it is an
object or array that every parser reads, else as `text`.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from bridge.values.message import Batch
from bridge.wire import native
from fuzz.inputs import mutate, some_text
from fuzz.run import Target
from fuzz.targets import messages

__all__ = ["target"]

_SEEDS = (
    *('{"n":1}', "[]", "{}", "[1,2,3]", '{"a":{"b":[1.5e3,"x",null,true]}}', "plain"),
    *("[NaN]", "[1e999]", '["\\ud800"]', "[" * 99 + "]" * 99, "[" * 101 + "]" * 101),
    *("[" * 4000 + "]" * 4000, '{"a":' * 1500, '["\x7f\u2028"]', "[01]", '{"a":1,}'),
)


def target() -> Target[list[str]]:
    return Target(_make, _run, _judge)


def _make(random: Random) -> list[str]:
    return [_payload(random) for _ in range(random.randrange(1, 5))]


def _payload(random: Random) -> str:
    kind = random.random()
    if kind < 0.2:
        value = some_text(random, 100)
    elif kind < 0.5:
        value = messages.request(random)
    else:
        value = random.choice(_SEEDS)
    if random.random() < 0.5:
        value = mutate(
            random, value, (*_SEEDS, "[", "]", "{", "}", '"', "\\", ",", " ")
        )
    # PostgreSQL: no NUL, no half surrogates, less than 8000 bytes.
    data = value.replace("\x00", "").encode(errors="replace")
    return data[:7999].decode(errors="ignore")


def _run(value: list[str]) -> list[bytes]:
    return native.encode_batch(Batch("a", tuple(value)))


def _judge(value: list[str], outcome: list[bytes]) -> str:
    data = b"".join(outcome)
    kinds = set()
    for payload in value:
        frame, data = _cut(data)
        # As text: Python refuses to convert numbers of more than 4300 digits.
        message = json.loads(frame.decode(), parse_int=str, parse_constant=_refuse)
        assert (message["type"], message["channel"]) == ("notification", "a")
        kinds |= message.keys() - {"type", "channel"}
        if "data" in message:
            assert payload in frame.decode()
            assert isinstance(message["data"], (dict, list)) and len(message) == 3
        else:
            assert message == {**message, "text": payload} and len(message) == 3
    assert not data, "more frames than payloads"
    return " and ".join(sorted(kinds))


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} is on the wire")


def _cut(data: bytes) -> tuple[bytes, bytes]:
    assert data[0] == 0x81 and data[1] < 127
    size, head = (data[1], 2) if data[1] < 126 else (data[2] << 8 | data[3], 4)
    return data[head : head + size], data[head + size :]
