"""Chunks to a real socket: order, a bounded backlog, and giving up."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
import pytest

from bridge.clients.outlet import Outlet, OutletOptions, write_all
from bridge.core.subscription import Before, Mark, Subscription
from bridge.values.errors import CloseCode
from bridge.values.message import Batch, Pong
from bridge.wire import frames, native
from unit.doubles import messages
from unit.loop import TIMEOUT, run_until

LIMIT = 1_000_000
HEAD = frames.encode_text(b"h" * 400_000)
"""More than the kernel takes at once, less than the limit."""


class Line:
    """An outlet, and the socket of its peer.

    Args:
        at_once: notifications are written as to many subscriptions.
    """

    def __init__(self, limit: int, write_timeout: float, at_once: bool) -> None:
        self._at_once = at_once
        self.near, self.far = socket.socketpair()
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.failures: list[CloseCode | None] = []
        #: Bytes of the head that waited when it was written.
        self._head = 0
        #: Of the last notification: before then everything has come.
        self._seconds = 1700000000.0
        self.outlet = Outlet(
            self.near, OutletOptions(limit, write_timeout), self.failures.append
        )

    def close(self) -> None:
        self.outlet.stop()
        self.near.close()
        self.far.close()

    def fill_the_kernel(self) -> int:
        """Send past the outlet until nothing more is taken; return how much."""
        sent = 0
        while True:
            try:
                sent += self.near.send(b"\0" * 4096)
            except BlockingIOError:
                return sent

    def available(self, most: int = 1 << 20) -> bytes:
        """Read what has come, which may be nothing."""
        try:
            return self.far.recv(most)
        except BlockingIOError:
            return b""

    def read(self, size: int) -> bytes:
        """Read so many bytes, and check that there are no more."""
        parts = bytearray()

        def enough() -> bool:
            parts.extend(self.available())
            return len(parts) >= size

        run_until(enough)
        assert len(parts) == size
        return bytes(parts)

    def read_all(self) -> bytes:
        """Read until everything that was written has come."""
        parts = bytearray()

        def done() -> bool:
            parts.extend(self.available())
            return self.outlet.backlog_bytes == 0

        run_until(done)
        while more := self.available():
            parts.extend(more)
        return bytes(parts)

    def subscription(self, channel: str) -> Subscription:
        return Subscription(channel, codec=native, outlet=self.outlet)

    def durable(self, channel: str) -> Durable:
        return Durable(self.subscription(channel))

    def write(
        self,
        chunk: bytes,
        owner: Subscription | None = None,
        before: Before = None,
    ) -> None:
        """Write; the first chunk that waits is the head."""
        idle = self.outlet.backlog_bytes == 0
        if owner is not None and self._at_once:
            write_all([owner], chunk, before)
        else:
            self.outlet.write(chunk, owner, before)
        if idle:
            self._head = self.outlet.backlog_bytes

    @property
    def behind(self) -> int:
        """Bytes behind the head, as long as nothing is read."""
        return self.outlet.backlog_bytes - self._head

    def notify(self, owner: Subscription, text: str) -> float:
        """Write a notification; returns the time before which all has come."""
        self._seconds += 1
        [chunk] = native.encode_batch(Batch(owner.channel, (text,)))
        self.write(chunk, owner, self._seconds)
        return self._seconds

    def say(self, id: str) -> None:
        """Write what may not be dropped."""
        self.write(native.encode(Pong(id)))

    def fill(self, owner: Subscription) -> float:
        """Make the backlog full to its last byte with one notification."""
        frame = len('{"type":"notification","channel":"","text":""}') + 10
        room = LIMIT - self.behind
        at = self.notify(owner, "x" * (room - frame - len(owner.channel)))
        assert self.behind == LIMIT
        return at


class Durable:
    """A subscription that follows the journal, until it falls behind."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        subscription.go_back = self._go_back
        #: The positions that it went back to.
        self.back: list[int] = []
        #: How many chunks were dropped.
        self.dropped = 0

    def _go_back(self, subscription: Subscription, marks: Sequence[Mark]) -> None:
        assert subscription is self.subscription
        self.back.append(marks[0].position)
        self.dropped += len(marks)
        subscription.follows = False

    def entry(self, line: Line, position: int, text: str) -> None:
        """Write an entry of the journal."""
        channel = self.subscription.channel
        [chunk] = native.encode_batch(Batch(channel, (text,), (f"e1-{position}",)))
        line.write(chunk, self.subscription, Mark(1, position - 1))


