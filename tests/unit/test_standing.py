"""Where a subscription stands, what may be said of it, and what takes it back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.core.standing import Standing
from bridge.core.subscription import Before, Mark, Place, Subscription
from bridge.wire import native


class Socket:
    """An outlet that is idle or not as the test says."""

    def __init__(self) -> None:
        self.idle = True
        self._calls: list[Callable[[], None]] = []

    def write(
        self, chunk: bytes, owner: Subscription | None = None, before: Before = None
    ) -> None:
        raise AssertionError("it writes nothing")

    def when_idle(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def becomes_idle(self) -> None:
        self.idle = True
        calls, self._calls = self._calls, []
        for call in calls:
            call()

    @property
    def asked(self) -> int:
        """How often it was asked to say when it is idle."""
        return len(self._calls)


class Room:
    """A journal at position 5."""

    def __init__(self) -> None:
        self.wakes = 0
        self.standing = Standing(self._wake)
        self.standing.begin_anew(5)

    def _wake(self) -> None:
        self.wakes += 1

    def new(
        self, position: int = 5, channel: str = "a", socket: Socket | None = None
    ) -> Subscription:
        """Let one settle after a position."""
        made = Subscription(channel, codec=native, outlet=socket or Socket())
        made.go_back = self.standing.go_back
        self.standing.begin(made, position)
        self.standing.settle(made)
        return made

    def advance(self, position: int) -> None:
        self.standing.writing = True
        self.standing.reached(position)


@pytest.fixture
def room() -> Room:
    return Room()


def socket_of(subscription: Subscription) -> Socket:
    assert isinstance(subscription.outlet, Socket)
    return subscription.outlet


def keep_something(subscription: Subscription) -> Socket:
    socket = socket_of(subscription)
    socket.idle = False
    return socket


# Places.


@pytest.mark.parametrize(
    ("position", "place", "follows"),
    [(4, Place.BEHIND, False), (5, Place.LIVE, True), (6, Place.AHEAD, False)],
)
def test_position_says_where_one_settles(
    room: Room, position: int, place: Place, follows: bool
) -> None:
    new = room.new(position)

    assert (new.place, new.follows, new.position) == (place, follows, position)


def test_nobody_becomes_live_while_the_tail_is_written(room: Room) -> None:
    room.standing.writing = True

    assert room.new().place is Place.BEHIND


def test_one_who_is_behind_waits_for_its_outlet(room: Room) -> None:
    socket = Socket()
    socket.idle = False
    new = room.new(3, socket=socket)
    before = (new.place, bool(room.standing.behind), room.wakes)

    socket.becomes_idle()

    assert before == (Place.WAITING, False, 0)
    assert (new.place, room.wakes) == (Place.BEHIND, 1)


def test_outlet_is_asked_once_for_all_its_channels(room: Room) -> None:
    socket = Socket()
    socket.idle = False

    first, second = room.new(3, "a", socket), room.new(3, "b", socket)
    asked = socket.asked
    socket.becomes_idle()

    assert asked == 1
    assert (first.place, second.place) == (Place.BEHIND, Place.BEHIND)


@pytest.mark.parametrize("position", [3, 5, 7])
def test_one_who_leaves_is_nowhere(room: Room, position: int) -> None:
    new, other = room.new(position), room.new(position)

    room.standing.leave(new)
    room.standing.leave(new)
    room.advance(8)

    assert (new.place, new.follows) == (Place.NOWHERE, False)
    assert other.place is not Place.NOWHERE
    assert new not in (*room.standing.at("a", 3), *(room.standing.live("a") or ()))


def test_one_who_leaves_while_it_waits_is_forgotten(room: Room) -> None:
    socket = Socket()
    socket.idle = False
    first, second = room.new(3, "a", socket), room.new(3, "b", socket)

    room.standing.leave(first)
    room.standing.leave(second)
    socket.becomes_idle()

    assert not room.standing.behind


def test_tail_that_comes_makes_those_ahead_live_or_leaves_them_behind(
    room: Room,
) -> None:
    near, at, far = room.new(6), room.new(7), room.new(8)

    room.advance(7)

    assert [one.place for one in (near, at, far)] == [
        Place.BEHIND,
        Place.LIVE,
        Place.AHEAD,
    ]


# What may be said.


@pytest.mark.parametrize("position", [3, 5, 7])
def test_one_whose_outlet_is_idle_has_what_was_written(
    room: Room, position: int
) -> None:
    assert room.standing.promise(room.new(position)) == position


def test_one_who_is_live_has_what_the_tail_has(room: Room) -> None:
    new = room.new()

    room.advance(9)

    assert room.standing.promise(new) == 9


@pytest.mark.parametrize("position", [3, 5, 7])
def test_nothing_is_said_while_the_outlet_keeps_something(
    room: Room, position: int
) -> None:
    new = room.new(position)

    keep_something(new)

    assert room.standing.promise(new) is None


def test_nothing_is_said_of_one_who_is_live_while_the_tail_is_written(
    room: Room,
) -> None:
    live, behind = room.new(), room.new(3)

    room.standing.writing = True

    assert (room.standing.promise(live), room.standing.promise(behind)) == (None, 3)


def test_nothing_is_said_of_one_who_is_being_written_to(room: Room) -> None:
    new = room.new(3)

    room.standing.write_to("a", 3)

    assert (new.place, room.standing.promise(new)) == (Place.WRITING, None)


def test_nothing_is_said_of_one_who_has_no_place(room: Room) -> None:
    new = room.new()

    room.standing.leave(new)

    assert room.standing.promise(new) is None


def test_position_is_said_of_all_when_all_are_live(room: Room) -> None:
    socket = Socket()
    live, other = room.new(5, "a", socket), room.new(5, "b", socket)
    behind = room.new(3, "c", socket)

    assert room.standing.promise_to_all([live, other]) == 5
    assert room.standing.promise_to_all([live, other, behind]) is None
    assert room.standing.promise_to_all([]) is None


def test_nothing_is_said_of_all_while_the_tail_is_written(room: Room) -> None:
    live = room.new()

    room.standing.writing = True

    assert room.standing.promise_to_all([live]) is None


# What takes it back.


@pytest.mark.parametrize("position", [3, 5, 7])
def test_what_is_dropped_takes_one_back_wherever_it_stands(
    room: Room, position: int
) -> None:
    new = room.new(position)
    socket = keep_something(new)

    new.dropped([room.standing.mark(1), room.standing.mark(2)])
    waits = (new.place, new.position, new.follows)
    socket.becomes_idle()

    assert waits == (Place.WAITING, 1, False)
    assert room.standing.at("a", 1) == (new,)
    assert room.standing.at("a", position) == ()


def test_what_is_dropped_takes_one_back_that_waits_already(room: Room) -> None:
    new = room.new(3)
    socket = keep_something(new)
    new.dropped([room.standing.mark(2)])

    new.dropped([room.standing.mark(1)])
    socket.becomes_idle()

    assert room.standing.at("a", 1) == (new,)
    assert len(room.standing.behind) == 1


def test_what_is_dropped_takes_one_back_that_is_being_written_to(room: Room) -> None:
    new = room.new(3)
    room.standing.write_to("a", 3)
    keep_something(new)

    new.dropped([room.standing.mark(3)])
    room.standing.written(new, 5)

    assert (new.place, new.position) == (Place.WAITING, 3)


def test_what_is_dropped_from_before_all_began_anew_moves_nobody(room: Room) -> None:
    new = room.new()
    old = room.standing.mark(2)
    room.standing.begin_anew(1, [new])
    nowhere = (new.place, new.position)
    room.standing.settle(new)

    new.dropped([old])

    assert nowhere == (Place.NOWHERE, 1)
    assert (new.place, new.position) == (Place.LIVE, 1)


def test_what_is_dropped_from_before_and_after_takes_one_back_to_the_new(
    room: Room,
) -> None:
    new = room.new()
    old = room.standing.mark(4)
    room.standing.begin_anew(7, [new])
    room.standing.settle(new)
    room.advance(9)
    keep_something(new)

    new.dropped([old, room.standing.mark(7), room.standing.mark(8)])

    assert (new.place, new.position) == (Place.WAITING, 7)


def test_what_is_dropped_moves_nobody_who_has_no_place(room: Room) -> None:
    new = room.new()
    room.standing.leave(new)

    new.dropped([room.standing.mark(3)])

    assert (new.place, new.position) == (Place.NOWHERE, 5)


# Bringing forward.


def test_those_at_one_position_are_written_to_together(room: Room) -> None:
    first, second, elsewhere = room.new(3), room.new(3), room.new(2)

    group = room.standing.next_group()
    written = room.standing.write_to("a", 3)

    assert group == written == (first, second)
    assert [one.follows for one in (first, second, elsewhere)] == [True, True, False]
    assert room.standing.next_group() == (elsewhere,)


def test_one_who_was_brought_forward_settles(room: Room) -> None:
    first, second = room.new(1), room.new(1)
    room.standing.write_to("a", 1)

    room.standing.written(first, 5)
    room.standing.written(second, 3)

    assert (first.place, second.place) == (Place.LIVE, Place.BEHIND)
    assert room.standing.at("a", 3) == (second,)


def test_one_who_left_meanwhile_does_not_settle(room: Room) -> None:
    gone = room.new(1)
    room.standing.write_to("a", 1)

    room.standing.leave(gone)
    room.standing.written(gone, 5)

    assert (gone.place, room.standing.live("a")) == (Place.NOWHERE, None)


def test_nothing_is_written_into_an_outlet_that_keeps_something(room: Room) -> None:
    slow, fast = room.new(3), room.new(3)
    socket = keep_something(slow)

    group = room.standing.next_group()
    written = room.standing.write_to("a", 3)
    socket.becomes_idle()

    assert group == written == (fast,)
    assert (slow.place, slow.position) == (Place.BEHIND, 3)


def test_nobody_is_next_when_all_have_to_wait(room: Room) -> None:
    keep_something(room.new(3))

    assert room.standing.next_group() == ()
    assert not room.standing.behind


def test_channels_of_one_outlet_take_turns(room: Room) -> None:
    socket = Socket()
    channels = [room.new(1, channel, socket) for channel in "abc"]
    served: list[str] = []

    for position in range(2, 8):
        [one] = room.standing.next_group()
        served.append(one.channel)
        room.standing.write_to(one.channel, one.position)
        socket.idle = False  # the page does not fit
        room.standing.written(one, position if position < 5 else 4)
        while room.standing.behind:
            assert room.standing.next_group() == ()
        socket.becomes_idle()

    assert served == list("abcabc")
    assert all(one.place is Place.BEHIND for one in channels)


def test_mark_is_of_its_time(room: Room) -> None:
    before = room.standing.mark(3)

    room.standing.begin_anew(3)

    assert before == Mark(before.era, 3)
    assert before != room.standing.mark(3)
