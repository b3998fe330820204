"""Whatever a client says and whatever PostgreSQL delivers."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.doubles import messages, server_frames

from bridge.values.errors import BadMessage
from bridge.values.message import (
    Authenticate,
    Batch,
    Error,
    Ping,
    Pong,
    Subscribe,
    Unsubscribe,
)
from bridge.wire import native
from bridge.wire.native import MAX_CHUNK_BYTES, MAX_ID_CHARACTERS, decode, encode

quick = settings(deadline=None, max_examples=200)

any_text = st.text(st.characters(exclude_categories=()))
"""Also lone surrogates, which JSON's escapes can write."""

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), any_text)

values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(any_text, inner, max_size=4)
    ),
    max_leaves=8,
)

likely = st.fixed_dictionaries(
    {"type": st.sampled_from(["subscribe", "unsubscribe", "authenticate", "ping"])},
    optional={
        "channel": st.one_of(any_text, values),
        "cursor": st.one_of(any_text, values),
        "resume": st.one_of(st.booleans(), values),
        "token": st.one_of(any_text, values),
        "id": st.one_of(st.integers(), any_text, values),
        "more": values,
    },
)


def check_request(text: str) -> None:
    """Decode; what comes has fields of the right types and says the same."""
    try:
        request = decode(text)
    except BadMessage as error:
        assert str(error)
        check_id(error.id)
        return
    given_: dict[str, Any] = json.loads(text)
    check_id(request.id)
    assert request.id == given_.get("id")
    match request:
        case Subscribe(channel, cursor, resume):
            assert given_["type"] == "subscribe"
            assert type(channel) is str and channel == given_["channel"]
            assert cursor is None or type(cursor) is str
            assert cursor == given_.get("cursor")
            assert resume is (given_.get("resume") is True)
        case Unsubscribe(channel):
            assert given_["type"] == "unsubscribe"
            assert type(channel) is str and channel == given_["channel"]
        case Authenticate(token):
            assert given_["type"] == "authenticate"
            assert type(token) is str and token == given_["token"]
        case Ping():
            assert given_["type"] == "ping"


def check_id(id: object) -> None:
    assert id is None or type(id) is int or type(id) is str
    assert type(id) is not str or len(id) <= MAX_ID_CHARACTERS


@quick
@given(any_text)
def test_any_text_is_a_request_or_a_bad_message(text: str) -> None:
    check_request(text)


@quick
@given(values)
def test_any_json_value_is_a_request_or_a_bad_message(value: Any) -> None:
    check_request(json.dumps(value))


@quick
@given(likely, st.booleans())
def test_anything_like_a_request_is_one_or_a_bad_message(
    value: dict[str, Any], ascii: bool
) -> None:
    check_request(json.dumps(value, ensure_ascii=ascii))


@quick
@given(any_text, st.one_of(st.none(), st.integers(), any_text), any_text)
def test_any_answer_is_one_frame_of_valid_json(
    text: str, id: str | int | None, channel: str
) -> None:
    [pong] = messages(encode(Pong(id)))
    [error] = messages(encode(Error("bad_channel", text, id, channel)))

    def as_sent(value: object) -> object:
        return _replaced(value) if isinstance(value, str) else value

    assert pong == {"type": "pong"} | ({} if id is None else {"id": as_sent(id)})
    assert error["message"] == _replaced(text)
    assert error["channel"] == _replaced(channel)


def _replaced(text: str) -> str:
    return text.encode(errors="replace").decode()


# Batches. PostgreSQL delivers valid text, without NUL.

payloads = st.one_of(
    st.text(),
    values.map(lambda value: json.dumps(value)),
    st.lists(st.integers(), max_size=3).map(lambda value: json.dumps(value)),
    st.tuples(st.sampled_from(["[", '{"a":']), st.integers(95, 105)).map(
        lambda part: part[0] * part[1] + "1" + _closing(part[0]) * part[1]
    ),
)


def _closing(left: str) -> str:
    return "]" if left == "[" else "}"


def _container(payload: str) -> bool:
    """Whether a payload is a JSON object or array, as a browser sees it."""

    def no_constant(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(payload, parse_constant=no_constant)
    except ValueError:
        return False
    return isinstance(value, dict | list) and _depth(value) <= 100


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@quick
@given(st.text(min_size=1), st.lists(payloads, max_size=6))
def test_any_payload_comes_out_as_it_went_in(channel: str, payloads: list[str]) -> None:
    chunks = native.encode_batch(Batch(channel, tuple(payloads)))

    texts = [data.decode() for _, data in server_frames(b"".join(chunks))]
    assert len(texts) == len(payloads)
    for text, payload in zip(texts, payloads, strict=True):
        if _container(payload):
            beginning = json.dumps(
                {"type": "notification", "channel": channel},
                ensure_ascii=False,
                separators=(",", ":"),
            )
            assert text == f'{beginning[:-1]},"data":{payload}}}'
        else:
            assert json.loads(text) == {
                "type": "notification",
                "channel": channel,
                "text": payload,
            }


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.one_of(
            st.integers(0, 2000),
            st.integers(MAX_CHUNK_BYTES // 2 - 100, MAX_CHUNK_BYTES // 2),
            st.integers(MAX_CHUNK_BYTES - 200, MAX_CHUNK_BYTES + 200),
        ),
        max_size=12,
    )
)
def test_chunks_are_bounded_full_and_end_at_a_frame(sizes: list[int]) -> None:
    chunks = native.encode_batch(Batch("a", tuple("x" * size for size in sizes)))

    frames = [[len(data) for _, data in server_frames(chunk)] for chunk in chunks]
    for chunk, found in zip(chunks, frames, strict=True):
        assert len(chunk) <= MAX_CHUNK_BYTES or len(found) == 1
    for chunk, following in itertools.pairwise(chunks):
        [first, *_] = server_frames(following)
        size = len(first[1]) + (2 if len(first[1]) < 126 else 4)
        size += 6 if len(first[1]) > 65535 else 0
        assert len(chunk) + size > MAX_CHUNK_BYTES
    empty = len('{"type":"notification","channel":"a","text":""}')
    assert [size - empty for found in frames for size in found] == sizes
