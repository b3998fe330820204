"""The native protocol: exact messages out, exact requests in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.values.errors import BadMessage, UnknownType
from bridge.values.message import (
    Authenticate,
    Authenticated,
    Batch,
    Bye,
    Error,
    Gap,
    Heartbeat,
    Interrupted,
    Ping,
    Pong,
    Request,
    Restored,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Welcome,
)
from bridge.wire import frames
from bridge.wire.native import (
    MAX_CHUNK_BYTES,
    PROTOCOL,
    SUBPROTOCOL,
    decode,
    encode,
    encode_batch,
)
from unit.doubles import messages, server_frames


def text_of(frame: bytes) -> str:
    """The text of one frame."""
    [(first, payload)] = server_frames(frame)
    assert first == 0x81
    return payload.decode()


def notification(payload: str, channel: str = "a") -> str:
    """The text of a batch's only notification."""
    [chunk] = encode_batch(Batch(channel, (payload,)))
    return text_of(chunk)


def refusal(text: str) -> BadMessage:
    """The error that a client's text meets."""
    with pytest.raises(BadMessage) as caught:
        decode(text)
    return caught.value


def test_protocol_has_its_number_and_name() -> None:
    assert (PROTOCOL, SUBPROTOCOL) == (1, "pgbridge.v1")


# Server to client.


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            Welcome(1, 25.0, 128, False),
            '{"type":"welcome","protocol":1,"heartbeat_interval":25.0,'
            '"max_channels":128,"authenticated":false}',
        ),
        (Authenticated(), '{"type":"authenticated"}'),
        (
            Authenticated(id=1, expires_in=59.5),
            '{"type":"authenticated","id":1,"expires_in":59.5}',
        ),
        (
            Subscribed("a", durable=False, resumed=False),
            '{"type":"subscribed","channel":"a","durable":false,"resumed":false}',
        ),
        (
            Subscribed("a", durable=False, resumed=False, id=0),
            '{"type":"subscribed","channel":"a","durable":false,"resumed":false,'
            '"id":0}',
        ),
        (
            Unsubscribed("a", "requested", id=""),
            '{"type":"unsubscribed","channel":"a","reason":"requested","id":""}',
        ),
        (
            Interrupted("a", "listener_lost"),
            '{"type":"interrupted","channel":"a","reason":"listener_lost"}',
        ),
        (
            Gap("a", "listener_lost", 1.5, 1700000000.25),
            '{"type":"gap","channel":"a","reason":"listener_lost",'
            '"reload_window":1.5,"since":1700000000.25}',
        ),
        (
            Gap("a", "not_kept", 1.0),
            '{"type":"gap","channel":"a","reason":"not_kept","reload_window":1.0}',
        ),
        (
            Subscribed("a", durable=True, resumed=True, id=1, cursor="e1-7"),
            '{"type":"subscribed","channel":"a","durable":true,"resumed":true,'
            '"id":1,"cursor":"e1-7"}',
        ),
        (
            Gap("a", "expired", 1.0, cursor="e1-7"),
            '{"type":"gap","channel":"a","reason":"expired","reload_window":1.0,'
            '"cursor":"e1-7"}',
        ),
        (Restored("a"), '{"type":"restored","channel":"a"}'),
        (Heartbeat(), '{"type":"heartbeat"}'),
        (Heartbeat("e1-7"), '{"type":"heartbeat","cursor":"e1-7"}'),
        (Pong("x"), '{"type":"pong","id":"x"}'),
        (Pong(), '{"type":"pong"}'),
        (
            Error("unavailable", "later", "x", "a", 5.0),
            '{"type":"error","code":"unavailable","message":"later","id":"x",'
            '"channel":"a","retry_delay":5.0}',
        ),
        (
            Error("bad_message", "no"),
            '{"type":"error","code":"bad_message","message":"no"}',
        ),
        (
            Bye("restart", 2.5),
            '{"type":"bye","reason":"restart","reconnect_delay":2.5}',
        ),
    ],
)
def test_message_is_encoded_with_its_type_first(
    message: ServerMessage, text: str
) -> None:
    assert encode(message) == frames.encode_text(text.encode())


def test_text_is_encoded_as_utf8_and_not_escaped() -> None:
    assert text_of(encode(Pong("é€"))) == '{"type":"pong","id":"é€"}'


def test_id_with_a_lone_surrogate_is_encoded_as_valid_utf8() -> None:
    request = decode('{"type":"ping","id":"\\ud800"}')

    assert text_of(encode(Pong(request.id))) == '{"type":"pong","id":"?"}'


