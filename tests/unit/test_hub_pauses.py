"""Others come, leave and vanish while the hub writes to many."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.core.subscription import State
from bridge.wire import native
from unit.hub_scene import (
    MANY,
    Guest,
    House,
    gap,
    interrupted,
    notification,
    subscribed,
)

# Long fan-outs.


def test_short_fan_out_does_not_pause() -> None:
    house = House()
    house.crowd(MANY)
    house.step = 0.0001

    house.publish("1")

    assert house.pauses == 0


def test_long_fan_out_pauses_whenever_a_run_was_long_enough() -> None:
    house = House()
    house.crowd(MANY)
    house.step = 0.005

    house.publish("1")

    # The clock is looked at before each run of 64.
    assert house.pauses == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda house: house.publish("1"),
        lambda house: house.hub.interrupted(["a"], None),
        lambda house: house.hub.in_force(["a"]),
    ],
    ids=["publish", "interrupted", "in_force"],
)
def test_time_that_has_passed_before_is_not_counted(
    call: Callable[[House], None],
) -> None:
    house = House()
    house.new()
    house.pass_by(1.0)

    call(house)

    assert house.pauses == 0


def test_run_begins_anew_after_a_pause() -> None:
    house = House()
    house.crowd(MANY)
    house.step = 0.005

    def time_stands_still() -> None:
        house.step = 0.0

    house.meanwhile = time_stands_still
    house.publish("1")

    assert house.pauses == 1


def test_pauses_go_on_counting_over_channels() -> None:
    house = House()
    for channel in "abcdefgh":
        house.crowd(25, channel)
    house.step = 0.005

    house.hub.interrupted("abcdefgh", None)
    first = house.pauses
    house.hub.in_force("abcdefgh")

    assert (first, house.pauses) == (8, 16)


def test_one_who_leaves_during_a_publish_gets_no_more_of_it() -> None:
    house = House()
    guests = house.crowd(MANY)
    house.step = 0.005

    def leave() -> None:
        guests[0].leave()
        guests[-1].leave()

    house.meanwhile = leave
    house.publish("1")

    assert house.pauses == 4
    assert [len(guest.told) for guest in guests] == [0] + [1] * (MANY - 2) + [0]


def test_one_who_comes_during_a_publish_is_subscribed_and_gets_the_next() -> None:
    house = House()
    guests = house.crowd(MANY)
    house.step = 0.005
    came: list[Guest] = []

    house.meanwhile = lambda: came.append(house.new())
    house.publish("1")
    house.publish("2")

    assert came[0].told == [subscribed(), notification("2")]
    assert guests[-1].told == [notification("1"), notification("2")]


def test_channel_that_all_leave_during_a_publish_may_be_had_again() -> None:
    house = House()
    guests = house.crowd(MANY)
    house.step = 0.005
    came: list[Guest] = []

    def leave() -> None:
        for guest in guests:
            guest.leave()
        came.append(house.new())

    house.meanwhile = leave
    house.publish("1")

    assert house.demand.calls == [("want", "a"), ("unwant", "a"), ("want", "a")]
    assert came[0].told == [subscribed()]
    assert guests[-1].told == []


def test_one_who_comes_while_others_are_told_in_force_is_subscribed_once() -> None:
    house = House(State.PENDING)
    guests = house.crowd(MANY, "a") + house.crowd(1, "b")
    house.step = 0.005
    came: list[Guest] = []

    house.meanwhile = lambda: came.extend([house.new("a"), house.new("b")])
    house.hub.in_force(["a", "b"])

    assert came[0].told == [subscribed("a")]
    assert came[1].told == [subscribed("b")]
    assert guests[MANY - 1].told == [subscribed("a")]
    assert guests[MANY].told == [subscribed("b")]


def test_one_who_comes_while_others_are_interrupted_is_told_so_once() -> None:
    house = House()
    guests = house.crowd(MANY, "a") + house.crowd(1, "b")
    house.step = 0.005
    came: list[Guest] = []

    house.meanwhile = lambda: came.extend([house.new("a"), house.new("b")])
    house.hub.interrupted(["a", "b"], None)

    assert came[0].told == [interrupted("a")]
    assert came[1].told == [interrupted("b")]
    assert guests[MANY - 1].told == [interrupted("a")]
    assert guests[MANY].told == [interrupted("b")]


def test_one_who_leaves_while_others_are_told_is_told_nothing() -> None:
    house = House()
    guests = house.crowd(MANY)
    house.step = 0.005

    house.meanwhile = guests[-1].leave
    house.hub.interrupted(["a"], None)
    house.meanwhile = guests[-2].leave
    house.hub.in_force(["a"])

    assert guests[-3].told == [interrupted(), gap(reload_window=1.99)]
    assert guests[-2].told == [interrupted()]
    assert guests[-1].told == []


# A client that turns out to be gone while it is written to.


def test_one_who_is_gone_during_a_publish_does_not_disturb_the_others() -> None:
    house = House()
    first, gone, last = house.crowd(3)
    gone.outlet.on_write = gone.leave

    house.publish("1")
    house.publish("2")

    assert first.told == last.told == [notification("1"), notification("2")]
    assert gone.told == [notification("1")]
    assert house.hub.subscriptions == 2


def test_last_one_who_is_gone_during_a_publish_gives_the_channel_up() -> None:
    house = House()
    [gone] = house.crowd(1)
    gone.outlet.on_write = gone.leave

    house.publish("1")

    assert house.demand.calls == [("want", "a"), ("unwant", "a")]


def test_one_who_is_gone_while_it_is_subscribed_leaves_nothing_behind() -> None:
    house = House()
    guest = Guest(house.hub, "a", native, {})
    guest.outlet.on_write = guest.leave

    house.hub.subscribe(guest.subscription)

    assert house.demand.calls == [("want", "a"), ("unwant", "a")]
    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)


def test_one_who_is_gone_when_it_is_told_does_not_disturb_the_others() -> None:
    house = House()
    first, gone, last = house.crowd(3)
    gone.outlet.on_write = gone.leave

    house.hub.interrupted(["a"], None)
    house.hub.in_force(["a"])

    assert first.told == last.told == [interrupted(), gap()]
    assert gone.told == [interrupted()]