@pytest.fixture(params=[False, True], ids=["one", "all"])
def line(request: pytest.FixtureRequest) -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(limit: int = LIMIT, write_timeout: float = TIMEOUT) -> Line:
        made.append(Line(limit, write_timeout, request.param))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., Line]


def notification(channel: str, text: str) -> dict[str, Any]:
    return {"type": "notification", "channel": channel, "text": text}


def pong(id: str) -> dict[str, Any]:
    return {"type": "pong", "id": id}


def gap(channel: str) -> dict[str, Any]:
    return {"type": "gap", "channel": channel, "reason": "slow", "reload_window": 1.0}


def after_head(data: bytes) -> tuple[list[dict[str, Any]], list[float]]:
    """The messages behind the head; the `since` of their gaps apart."""
    assert data[: len(HEAD)] == HEAD
    found = messages(data[len(HEAD) :])
    return found, [m.pop("since") for m in found if m["type"] == "gap"]


# In order.


def test_chunk_that_the_kernel_takes_leaves_at_once(line: Make) -> None:
    a = line()

    a.outlet.write(b"hello")

    assert a.available() == b"hello"
    assert (a.outlet.backlog_bytes == 0, a.outlet.backlog_bytes) == (True, 0)


def test_empty_chunk_is_nothing(line: Make) -> None:
    a = line()

    a.outlet.write(b"")

    assert a.outlet.backlog_bytes == 0
    assert a.available() == b""


def test_what_the_kernel_does_not_take_waits_and_follows(line: Make) -> None:
    a = line()

    a.outlet.write(HEAD)
    waiting = a.outlet.backlog_bytes
    came = a.available()

    assert a.outlet.backlog_bytes > 0
    assert 0 < waiting < len(HEAD)
    assert came + a.read(len(HEAD) - len(came)) == HEAD
    assert waiting == len(HEAD) - len(came)
    assert (a.outlet.backlog_bytes == 0, a.outlet.backlog_bytes) == (True, 0)


def test_chunk_of_which_the_kernel_takes_nothing_waits_whole(line: Make) -> None:
    a = line()
    filled = a.fill_the_kernel()

    a.outlet.write(b"hello")

    assert a.outlet.backlog_bytes == 5
    assert a.read(filled + 5)[filled:] == b"hello"


def test_chunks_of_all_sizes_arrive_in_the_order_they_were_written(
    line: Make,
) -> None:
    a = line(limit=1 << 30)
    chunks = [bytes([number % 256]) * (number * 7919 % 50_000) for number in range(300)]

    for chunk in chunks:
        a.outlet.write(chunk)

    assert a.read_all() == b"".join(chunks)
    assert a.failures == []


def test_chunks_written_while_others_wait_come_after_them(line: Make) -> None:
    a = line()
    received = b""
    written = b""

    for number in range(20):
        chunk = bytes([number]) * 40_000
        written += chunk
        a.outlet.write(chunk)
        received += a.available(30_000)
        gevent.sleep(0)

    assert received + a.read_all() == written


def test_outlet_is_direct_again_after_its_backlog(line: Make) -> None:
    a = line()
    a.outlet.write(HEAD)
    a.read_all()

    a.outlet.write(b"direct")

    assert a.outlet.direct == a.near.send
    assert a.outlet.backlog_bytes == 0
    assert a.available() == b"direct"


def test_more_chunks_than_one_turn_writes_are_all_written(line: Make) -> None:
    a = line()
    small = [b"%03d" % number for number in range(1000)]
    a.outlet.write(HEAD)

    for chunk in small:
        a.outlet.write(chunk)

    assert a.read_all() == HEAD + b"".join(small)


