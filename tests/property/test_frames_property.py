"""Whatever a peer sends, and however the network cuts it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from unit.doubles import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_frame,
    server_frames,
)

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
    encode_close,
    encode_ping,
    encode_pong,
    encode_text,
)

quick = settings(deadline=None, max_examples=200)

LIMIT = 140
"""Small, so that examples reach it; lengths of two bytes are below it."""

lengths = st.one_of(st.integers(0, 10), st.integers(40, LIMIT))
payloads = lengths.flatmap(lambda size: st.binary(min_size=size, max_size=size))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One frame, mostly well formed."""
    frame = client_frame(
        draw(st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])),
        draw(st.one_of(payloads, st.text(max_size=40).map(_utf8))),
        final=draw(st.booleans()),
        key=draw(st.binary(min_size=4, max_size=4)),
    )
    spoilt = draw(st.integers(min_value=-20, max_value=1))
    if spoilt >= 0:
        frame = frame[:spoilt] + draw(st.binary(min_size=1, max_size=1)) + frame[2:]
    return frame


def _utf8(text: str) -> bytes:
    return text.encode()


streams = st.one_of(
    st.binary(max_size=400),
    st.lists(st.one_of(frames(), frames(), st.binary(max_size=3)), max_size=8).map(
        b"".join
    ),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut `data` at the places, each taken modulo its length."""
    at = sorted(place % (len(data) + 1) for place in places)
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


def decode(reads: list[bytes], limit: int = LIMIT) -> list[Event]:
    decoder = Decoder(limit)
    return [event for read in reads for event in decoder.feed(read)]


places = st.lists(st.integers(min_value=0), max_size=10)


@quick
@given(streams, places)
def test_any_bytes_give_events_and_at_most_one_end(
    data: bytes, places: list[int]
) -> None:
    events = decode(cut(data, places))

    ends = [event for event in events if isinstance(event, Close | Violation)]
    assert ends == [] or ends == events[-1:]
    for event in events:
        assert isinstance(event, Text | Binary | Ping | Pong | Close | Violation)
        if isinstance(event, Text):
            assert len(event.data.encode()) <= LIMIT
        if isinstance(event, Binary):
            assert len(event.data) <= LIMIT
        if isinstance(event, Ping | Pong):
            assert len(event.data) <= 125


@quick
@given(streams, places)
def test_the_way_bytes_are_cut_does_not_change_the_events(
    data: bytes, places: list[int]
) -> None:
    assert decode(cut(data, places)) == decode([data])


# Round trips.

Message = tuple[Event, list[int], list[bytes]]


@st.composite
def sent(draw: st.DrawFn) -> Message:
    """A message, where it is fragmented, and the keys of its frames."""
    event = draw(
        st.one_of(
            st.builds(Text, st.text(max_size=LIMIT // 4)),
            st.builds(Binary, payloads),
            st.builds(Ping, st.binary(max_size=125)),
            st.builds(Pong, st.binary(max_size=125)),
        )
    )
    fragments = draw(places)
    keys = draw(st.lists(st.binary(min_size=4, max_size=4), min_size=11, max_size=11))
    return event, fragments, keys


def encode(message: Message) -> bytes:
    """Encode a message as a client does, in fragments."""
    event, places, keys = message
    if isinstance(event, Ping | Pong):
        opcode = PING if isinstance(event, Ping) else PONG
        return client_frame(opcode, event.data, key=keys[0])
    assert isinstance(event, Text | Binary)
    opcode = TEXT if isinstance(event, Text) else BINARY
    data = event.data.encode() if isinstance(event, Text) else event.data
    parts = cut(data, places)
    return b"".join(
        client_frame(
            CONTINUATION if index else opcode,
            part,
            final=index == len(parts) - 1,
            key=key,
        )
        for index, (part, key) in enumerate(zip(parts, keys, strict=False))
    )


@quick
@given(st.lists(sent(), max_size=6), places)
def test_what_a_client_encodes_is_what_is_decoded(
    sequence: list[Message], places: list[int]
) -> None:
    data = b"".join(encode(message) for message in sequence)

    assert decode(cut(data, places)) == [event for event, _, _ in sequence]


@quick
@given(sent())
def test_message_is_taken_exactly_when_it_is_within_the_limit(message: Message) -> None:
    event, _, _ = message
    data = event.data.encode() if isinstance(event, Text) else event.data

    within = decode([encode(message)], limit=len(data))
    beyond = decode([encode(message)], limit=len(data) - 1)

    assert within == [event]
    if isinstance(event, Ping | Pong):
        assert beyond == [event]
    else:
        assert beyond == [
            Violation(CloseCode.TOO_BIG, f"message exceeds {len(data) - 1} bytes")
        ]


@quick
@given(
    st.one_of(st.none(), st.sampled_from(list(CloseCode)), st.integers(3000, 4999)),
    st.text(max_size=40),
)
def test_close_of_a_client_is_decoded(code: int | None, reason: str) -> None:
    payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()[:123]

    events = decode([client_frame(CLOSE, payload)])

    try:
        sent = payload[2:].decode()
    except UnicodeDecodeError:
        assert events == [Violation(CloseCode.INVALID_DATA, "text is not valid UTF-8")]
    else:
        assert events == [Close(1005 if code is None else code, sent)]


@quick
@given(st.text().map(_utf8), st.binary(max_size=125))
def test_what_the_server_encodes_can_be_read(text: bytes, data: bytes) -> None:
    wire = encode_text(text) + encode_ping(data) + encode_pong(data)

    assert server_frames(wire) == [(0x81, text), (0x89, data), (0x8A, data)]


@quick
@given(st.integers(1000, 4999).filter(lambda code: code != 1005), st.text())
def test_close_of_the_server_is_short_and_keeps_the_reasons_beginning(
    code: int, reason: str
) -> None:
    [(first, payload)] = server_frames(encode_close(code, reason))

    assert (first, payload[:2]) == (0x88, code.to_bytes(2, "big"))
    kept = payload[2:].decode()
    assert reason.startswith(kept)
    assert len(payload) <= 125
    # Not one more character would have fitted.
    more = reason[len(kept) : len(kept) + 1].encode()
    assert not more or len(payload) + len(more) > 125
