"""RFC 6455 frames, decoded and encoded, to the byte."""

from __future__ import annotations

import tracemalloc

import pytest

from bridge.values.errors import CloseCode
from bridge.wire.frames import (
    NO_STATUS,
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
from unit.doubles import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frame

LIMIT = 70_000


def decode(*reads: bytes, limit: int = LIMIT) -> list[Event]:
    decoder = Decoder(limit)
    return [event for read in reads for event in decoder.feed(read)]


def protocol_error(reason: str) -> Violation:
    return Violation(CloseCode.PROTOCOL_ERROR, reason)


BAD_TEXT = Violation(CloseCode.INVALID_DATA, "text is not valid UTF-8")


# Whole messages.


def test_masked_text_of_the_rfc_is_decoded() -> None:
    # RFC 6455, 5.7.
    frame = bytes.fromhex("818537fa213d7f9f4d5158")

    assert decode(frame) == [Text("Hello")]


def test_masked_pong_of_the_rfc_is_decoded() -> None:
    frame = bytes.fromhex("8a8537fa213d7f9f4d5158")

    assert decode(frame) == [Pong(b"Hello")]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 65535, 65536])
def test_text_of_every_length_form_is_decoded(size: int) -> None:
    text = "abcdefg" * (size // 7 + 1)

    assert decode(client_frame(TEXT, text[:size].encode())) == [Text(text[:size])]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_binary_of_every_length_form_is_decoded(size: int) -> None:
    data = (bytes(range(256)) * 257)[:size]

    assert decode(client_frame(BINARY, data)) == [Binary(data)]


def test_characters_beyond_ascii_are_decoded() -> None:
    assert decode(client_frame(TEXT, "é€😀\0".encode())) == [Text("é€😀\0")]


def test_mask_of_zeros_leaves_the_payload_as_it_is() -> None:
    assert decode(client_frame(BINARY, b"\0\xff\0\0\0", key=bytes(4))) == [
        Binary(b"\0\xff\0\0\0")
    ]


def test_several_frames_of_one_read_are_decoded_in_order() -> None:
    read = (
        client_frame(TEXT, b"1")
        + client_frame(PING, b"2")
        + client_frame(BINARY, b"3")
        + client_frame(PONG, b"4")
    )

    assert decode(read) == [Text("1"), Ping(b"2"), Binary(b"3"), Pong(b"4")]


def test_bytes_fed_one_by_one_give_the_same_events_as_at_once() -> None:
    read = (
        client_frame(TEXT, b"a" * 200)
        + client_frame(TEXT, "€".encode()[:1], final=False)
        + client_frame(PING, b"between")
        + client_frame(CONTINUATION, "€".encode()[1:])
        + client_frame(CLOSE, b"\x03\xe8bye")
    )

    one_by_one = decode(*(bytes([byte]) for byte in read))

    assert one_by_one == decode(read)
    assert one_by_one == [
        Text("a" * 200),
        Ping(b"between"),
        Text("€"),
        Close(1000, "bye"),
    ]


def test_frame_that_ends_inside_a_read_leaves_the_rest_for_the_next() -> None:
    first, second = client_frame(TEXT, b"first"), client_frame(TEXT, b"second")
    decoder = Decoder(LIMIT)

    events = decoder.feed(first + second[:9])
    later = decoder.feed(second[9:])

    assert (events, later) == ([Text("first")], [Text("second")])


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 7, 8, 9, 300])
def test_frame_without_its_last_byte_gives_nothing_yet(cut: int) -> None:
    frame = client_frame(TEXT, b"x" * 300)
    decoder = Decoder(LIMIT)

    assert decoder.feed(frame[:cut]) == []
    assert decoder.feed(frame[cut:]) == [Text("x" * 300)]


def test_empty_read_gives_nothing() -> None:
    assert decode(b"") == []


# What a frame's first two bytes may not be.


def test_unmasked_frame_is_a_violation() -> None:
    assert decode(b"\x81\x00") == [protocol_error("frame is not masked")]