def test_chunk_larger_than_the_limit_is_written_whole(line: Make) -> None:
    a = line(limit=16_384)

    a.outlet.write(HEAD)

    assert a.read_all() == HEAD
    assert a.failures == []


# A full backlog.


def test_backlog_that_is_full_to_its_last_byte_loses_nothing(line: Make) -> None:
    a = line()
    owner = a.subscription("a")
    a.write(HEAD)

    a.notify(owner, "1")
    a.fill(owner)

    found, _ = after_head(a.read_all())
    assert found[0] == notification("a", "1")
    assert [message["type"] for message in found] == ["notification"] * 2


def test_full_backlog_drops_what_is_not_begun_and_leaves_a_gap(line: Make) -> None:
    a = line()
    owner = a.subscription("a")
    a.write(HEAD)
    at = a.notify(owner, "dropped")
    a.fill(owner)

    a.notify(owner, "next")

    found, [since] = after_head(a.read_all())
    assert found == [gap("a"), notification("a", "next")]
    assert since == at
    assert a.failures == []


def test_each_gap_stands_where_the_last_notification_of_its_owner_stood(
    line: Make,
) -> None:
    a = line()
    one, other, filler = (a.subscription(name) for name in ("one", "other", "f"))
    a.write(HEAD)
    a.notify(one, "1")
    a.say("first")
    a.notify(other, "1")
    a.say("second")
    a.notify(one, "2")
    a.say("third")
    a.fill(filler)

    a.notify(other, "next")

    found, _ = after_head(a.read_all())
    assert found == [
        pong("first"),
        gap("other"),
        pong("second"),
        gap("one"),
        pong("third"),
        gap("f"),
        notification("other", "next"),
    ]


def test_what_belongs_to_nobody_is_kept_in_order(line: Make) -> None:
    a = line()
    owner = a.subscription("a")
    a.write(HEAD)
    for number in range(10):
        a.say(str(number))
    a.fill(owner)

    a.say("last")

    found, _ = after_head(a.read_all())
    assert found == [
        *(pong(str(number)) for number in range(10)),
        gap("a"),
        pong("last"),
    ]


def test_notification_that_is_begun_is_finished(line: Make) -> None:
    a = line()
    owner = a.subscription("a")
    a.write(HEAD, owner)
    a.fill(owner)

    a.notify(owner, "next")

    found, _ = after_head(a.read_all())
    assert found == [gap("a"), notification("a", "next")]


def test_head_of_which_no_byte_is_written_counts_as_begun(line: Make) -> None:
    # TLS may hold it, encrypted, and takes nothing else before it.
    a = line()
    owner = a.subscription("a")
    filled = a.fill_the_kernel()
    a.notify(owner, "begun")
    a.fill(owner)

    a.notify(owner, "next")

    found = messages(a.read_all()[filled:])
    assert found[0] == notification("a", "begun")
    assert [message["type"] for message in found] == [
        "notification",
        "gap",
        "notification",
    ]


def test_one_who_left_the_channel_gets_no_gap(line: Make) -> None:
    a = line()
    left, stays = a.subscription("left"), a.subscription("stays")
    a.write(HEAD)
    a.notify(left, "1")
    a.say("unsubscribed")
    a.fill(stays)
    left.end()

    a.notify(stays, "next")

    found, _ = after_head(a.read_all())
    assert found == [pong("unsubscribed"), gap("stays"), notification("stays", "next")]


def test_second_subscription_of_a_channel_has_a_gap_of_its_own(line: Make) -> None:
    a = line()
    first = a.subscription("a")
    a.write(HEAD)
    a.notify(first, "1")
    first.end()
    second = a.subscription("a")
    a.say("subscribed")
    a.notify(second, "2")
    a.fill(second)

    a.notify(second, "3")

    found, _ = after_head(a.read_all())
    assert found == [pong("subscribed"), gap("a"), notification("a", "3")]


def test_backlog_that_is_full_again_leaves_one_gap_since_the_first(
    line: Make,
) -> None:
    a = line()
    owner = a.subscription("a")
    a.write(HEAD)
    at = a.fill(owner)
    for _ in range(3):
        a.notify(owner, "dropped too")
        a.say("kept")
        a.fill(owner)

    a.notify(owner, "next")

    found, sinces = after_head(a.read_all())
    assert found == [
        *[pong("kept")] * 3,
        gap("a"),
        notification("a", "next"),
    ]
    assert sinces == [at]


