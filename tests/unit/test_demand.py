"""Which channels a session should listen to."""

from __future__ import annotations

import pytest

from bridge.postgres.demand import Demand
from unit.doubles import Clock

DELAY = 30.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def demand(clock: Clock) -> Demand:
    return Demand(DELAY, clock)


def test_new_channel_is_pending_once(demand: Demand) -> None:
    assert demand.add("a") is False
    assert demand.add("a") is False

    assert demand.pending() == ["a"]
    assert len(demand) == 1


def test_channel_in_force_is_not_pending(demand: Demand) -> None:
    demand.add("a")
    demand.add("b")

    demand.in_force(["a"])

    assert demand.pending() == ["b"]
    assert [demand.listens_to(name) for name in "abc"] == [True, False, False]
    assert demand.add("a") is True
    assert len(demand) == 2


def test_lost_session_makes_all_pending_oldest_first(demand: Demand) -> None:
    for channel in "abc":
        demand.add(channel)
    demand.in_force(["a", "b"])

    assert demand.lost() == ["a", "b", "c"]

    assert demand.pending() == ["a", "b", "c"]
    assert demand.add("a") is False


def test_released_channel_is_overdue_after_the_delay(
    demand: Demand, clock: Clock
) -> None:
    demand.add("a")
    demand.release("a")
    clock.now += DELAY - 1
    assert demand.overdue() == []
    assert demand.next_due() == 130.0

    clock.now += 1

    assert demand.overdue() == ["a"]


def test_channel_that_is_wanted_again_stays(demand: Demand, clock: Clock) -> None:
    demand.add("a")
    demand.in_force(["a"])
    demand.release("a")

    assert demand.add("a") is True

    clock.now += DELAY
    assert demand.overdue() == []
    assert demand.next_due() is None


def test_second_release_counts_from_itself_and_stands_last(
    demand: Demand, clock: Clock
) -> None:
    demand.add("a")
    demand.add("b")
    demand.release("a")
    clock.now += 10
    demand.release("b")
    clock.now += 10
    demand.release("a")

    clock.now += DELAY - 10

    assert demand.overdue() == ["b"]
    assert demand.next_due() == 140.0


def test_forgotten_channel_is_pending_when_wanted_again(
    demand: Demand, clock: Clock
) -> None:
    demand.add("a")
    demand.add("b")
    demand.in_force(["a"])
    demand.release("a")
    clock.now += DELAY

    assert demand.forget(["a", "b", "unknown"]) == ["a"]

    assert (len(demand), demand.pending(), demand.overdue()) == (0, [], [])
    assert demand.add("a") is False
