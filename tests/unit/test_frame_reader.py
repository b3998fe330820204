"""What a client sends: how much is read, when, and what it costs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import gevent
import pytest

from bridge.clients import frame_reader as module
from bridge.clients.frame_reader import FRAMES_PER_TURN, FrameReader
from bridge.values.limits import Rate
from bridge.wire import native
from bridge.wire.frames import Close, Event, Ping, Text
from unit.doubles import CLOSE, PING, PONG, TEXT, client_frame, connection_options
from unit.loop import TIMEOUT, run_until

UNLIMITED = Rate(per_second=0, burst=0)
NEVER = Rate(per_second=0.01, burst=10)
"""Ten, and then nothing for as long as a test takes."""


class Peer(FrameReader):
    """Both ends of a connection, and what was read.

    Args:
        tcp: a TCP connection instead of a Unix one.
    """

    codec = native

    def __init__(self, rate: Rate, *, tcp: bool = False) -> None:
        self.near, self.far = _tcp_pair() if tcp else socket.socketpair()
        self.near.setblocking(False)
        super().__init__(connection_options(None, rate), self.near, None, "")
        self.events: list[Event] = []
        #: Called with each event.
        self.on_event: Callable[[Event], None] = lambda event: None

    def _handle(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def _say_goodbye(self, code: int, reason: str) -> None:
        raise AssertionError("nobody closes it")

    def _end(self) -> None:
        self._stop_reading()

    def send(self, data: bytes) -> None:
        self.far.sendall(data)

    def wait_for(self, count: int) -> None:
        run_until(lambda: len(self.events) >= count)

    def close(self) -> None:
        self._stop_reading()
        self.near.close()
        self.far.close()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    return near, far


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(rate: Rate = UNLIMITED, *, tcp: bool = False) -> Peer:
        made.append(Peer(rate, tcp=tcp))
        return made[-1]

    yield make
    for one in made:
        one.close()


def pass_time(seconds: float) -> None:
    until = time.monotonic() + seconds
    run_until(lambda: time.monotonic() > until)


def test_what_is_sent_is_handed_on_in_order(peer: Callable[..., Peer]) -> None:
    one = peer()
    one._read()
    one.send(client_frame(PING, b"1") + client_frame(TEXT, b"2"))
    one.send(client_frame(PING, b"3"))

    one.wait_for(3)

    assert one.events == [Ping(b"1"), Text("2"), Ping(b"3")]


def test_what_came_with_the_handshake_comes_first(peer: Callable[..., Peer]) -> None:
    one = peer()
    one.send(client_frame(TEXT, b"2"))

    one._read(client_frame(TEXT, b"1"))
    one.wait_for(2)

    assert one.events == [Text("1"), Text("2")]


def test_many_frames_are_handed_on_a_turn_of_the_loop_at_a_time(
    peer: Callable[..., Peer],
) -> None:
    one = peer()
    sizes: list[int] = []
    one._read()
    one.send(client_frame(PING) * (2 * FRAMES_PER_TURN + 1))

    turns = gevent.get_hub().loop.check()
    turns.start(lambda: sizes.append(len(one.events)))
    one.wait_for(2 * FRAMES_PER_TURN + 1)
    turns.stop()
    turns.close()

    assert sizes[-1] <= 2 * FRAMES_PER_TURN + 1
    assert {FRAMES_PER_TURN, 2 * FRAMES_PER_TURN} <= set(sizes)


def test_client_beyond_its_rate_is_read_later(peer: Callable[..., Peer]) -> None:
    one = peer(Rate(per_second=20, burst=10))
    one._read()
    began = time.monotonic()
    one.send(client_frame(PING) * 15)

    one.wait_for(15)

    assert len(one.events) == 15
    assert time.monotonic() - began > 0.24


def test_what_is_not_paid_for_stays_where_it_is(peer: Callable[..., Peer]) -> None:
    one = peer(NEVER)
    one._read()
    one.far.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += one.far.send(client_frame(TEXT) * 1000)
            pass_time(0.01)

    assert len(one.events) == 10
    # One read, and what the kernel keeps.
    assert len(one._decoder._buffer) <= module.READ_BYTES


@pytest.mark.parametrize("opcode", [PING, PONG, TEXT])
def test_every_kind_of_frame_counts(peer: Callable[..., Peer], opcode: int) -> None:
    one = peer(NEVER)
    one._read()

    one.send(client_frame(opcode) * 11)
    one.wait_for(10)
    pass_time(0.05)

    assert len(one.events) == 10


def test_bytes_that_come_one_by_one_count(peer: Callable[..., Peer]) -> None:
    one = peer(NEVER)
    one._read()
    frame = client_frame(TEXT, b"x" * 50)
    reads = 0
    for index in range(len(frame)):
        before = one._full_at
        one.send(frame[index : index + 1])
        pass_time(0.002)
        reads += one._full_at != before

    assert reads == 10
    assert one.events == []


def test_client_within_its_rate_has_no_timer(peer: Callable[..., Peer]) -> None:
    one = peer(NEVER)
    one._read()

    one.send(client_frame(PONG) * 9)
    one.wait_for(9)

    assert one._is_read
    assert one._reading.pauses == {}


def test_handler_that_waits_is_not_overtaken(peer: Callable[..., Peer]) -> None:

    one = peer()
    seen: list[str] = []

    def wait(event: Event) -> None:
        if isinstance(event, Text):
            gevent.sleep(0.01)
        seen.append(type(event).__name__)

    one.on_event = wait
    one._read()
    one.send(client_frame(TEXT) + client_frame(PING))
    run_until(lambda: len(one.events) == 1)
    one.send(client_frame(PING))
    run_until(lambda: len(seen) == 3)

    assert seen == ["Text", "Ping", "Ping"]


# Whether it can be heard.


def test_client_that_is_read_can_be_silent(peer: Callable[..., Peer]) -> None:
    one = peer()
    one._read()
    one._silent = 2

    assert one._is_read
    one.send(client_frame(PONG))
    one.wait_for(1)

    assert (one._is_read, one._silent) == (True, 0)


def test_client_beyond_its_rate_cannot_be_heard(peer: Callable[..., Peer]) -> None:
    one = peer(NEVER)
    one._read()
    one.send(client_frame(PONG) * 11)
    one.wait_for(10)

    assert not one._is_read


# The end.


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_end_behind_a_flood_is_noticed(
    peer: Callable[..., Peer], tcp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PAUSE", 0.1)
    one = peer(NEVER, tcp=tcp)
    one._read()
    one.send(client_frame(PONG) * 100)
    one.wait_for(10)

    one.far.close()
    run_until(lambda: one._ended)

    assert len(one.events) == 10


def test_end_behind_what_is_paid_for_loses_nothing(peer: Callable[..., Peer]) -> None:
    one = peer()
    one._read()
    one.send(client_frame(PING) * 3 * FRAMES_PER_TURN)
    one.far.shutdown(socket.SHUT_WR)

    run_until(lambda: one._ended)

    assert len(one.events) == 3 * FRAMES_PER_TURN


def test_client_that_is_not_read_must_acknowledge(peer: Callable[..., Peer]) -> None:
    one = peer(NEVER, tcp=True)
    one._read()
    option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    before = one.near.getsockopt(*option)
    one.send(client_frame(PONG) * 11)
    one.wait_for(10)

    assert (before, one.near.getsockopt(*option)) == (0, 1000 * TIMEOUT)


def test_close_is_found_behind_a_flood_once_the_limit_is_lifted(
    peer: Callable[..., Peer],
) -> None:
    one = peer(NEVER)
    one._read()
    one.send(client_frame(PONG) * 3000 + client_frame(CLOSE))
    one.wait_for(10)

    one._lift_limit()
    one.wait_for(3001)

    assert isinstance(one.events[-1], Close)


def test_limit_that_is_lifted_by_a_handler_holds_nothing_up(
    peer: Callable[..., Peer],
) -> None:
    one = peer(NEVER)
    one.on_event = lambda event: one._lift_limit()
    one._read()

    one.send(client_frame(TEXT) * 200)
    one.wait_for(200)

    assert len(one.events) == 200


@pytest.mark.parametrize("rate", [UNLIMITED, NEVER])
def test_reader_that_was_stopped_reads_nothing(
    peer: Callable[..., Peer], rate: Rate
) -> None:
    one = peer(rate)
    one.on_event = lambda event: one._stop_reading()
    one._read()

    one.send(client_frame(TEXT))
    one.wait_for(1)
    one.send(client_frame(TEXT) * 100)
    pass_time(0.05)

    assert len(one.events) == 1


def test_reader_that_is_stopped_in_a_pause_reads_nothing(
    peer: Callable[..., Peer],
) -> None:
    one = peer(Rate(per_second=20, burst=1))
    one._read()
    one.send(client_frame(TEXT) * 10)
    one.wait_for(1)

    one._stop_reading()
    one._stop_reading()
    one._lift_limit()
    assert one._reading.pauses == {}
    pass_time(0.3)

    assert len(one.events) == 1