def test_backlog_counts_its_gaps(line: Make) -> None:
    a = line()
    owner = a.subscription("a")
    a.write(HEAD)
    a.fill(owner)

    a.notify(owner, "next")

    behind = a.behind
    found = a.read_all()[len(HEAD) :]
    assert [message["type"] for message in messages(found)] == ["gap", "notification"]
    assert behind == len(found)


def test_head_does_not_count_against_the_limit(line: Make) -> None:
    a = line(limit=16_384)
    owner = a.subscription("a")
    a.write(HEAD, owner)
    for text in ("1", "2", "3"):
        a.notify(owner, text)

    for letter in "xyz":
        a.notify(owner, letter * 16_000)

    found, _ = after_head(a.read_all())
    assert found == [gap("a"), notification("a", "z" * 16_000)]
    assert a.failures == []


def test_notification_that_never_fits_becomes_its_owners_gap(line: Make) -> None:
    a = line()
    owner, other = a.subscription("a"), a.subscription("b")
    a.write(HEAD)
    a.notify(other, "dropped")
    a.write(frames.encode_text(b'{"type":"pong"}' + b" " * (LIMIT - 300)))
    at = a.notify(owner, "x" * 1000)

    a.notify(owner, "y" * 1000)

    found, sinces = after_head(a.read_all())
    assert found == [gap("b"), {"type": "pong"}, gap("a")]
    assert sinces[1] == at
    assert a.failures == []


def test_single_chunk_behind_the_head_may_be_larger_than_the_limit(
    line: Make,
) -> None:
    a = line(limit=16_384)
    owner = a.subscription("a")
    a.write(HEAD)

    a.notify(owner, "x" * 20_000)

    found, _ = after_head(a.read_all())
    assert found == [notification("a", "x" * 20_000)]
    assert a.failures == []


# Durable channels.


def entry(position: int, text: str) -> dict[str, Any]:
    return notification("a", text) | {"cursor": f"e1-{position}"}


def test_entries_that_wait_follow_like_notifications(line: Make) -> None:
    a = line()
    durable = a.durable("a")
    a.write(HEAD)

    for position in (1, 2):
        durable.entry(a, position, "x")

    found, _ = after_head(a.read_all())
    assert found == [entry(1, "x"), entry(2, "x")]
    assert durable.back == []


def test_full_backlog_takes_a_durable_subscription_back_and_leaves_no_gap(
    line: Make,
) -> None:
    a = line()
    durable = a.durable("a")
    a.write(HEAD)
    durable.entry(a, 7, "dropped")
    durable.entry(a, 9, "x" * (LIMIT - 500))

    durable.entry(a, 12, "read again " + "y" * 500)

    assert durable.back == [6]
    assert a.behind == 0
    assert after_head(a.read_all()) == ([], [])
    assert a.failures == []


def test_durable_entry_that_is_begun_is_finished(line: Make) -> None:
    a = line()
    durable = a.durable("a")
    durable.entry(a, 7, "x" * 400_000)
    durable.entry(a, 8, "y" * (LIMIT - 500))

    durable.entry(a, 9, "z" * 500)

    assert durable.back == [7]
    assert messages(a.read_all()) == [entry(7, "x" * 400_000)]


def test_each_durable_subscription_goes_back_to_what_it_has(line: Make) -> None:
    a = line()
    one, other, plain = a.durable("one"), a.durable("other"), a.subscription("a")
    a.write(HEAD)
    one.entry(a, 3, "x")
    other.entry(a, 5, "x")
    a.say("kept")
    one.entry(a, 8, "x")
    a.fill(plain)

    a.notify(plain, "next")

    assert (one.back, other.back) == ([2], [4])
    found, _ = after_head(a.read_all())
    assert found == [pong("kept"), gap("a"), notification("a", "next")]