# Batches.


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        "[]",
        '{"a": 1,  "b" :[true,null]}',
        " \t\r\n[1] \n",
        '{"a":1,"a":2}',
        "[1e999,-0.0,1E+2]",
        "[" + "9" * 5000 + "]",
        '["\\ud800","é"]',
        '["' + "[" * 500 + '"]',
        "[" + "[]," * 200 + "[]]",
    ],
)
def test_json_object_or_array_is_copied_as_it_is(payload: str) -> None:
    assert notification(payload) == (
        f'{{"type":"notification","channel":"a","data":{payload}}}'
    )


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "   ",
        "hello",
        '"a string"',
        "12",
        "true",
        "null",
        "{",
        "{}x",
        "[1,]",
        "{'a':1}",
        "[NaN]",
        "[Infinity]",
        '{"a":-Infinity}',
        "[01]",
        '["\n"]',  # a control character must be escaped
        "\ufeff{}",  # a byte order mark
        "\u00a0{}",  # white space, but not JSON's
    ],
)
def test_any_other_payload_is_a_text(payload: str) -> None:
    assert json.loads(notification(payload)) == {
        "type": "notification",
        "channel": "a",
        "text": payload,
    }


def test_text_is_escaped_as_json_wants_it() -> None:
    assert notification('"\\\n\x01é') == (
        '{"type":"notification","channel":"a","text":"\\"\\\\\\n\\u0001é"}'
    )


def test_channel_is_escaped_as_json_wants_it() -> None:
    assert notification("[]", channel='q"\\ é') == (
        '{"type":"notification","channel":"q\\"\\\\ é","data":[]}'
    )


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_nesting_of_100_is_data_and_of_101_text(left: str, right: str) -> None:
    inner = "[]"
    deepest = left * 99 + inner + right * 99

    assert json.loads(notification(deepest)).keys() == {"type", "channel", "data"}
    assert json.loads(notification(left + deepest + right)) == {
        "type": "notification",
        "channel": "a",
        "text": left + deepest + right,
    }


def test_nesting_is_that_of_the_deepest_part() -> None:
    deep = "[" * 101 + "]" * 101

    assert "text" in json.loads(notification(f'{{"a":1,"b":{deep}}}'))
    assert "text" in json.loads(notification(f'[{deep[1:-1]},"x",[1]]'))


def test_nesting_is_measured_where_there_are_many_brackets() -> None:
    deep = "[" * 99 + "]" * 99
    many = "[]," * 50

    assert "data" in json.loads(notification(f"[{many}{deep}]"))
    assert "text" in json.loads(notification(f"[{many}[{deep}]]"))


def test_nesting_beyond_the_parsers_depth_is_a_text() -> None:
    payload = "[" * 200_000 + "]" * 200_000

    assert json.loads(notification(payload))["text"] == payload


def test_batch_is_one_chunk_with_its_notifications_in_order() -> None:
    [chunk] = encode_batch(Batch("a", ("1", "[2]", "3")))

    assert messages(chunk) == [
        {"type": "notification", "channel": "a", "text": "1"},
        {"type": "notification", "channel": "a", "data": [2]},
        {"type": "notification", "channel": "a", "text": "3"},
    ]


def test_empty_batch_has_no_chunk() -> None:
    assert encode_batch(Batch("a", ())) == []


def test_notification_of_the_journal_has_its_cursor() -> None:
    [chunk] = encode_batch(Batch("a", ("[1]", "two"), ("e1-7", "e1-9")))

    assert [payload.decode() for _, payload in server_frames(chunk)] == [
        '{"type":"notification","channel":"a","cursor":"e1-7","data":[1]}',
        '{"type":"notification","channel":"a","cursor":"e1-9","text":"two"}',
    ]


def test_gap_stands_where_the_entry_stood_that_cannot_be_delivered() -> None:
    gap = Gap("a", "too_large", 1.5, cursor="e1-8")

    [chunk] = encode_batch(Batch("a", ("7", gap, "9"), ("e1-7", "e1-8", "e1-9")))

    first, second, third = server_frames(chunk)
    assert second == (0x81, server_frames(encode(gap))[0][1])
    assert [json.loads(payload)["cursor"] for _, payload in (first, second, third)] == [
        "e1-7",
        "e1-8",
        "e1-9",
    ]


def test_batch_with_fewer_cursors_than_payloads_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="zip"):
        encode_batch(Batch("a", ("7", "8"), ("e1-7",)))


def _payload_for(frame_bytes: int) -> str:
    """A payload whose frame has so many bytes; the frame's head has ten."""
    empty = len('{"type":"notification","channel":"a","text":""}')
    return "x" * (frame_bytes - empty - 10)