@pytest.mark.parametrize("bit", [0x40, 0x20, 0x10])
def test_each_reserved_bit_is_a_violation(bit: int) -> None:
    assert decode(bytes([0x81 | bit, 0x80])) == [protocol_error("reserved bit set")]


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF])
def test_each_reserved_opcode_is_a_violation(opcode: int) -> None:
    assert decode(bytes([0x80 | opcode, 0x80])) == [
        protocol_error(f"reserved opcode {opcode:#x}")
    ]


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_fragmented_control_frame_is_a_violation(opcode: int) -> None:
    assert decode(bytes([opcode, 0x80])) == [
        protocol_error("control frame is fragmented")
    ]


@pytest.mark.parametrize("size", [126, 127])
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_control_frame_with_a_long_length_is_a_violation(
    opcode: int, size: int
) -> None:
    assert decode(bytes([0x80 | opcode, 0x80 | size])) == [
        protocol_error("control frame exceeds 125 bytes")
    ]


@pytest.mark.parametrize(("opcode", "event"), [(PING, Ping), (PONG, Pong)])
def test_control_frame_of_125_bytes_is_taken(
    opcode: int, event: type[Ping | Pong]
) -> None:
    assert decode(client_frame(opcode, b"p" * 125)) == [event(b"p" * 125)]


def test_continuation_without_a_start_is_a_violation() -> None:
    assert decode(bytes([0x80 | CONTINUATION, 0x80])) == [
        protocol_error("continuation without a message to continue")
    ]


def test_continuation_after_the_last_fragment_is_a_violation() -> None:
    read = (
        client_frame(TEXT, b"a", final=False)
        + client_frame(CONTINUATION, b"b")
        + client_frame(CONTINUATION, b"c")
    )

    assert decode(read) == [
        Text("ab"),
        protocol_error("continuation without a message to continue"),
    ]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("final", [True, False])
def test_new_message_inside_a_fragmented_one_is_a_violation(
    opcode: int, final: bool
) -> None:
    read = client_frame(TEXT, b"a", final=False)
    read += client_frame(opcode, b"b", final=final)

    assert decode(read) == [protocol_error("new message inside a fragmented one")]


# Lengths.


@pytest.mark.parametrize("size", [0, 1, 125])
def test_two_byte_length_that_fits_one_byte_is_a_violation(size: int) -> None:
    assert decode(b"\x81\xfe" + size.to_bytes(2, "big")) == [
        protocol_error("length is not written in the fewest bytes")
    ]


@pytest.mark.parametrize("size", [0, 125, 126, 65535])
def test_eight_byte_length_that_fits_two_bytes_is_a_violation(size: int) -> None:
    assert decode(b"\x81\xff" + size.to_bytes(8, "big")) == [
        protocol_error("length is not written in the fewest bytes")
    ]


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1])
def test_length_with_its_highest_bit_set_is_a_violation(size: int) -> None:
    assert decode(b"\x81\xff" + size.to_bytes(8, "big")) == [
        protocol_error("length has its highest bit set")
    ]


def test_largest_legal_length_is_too_big_and_nothing_is_kept() -> None:
    head = b"\x82\xff" + ((1 << 63) - 1).to_bytes(8, "big")

    assert decode(head) == [Violation(CloseCode.TOO_BIG, "message exceeds 70000 bytes")]


# The limit.