def test_durable_subscription_goes_back_once(line: Make) -> None:
    a = line()
    durable, plain = a.durable("a"), a.subscription("b")
    a.write(HEAD)
    durable.entry(a, 7, "x")
    for _ in range(3):
        a.fill(plain)

        a.notify(plain, "next")

    assert durable.back == [6]


def test_durable_subscription_that_left_does_not_go_back(line: Make) -> None:
    a = line()
    left, plain = a.durable("left"), a.subscription("a")
    a.write(HEAD)
    left.entry(a, 3, "x")
    a.fill(plain)
    left.subscription.end()

    a.notify(plain, "next")

    assert left.back == []


def test_others_drop_makes_room_for_an_entry(line: Make) -> None:
    a = line()
    durable, plain = a.durable("a"), a.subscription("b")
    a.write(HEAD)
    a.fill(plain)

    durable.entry(a, 7, "next")

    found, _ = after_head(a.read_all())
    assert found == [gap("b"), entry(7, "next")]
    assert durable.back == []


def test_entry_that_never_fits_takes_its_subscription_back(line: Make) -> None:
    a = line()
    durable = a.durable("a")
    a.write(HEAD)
    kept = frames.encode_text(b'{"type":"pong"}' + b" " * (LIMIT - 300))
    a.write(kept)

    durable.entry(a, 7, "x" * 1000)

    assert durable.back == [6]
    assert a.behind == len(kept)
    assert a.failures == []


def test_position_before_the_first_entry_is_no_position_at_all_but_0(
    line: Make,
) -> None:
    a = line()
    durable = a.durable("a")
    a.write(HEAD)
    durable.entry(a, 1, "x" * (LIMIT - 500))

    durable.entry(a, 2, "y" * 500)

    assert durable.back == [0]


# Idle.


def test_outlet_is_idle_while_nothing_waits(line: Make) -> None:
    a = line()

    before = a.outlet.idle
    a.outlet.write(HEAD)
    waiting = a.outlet.idle
    a.read_all()

    assert (before, waiting, a.outlet.idle) == (True, False, True)


def test_idle_outlet_calls_at_once(line: Make) -> None:
    calls: list[int] = []

    line().outlet.when_idle(lambda: calls.append(1))

    assert calls == [1]


def test_outlet_calls_once_each_in_order_when_nothing_waits_any_more(
    line: Make,
) -> None:
    a = line()
    calls: list[tuple[int, bool]] = []
    a.outlet.write(HEAD)
    for number in range(3):
        a.outlet.when_idle(lambda number=number: calls.append((number, a.outlet.idle)))
    a.outlet.write(b"tail")
    before = list(calls)

    received = a.read_all()
    a.outlet.write(HEAD)
    a.read_all()

    assert before == []
    assert received == HEAD + b"tail"
    assert calls == [(0, True), (1, True), (2, True)]


def test_outlet_may_be_written_to_when_it_calls(line: Make) -> None:
    a = line()
    later: list[bool] = []

    def write() -> None:
        a.outlet.write(b"more")
        a.outlet.write(HEAD)
        a.outlet.when_idle(lambda: later.append(a.outlet.idle))

    a.outlet.write(HEAD)
    a.outlet.when_idle(write)

    assert a.read(2 * len(HEAD) + 4) == HEAD + b"more" + HEAD
    run_until(lambda: later)
    assert later == [True]


def test_stopped_outlet_does_not_call(line: Make) -> None:
    a = line()
    calls: list[int] = []
    a.outlet.write(HEAD)
    a.outlet.when_idle(lambda: calls.append(1))

    a.outlet.stop()
    until = time.monotonic() + 0.05
    run_until(lambda: time.monotonic() > until)

    assert calls == []


# Giving up.


def test_what_may_not_be_dropped_and_does_not_fit_is_too_slow(line: Make) -> None:
    a = line()
    a.write(HEAD)
    for _ in range(20):
        a.write(b"c" * 50_000)
    before = list(a.failures)

    a.write(b"c")

    assert before == []
    assert a.failures == [CloseCode.SLOW]
    assert (a.outlet.backlog_bytes == 0, a.outlet.backlog_bytes) == (True, 0)


