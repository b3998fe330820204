"""The runner of the cases: it must see what a server does wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from conformance.peer import Frame, Peer, encode
from conformance.script import CaseError, parse
from conformance.steps import Close, End, Error, Message, Payload, Refused, Status, Step

HEARTBEAT = encode(1, b'{"type":"heartbeat"}', key=None) + encode(9, key=None)
PONG = encode(10, b"a", key=None)

Pair = tuple[socket.socket, Peer]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A server's socket, and the peer connected to it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield theirs, Peer(ours)


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        (encode(1, b"{}"), "masks"),
        (encode(1, b"{}", key=None, first_bits=0), "FIN alone"),
        (encode(10, b"", key=None, first_bits=0xC0), "FIN alone"),
        (encode(0, b"", key=None), "opcode"),
        (encode(3, b"", key=None), "opcode"),
        (encode(10, b"a" * 10, key=None, length_bytes=2), "fewest bytes"),
        (encode(10, b"a" * 300, key=None, length_bytes=8), "fewest bytes"),
        (encode(1, b"[]", key=None), "text"),
        (encode(1, b'{"type":"heartbeat"}', key=None) + PONG, "ping was expected"),
        (b"\x8a\x05ab", "ended"),
        (b"", "ended"),
    ],
)
def test_frame_that_breaks_the_rules_is_seen(
    pair: Pair, wire: bytes, complaint: str
) -> None:
    server, peer = pair
    server.sendall(wire)
    server.shutdown(socket.SHUT_WR)

    with pytest.raises(AssertionError, match=complaint):
        peer.frame()


@pytest.mark.parametrize(
    ("payload", "error"), [(b"{", ValueError), (b'"\xff"', UnicodeDecodeError)]
)
def test_text_that_is_none_is_seen(
    pair: Pair, payload: bytes, error: type[Exception]
) -> None:
    server, peer = pair
    server.sendall(encode(1, payload, key=None))

    with pytest.raises(error):
        peer.frame()


def test_heartbeats_are_left_out(pair: Pair) -> None:
    server, peer = pair
    server.sendall(HEARTBEAT + HEARTBEAT + PONG + HEARTBEAT)
    server.shutdown(socket.SHUT_WR)

    assert peer.frame() == Frame("pong", b"a")
    peer.end(within=1)


@pytest.mark.parametrize(
    ("wire", "step", "complaint"),
    [
        (PONG, Payload("pong", b"b"), "was expected"),
        (PONG, Message({"type": "pong"}), "text frame was expected"),
        (encode(1, b'{"type":"a"}', key=None), Message({"type": "b"}), "not text"),
        (encode(1, b'{"type":"a"}', key=None), Message({"type": "a"}, 9), "12 bytes"),
        (encode(1, b'{"type":"error"}', key=None), Error("x", None), "expected"),
        (encode(8, b"\x03\xe8", key=None), Close(1002, None), "not close 1000"),
        (encode(8, b"\x03\xe8a", key=None), Close(1000, ""), "not close 1000 b'a'"),
        (encode(8, b"\x03\xe8", key=None), Close(None, None), "without a code"),
        (encode(8, b"", key=None), Close(1000, None), "not close b''"),
        (PONG, Close(1000, None), "not pong"),
        (PONG, End(within=1), "the end was expected"),
        (b"", End(within=1, after=0.5), "already"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Status(400, ""), "200 came"),
        (b"HTTP/1.1 400 No\r\nA: 1\r\nA: 1\r\n\r\n", Status(400, ""), "stands twice"),
        (b"HTTP/1.1 400 No\r\nA: 1", Status(400, ""), "ended"),
        (b"", Refused(), "ended"),
    ],
)
def test_step_sees_what_is_not_as_expected(
    pair: Pair, wire: bytes, step: Step, complaint: str
) -> None:
    server, peer = pair
    server.sendall(wire)
    server.shutdown(socket.SHUT_WR)

    with pytest.raises(AssertionError, match=complaint):
        step.play(peer)


def test_end_that_does_not_come_is_seen(pair: Pair) -> None:
    server, peer = pair
    server.sendall(encode(8, b"\x03\xe8", key=None))
    Close(1000, "").play(peer)

    with pytest.raises(AssertionError, match="nothing came in time"):
        End(within=0.05).play(peer)


# The language.


def test_case_that_does_not_end_itself_is_ended_by_a_close_handshake() -> None:
    [case] = parse('== a ping\n> ping "a"\n< pong "a"\n', "some.txt")

    played = [type(step).__name__ for _, step in case.steps]
    assert played == "Send Status Welcome Send Payload Send Close End".split()


def test_table_makes_a_case_of_each_row() -> None:
    cases = parse("== code $code\n| code\n| 1\n| 2\n> close $code\n< close 1002\n", "x")

    assert [case.name for case in cases] == ["code 1", "code 2"]
    assert cases[1].steps[3][1].data[-2:] == bytes([0x37, 0xFA ^ 2])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "> pong 'unclosed",
        "> pang",
        "> ping nonsense",
        "> ping wrong=1",
        ">> ping",
        "< pang",
        "set Host: a",
        "status abc",
        "| a\n| b | c\n> ping",
        "> ping $missing\n| a\n| b",
        "> ping\n== a case\n> ping",
    ],
)
def test_line_that_means_nothing_is_an_error_that_names_the_file(text: str) -> None:
    with pytest.raises(CaseError, match=r"^some\.txt"):
        parse(f"== a case\n{text}\n", "some.txt")