def test_message_of_exactly_the_limit_is_taken() -> None:
    assert decode(client_frame(TEXT, b"x" * 100), limit=100) == [Text("x" * 100)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_limit_is_judged_from_the_head_alone(opcode: int) -> None:
    # Neither mask nor payload has come.
    assert decode(bytes([0x80 | opcode, 0x80 | 101]), limit=100) == [
        Violation(CloseCode.TOO_BIG, "message exceeds 100 bytes")
    ]


@pytest.mark.parametrize(
    "head", [b"\x81\xfe\x04\x01", b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00"]
)
def test_limit_is_judged_from_a_longer_head_alone(head: bytes) -> None:
    decoder = Decoder(1024)

    before = decoder.feed(head[:-1])
    after = decoder.feed(head[-1:])

    assert (before, after) == (
        [],
        [Violation(CloseCode.TOO_BIG, "message exceeds 1024 bytes")],
    )


def test_limit_counts_all_fragments_of_a_message() -> None:
    read = client_frame(BINARY, b"x" * 60, final=False)
    read += client_frame(CONTINUATION, b"x" * 40, final=False)

    assert decode(read, bytes([0x80 | CONTINUATION, 0x81]), limit=100) == [
        Violation(CloseCode.TOO_BIG, "message exceeds 100 bytes")
    ]


def test_limit_counts_bytes_and_not_characters() -> None:
    read = client_frame(TEXT, "€€".encode(), final=False)

    assert decode(read, bytes([CONTINUATION, 0x80 | 3]), limit=8) == [
        Violation(CloseCode.TOO_BIG, "message exceeds 8 bytes")
    ]


def test_limit_counts_each_message_anew() -> None:
    message = client_frame(TEXT, b"x" * 60, final=False)
    message += client_frame(CONTINUATION, b"x" * 40)

    assert decode(message * 3, limit=100) == [Text("x" * 100)] * 3


def test_limit_does_not_count_control_frames() -> None:
    read = (
        client_frame(TEXT, b"abc", final=False)
        + client_frame(PING, b"p" * 125)
        + client_frame(CONTINUATION, b"d")
    )

    assert decode(read, limit=4) == [Ping(b"p" * 125), Text("abcd")]


# Fragments.


def test_fragmented_text_is_one_message() -> None:
    read = (
        client_frame(TEXT, b"Hel", final=False)
        + client_frame(CONTINUATION, b"", final=False)
        + client_frame(CONTINUATION, b"lo")
    )

    assert decode(read) == [Text("Hello")]


def test_fragmented_binary_is_one_message() -> None:
    read = (
        client_frame(BINARY, b"\xff", final=False)
        + client_frame(CONTINUATION, b"\xfe", final=False)
        + client_frame(CONTINUATION, b"\xfd")
    )

    assert decode(read) == [Binary(b"\xff\xfe\xfd")]


def test_message_of_empty_fragments_is_empty() -> None:
    read = client_frame(TEXT, final=False) + client_frame(CONTINUATION)

    assert decode(read) == [Text("")]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_empty_fragments_take_no_memory(opcode: int) -> None:
    decoder = Decoder(1024)
    decoder.feed(client_frame(opcode, final=False))
    read = client_frame(CONTINUATION, final=False) * 500
    tracemalloc.start()
    try:
        for _ in range(40):
            decoder.feed(read)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 50_000
    assert len(decoder.feed(client_frame(CONTINUATION, b"x"))) == 1


def test_control_frames_between_fragments_come_before_the_message() -> None:
    read = (
        client_frame(TEXT, b"a", final=False)
        + client_frame(PING, b"ping")
        + client_frame(CONTINUATION, b"b", final=False)
        + client_frame(PONG, b"pong")
        + client_frame(CONTINUATION, b"c")
    )

    assert decode(read) == [Ping(b"ping"), Pong(b"pong"), Text("abc")]


def test_close_between_fragments_ends_without_the_message() -> None:
    read = (
        client_frame(TEXT, b"a", final=False)
        + client_frame(CLOSE)
        + client_frame(CONTINUATION, b"b")
    )

    assert decode(read) == [Close(NO_STATUS, "")]


def test_text_and_binary_messages_of_fragments_do_not_mix() -> None:
    read = (
        client_frame(TEXT, b"a", final=False)
        + client_frame(CONTINUATION, b"b")
        + client_frame(BINARY, b"\xff", final=False)
        + client_frame(CONTINUATION, b"\xff")
        + client_frame(TEXT, b"c")
    )

    assert decode(read) == [Text("ab"), Binary(b"\xff\xff"), Text("c")]


# UTF-8.


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b"\x80",
        b"ok\xc0\x80",  # overlong
        b"\xed\xa0\x80",  # a surrogate
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
        b"\xe2\x82",  # cut off
    ],
)
def test_text_that_is_not_utf8_is_a_violation(payload: bytes) -> None:
    assert decode(client_frame(TEXT, payload)) == [BAD_TEXT]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_character_may_be_split_over_fragments(cut: int) -> None:
    encoded = "😀".encode()
    read = client_frame(TEXT, encoded[:cut], final=False)
    read += client_frame(CONTINUATION, encoded[cut:])

    assert decode(read) == [Text("😀")]