def test_client_that_takes_no_byte_in_time_is_too_slow(line: Make) -> None:
    a = line(write_timeout=0.05)

    a.outlet.write(HEAD)
    run_until(lambda: a.failures)

    assert a.failures == [CloseCode.SLOW]
    assert a.outlet.backlog_bytes == 0


def test_every_byte_that_is_taken_gives_the_client_new_time(line: Make) -> None:
    a = line(write_timeout=0.6)
    began = time.monotonic()
    received = 0

    a.outlet.write(HEAD)
    while received < len(HEAD) and not a.failures:
        # A slow reader: 15 reads, one every 50 ms.
        gevent.sleep(0.05)
        received += len(a.available(len(HEAD) // 15 + 1))

    assert a.failures == []
    assert time.monotonic() - began > 0.7


def test_idle_outlet_has_no_time_limit(line: Make) -> None:
    a = line(write_timeout=0.02)
    a.outlet.write(HEAD)
    a.read_all()
    until = time.monotonic() + 0.1

    run_until(lambda: time.monotonic() > until)

    assert a.failures == []


def test_peer_that_is_gone_is_noticed_by_a_write(line: Make) -> None:
    a = line()
    a.far.close()

    a.outlet.write(b"hello")

    assert a.failures == [None]


def test_peer_that_goes_while_something_waits_is_noticed(line: Make) -> None:
    a = line()
    a.outlet.write(HEAD)

    a.far.close()
    run_until(lambda: a.failures)

    assert a.failures == [None]
    assert (a.outlet.backlog_bytes == 0, a.outlet.backlog_bytes) == (True, 0)


def test_failure_is_told_once(line: Make) -> None:
    a = line(write_timeout=0.02)
    a.far.close()

    for _ in range(3):
        a.outlet.write(b"hello")
    until = time.monotonic() + 0.1
    run_until(lambda: time.monotonic() > until)

    assert a.failures == [None]


# Stopping.


def test_nothing_is_written_after_stop(line: Make) -> None:
    a = line()

    a.outlet.stop()
    a.outlet.write(b"late")

    assert a.available() == b""
    assert a.failures == []


def test_what_waits_is_forgotten_at_stop(line: Make) -> None:
    a = line(write_timeout=0.02)
    a.outlet.write(HEAD)
    a.outlet.write(b"tail")
    left = a.outlet.backlog_bytes

    a.outlet.stop()
    received = len(a.available())
    until = time.monotonic() + 0.1
    run_until(lambda: time.monotonic() > until)

    assert (a.outlet.backlog_bytes == 0, a.outlet.backlog_bytes) == (True, 0)
    assert received + left == len(HEAD) + 4
    assert a.available() == b""
    assert a.failures == []


def test_stop_may_come_twice(line: Make) -> None:
    a = line()
    a.outlet.write(HEAD)

    a.outlet.stop()
    a.outlet.stop()

    assert a.outlet.backlog_bytes == 0


def test_stop_inside_the_failure_is_allowed() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        outlet = Outlet(near, OutletOptions(LIMIT, 0.02), lambda code: outlet.stop())

        outlet.write(b"x" * 4_000_000)
        run_until(lambda: outlet.backlog_bytes == 0)
        outlet.write(b"late")

        assert outlet.backlog_bytes == 0


def test_many_are_written_to_and_who_left_is_passed_over(line: Make) -> None:
    near, gone, slow, last = line(), line(), line(), line()
    lines = (near, gone, slow, last)
    subscriptions = [one.subscription("a") for one in lines]
    subscriptions[1].end()
    slow.outlet.write(HEAD)

    write_all(subscriptions, b"hello", None)

    assert near.read(5) == last.read(5) == b"hello"
    assert gone.available() == b""
    assert slow.read_all() == HEAD + b"hello"


def test_one_whose_peer_is_gone_does_not_stop_the_others(line: Make) -> None:
    gone, near = line(), line()
    gone.far.close()

    write_all([gone.subscription("a"), near.subscription("a")], b"hello", None)

    assert gone.failures == [None]
    assert near.read(5) == b"hello"