def test_chunk_is_filled_to_its_last_byte() -> None:
    half = _payload_for(MAX_CHUNK_BYTES // 2)

    assert [len(chunk) for chunk in encode_batch(Batch("a", (half, half)))] == [
        MAX_CHUNK_BYTES
    ]


def test_frame_that_no_longer_fits_begins_the_next_chunk() -> None:
    half = _payload_for(MAX_CHUNK_BYTES // 2)

    chunks = encode_batch(Batch("a", (half, half + "x", "last")))

    assert [[len(m["text"]) for m in messages(chunk)] for chunk in chunks] == [
        [len(half)],
        [len(half) + 1, 4],
    ]


def test_frame_larger_than_a_chunk_is_a_chunk_of_its_own() -> None:
    large = "x" * (MAX_CHUNK_BYTES + 1)

    chunks = encode_batch(Batch("a", ("before", large, "after")))

    assert [[m["text"] for m in messages(chunk)] for chunk in chunks] == [
        ["before"],
        [large],
        ["after"],
    ]


# Client to server.


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ('{"type":"subscribe","channel":"a"}', Subscribe("a")),
        (
            '{"type":"subscribe","channel":"a","cursor":"c","resume":true,"id":"i"}',
            Subscribe("a", cursor="c", resume=True, id="i"),
        ),
        (
            '{"type":"subscribe","channel":"a","cursor":null,"resume":null,"id":null}',
            Subscribe("a"),
        ),
        ('{"type":"subscribe","channel":"a","resume":false}', Subscribe("a")),
        ('{"type":"subscribe","channel":""}', Subscribe("")),
        ('{"type":"unsubscribe","channel":"a","id":7}', Unsubscribe("a", id=7)),
        ('{"type":"unsubscribe","channel":"a"}', Unsubscribe("a")),
        ('{"type":"authenticate","token":"t","id":-1}', Authenticate("t", id=-1)),
        ('{"type":"ping"}', Ping()),
        ('{"type":"ping","id":"x"}', Ping(id="x")),
        (' {"id" : 1, "type" : "ping" } ', Ping(id=1)),
        ('{"type":"ping","later":[1,{"x":null}]}', Ping()),
    ],
)
def test_request_is_read_and_unknown_fields_are_ignored(
    text: str, request_: Request
) -> None:
    assert decode(text) == request_


@pytest.mark.parametrize("id", [0, -(10**30), "", "x" * 64, "€" * 64])
def test_id_may_be_an_integer_or_64_characters(id: str | int) -> None:
    assert decode(json.dumps({"type": "ping", "id": id})) == Ping(id=id)


@pytest.mark.parametrize("id", ["x" * 65, 1.0, True, False, [], {}, 1e300])
def test_any_other_id_is_refused_and_not_repeated(id: Any) -> None:
    error = refusal(json.dumps({"type": "ping", "id": id}))

    assert str(error) == (
        "'id' must be an integer or a string of at most 64 characters"
    )
    assert error.id is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ping",
        "{",
        "{} {}",
        '{"type":"ping","id":NaN}',
        '{"type":"ping","x":[Infinity]}',
        '{"type":"ping","x":-Infinity}',
        "\ufeff{}",
        "[" * 200_000,
        '{"id":' + "9" * 5000 + "}",
    ],
)
def test_text_that_is_not_json_is_refused(text: str) -> None:
    error = refusal(text)

    assert type(error) is BadMessage
    assert (str(error), error.id) == ("the message is not JSON", None)


@pytest.mark.parametrize("text", ["[]", '"ping"', "1", "null", '[{"type":"ping"}]'])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    assert str(refusal(text)) == "the message is not a JSON object"


@pytest.mark.parametrize("type", [None, 1, True, [], {}])
def test_type_that_is_no_string_is_refused(type: Any) -> None:
    error = refusal(json.dumps({"type": type, "id": 5}))

    assert (str(error), error.id) == ("'type' must be a string", 5)


def test_message_without_type_is_refused() -> None:
    assert str(refusal("{}")) == "'type' must be a string"


def test_unknown_type_has_its_own_error_and_keeps_the_id() -> None:
    error = refusal('{"type":"publish","id":"x"}')

    assert isinstance(error, UnknownType)
    assert (str(error), error.id) == ("type 'publish' is not known", "x")


def test_unknown_type_is_repeated_only_in_part() -> None:
    error = refusal(json.dumps({"type": "t" * 1000}))

    assert str(error) == f"type {'t' * 64!r} is not known"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "subscribe"}, "'channel' must be a string"),
        ({"type": "subscribe", "channel": 1}, "'channel' must be a string"),
        ({"type": "subscribe", "channel": None}, "'channel' must be a string"),
        ({"type": "subscribe", "channel": ["a"]}, "'channel' must be a string"),
        (
            {"type": "subscribe", "channel": "a", "cursor": 1},
            "'cursor' must be a string",
        ),
        (
            {"type": "subscribe", "channel": "a", "resume": 1},
            "'resume' must be true or false",
        ),
        (
            {"type": "subscribe", "channel": "a", "resume": "true"},
            "'resume' must be true or false",
        ),
        ({"type": "unsubscribe"}, "'channel' must be a string"),
        ({"type": "unsubscribe", "channel": {}}, "'channel' must be a string"),
        ({"type": "authenticate"}, "'token' must be a string"),
        ({"type": "authenticate", "token": 1}, "'token' must be a string"),
    ],
)
def test_field_of_the_wrong_type_is_refused_with_the_id(
    fields: dict[str, Any], message: str
) -> None:
    error = refusal(json.dumps({**fields, "id": "x"}))

    assert type(error) is BadMessage
    assert (str(error), error.id) == (message, "x")