def test_character_may_be_split_over_three_fragments() -> None:
    encoded = "€".encode()
    read = (
        client_frame(TEXT, encoded[:1], final=False)
        + client_frame(CONTINUATION, encoded[1:2], final=False)
        + client_frame(CONTINUATION, encoded[2:])
    )

    assert decode(read) == [Text("€")]


def test_invalid_text_is_a_violation_at_the_fragment_that_shows_it() -> None:
    read = client_frame(TEXT, b"\xe2", final=False)
    read += client_frame(CONTINUATION, b"\x28", final=False)

    assert decode(read) == [BAD_TEXT]


def test_invalid_first_fragment_is_a_violation_at_once() -> None:
    assert decode(client_frame(TEXT, b"\xff", final=False)) == [BAD_TEXT]


def test_fragmented_text_that_ends_inside_a_character_is_a_violation() -> None:
    read = client_frame(TEXT, b"a", final=False)
    read += client_frame(CONTINUATION, b"\xe2\x82")

    assert decode(read) == [BAD_TEXT]


# Close.


def test_close_without_payload_has_no_status() -> None:
    assert decode(client_frame(CLOSE)) == [Close(1005, "")]


def test_close_of_one_byte_is_a_violation() -> None:
    assert decode(client_frame(CLOSE, b"\x03")) == [
        protocol_error("close code is cut off")
    ]


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
)
def test_close_with_a_code_for_the_wire_is_taken(code: int) -> None:
    assert decode(client_frame(CLOSE, code.to_bytes(2, "big"))) == [Close(code, "")]


@pytest.mark.parametrize(
    "code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535]
)
def test_close_with_any_other_code_is_a_violation(code: int) -> None:
    assert decode(client_frame(CLOSE, code.to_bytes(2, "big"))) == [
        protocol_error(f"close code {code} is not valid")
    ]


def test_close_carries_its_reason() -> None:
    payload = b"\x0f\xa1" + "until spätér".encode()

    assert decode(client_frame(CLOSE, payload)) == [Close(4001, "until spätér")]


def test_close_reason_of_123_bytes_is_taken() -> None:
    assert decode(client_frame(CLOSE, b"\x03\xe8" + b"r" * 123)) == [
        Close(1000, "r" * 123)
    ]


def test_close_reason_that_is_not_utf8_is_a_violation() -> None:
    assert decode(client_frame(CLOSE, b"\x03\xe8\xff")) == [BAD_TEXT]


# After the end.


def test_events_before_a_violation_in_the_same_read_are_returned() -> None:
    read = client_frame(TEXT, b"kept") + client_frame(PING, b"too") + b"\x81\x00"

    assert decode(read) == [
        Text("kept"),
        Ping(b"too"),
        protocol_error("frame is not masked"),
    ]


def test_nothing_counts_after_a_close() -> None:
    decoder = Decoder(LIMIT)

    events = decoder.feed(client_frame(CLOSE) + client_frame(TEXT, b"late"))
    later = decoder.feed(client_frame(TEXT, b"later"))

    assert (events, later) == ([Close(1005, "")], [])


def test_nothing_counts_after_a_violation() -> None:
    decoder = Decoder(LIMIT)

    events = decoder.feed(b"\x81\x00" + client_frame(TEXT, b"late"))
    later = decoder.feed(client_frame(TEXT, b"later"))

    assert (events, later) == ([protocol_error("frame is not masked")], [])


def test_a_second_violation_is_not_told() -> None:
    decoder = Decoder(LIMIT)

    decoder.feed(b"\x81\x00")

    assert decoder.feed(b"\x81\x00") == []


# Encoding.


def test_text_of_the_rfc_is_encoded() -> None:
    # RFC 6455, 5.7.
    assert encode_text(b"Hello") == bytes.fromhex("810548656c6c6f")


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8100"),
        (125, "817d"),
        (126, "817e007e"),
        (65535, "817effff"),
        (65536, "817f0000000000010000"),
    ],
)
def test_text_of_every_length_form_is_encoded(size: int, head: str) -> None:
    assert encode_text(b"x" * size) == bytes.fromhex(head) + b"x" * size


def test_ping_is_encoded() -> None:
    assert encode_ping() == b"\x89\x00"
    assert encode_ping(b"Hello") == b"\x89\x05Hello"


def test_pong_is_encoded() -> None:
    assert encode_pong(b"p" * 125) == b"\x8a\x7d" + b"p" * 125


def test_close_is_encoded_with_code_and_reason() -> None:
    assert encode_close(CloseCode.RESTART, "restart") == b"\x88\x09\x03\xf4restart"


def test_close_without_reason_is_encoded_with_the_code_alone() -> None:
    assert encode_close(1000) == b"\x88\x02\x03\xe8"


def test_close_without_status_is_encoded_empty() -> None:
    assert encode_close(NO_STATUS, "not sent") == b"\x88\x00"


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("a" * 123, "a" * 123),
        ("a" * 124, "a" * 123),
        ("€" * 41, "€" * 41),
        ("a" + "€" * 41, "a" + "€" * 40),
        ("😀" * 31, "😀" * 30),
    ],
)
def test_close_reason_is_cut_at_a_character(reason: str, sent: str) -> None:
    payload = b"\x03\xe8" + sent.encode()

    assert encode_close(1000, reason) == bytes([0x88, len(payload)]) + payload


# So many at a time.


def test_no_more_is_decoded_than_is_asked_for() -> None:
    decoder = Decoder(LIMIT)
    data = b"".join(client_frame(TEXT, b"%d" % n) for n in range(5))

    found = [decoder.feed(data, 2), decoder.feed(b"", 2), decoder.feed(b"", 2)]

    assert found == [[Text("0"), Text("1")], [Text("2"), Text("3")], [Text("4")]]


def test_bytes_that_come_meanwhile_stand_behind() -> None:
    decoder = Decoder(LIMIT)

    found = [
        decoder.feed(client_frame(TEXT, b"0") + client_frame(TEXT, b"1"), 0),
        decoder.feed(client_frame(TEXT, b"2"), 1),
        decoder.feed(b"", None),
    ]

    assert found == [[], [Text("0")], [Text("1"), Text("2")]]


def test_fewer_than_none_is_none() -> None:
    decoder = Decoder(1000)

    assert decoder.feed(client_frame(TEXT, b"0"), -1) == []
    assert decoder.feed(b"", 1) == [Text("0")]


def test_frames_are_counted_also_where_they_complete_nothing() -> None:
    decoder = Decoder(LIMIT)
    data = client_frame(TEXT, b"a", final=False) + client_frame(PING)

    counts = []
    for part in (data, client_frame(CONTINUATION)[:3], b""):
        decoder.feed(part)
        counts.append(decoder.frames)

    assert counts == [2, 0, 0]


def test_frame_that_breaks_the_protocol_ends_it_when_its_turn_comes() -> None:
    decoder = Decoder(LIMIT)
    data = client_frame(TEXT, b"0") + b"\x81\x00"

    first, second = decoder.feed(data, 1), decoder.feed(b"", 1)

    assert first == [Text("0")]
    assert [type(event) for event in second] == [Violation]
