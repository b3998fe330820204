"""Those who are behind: where they stand, and whose turn it is."""

from __future__ import annotations

from bridge.core.behind import Behind
from bridge.core.subscription import Subscription
from bridge.wire import native
from unit.doubles import RecordingOutlet


def at(position: int, channel: str = "a") -> Subscription:
    made = Subscription(channel, codec=native, outlet=RecordingOutlet())
    made.position = position
    return made


def standing(*members: Subscription) -> Behind:
    behind = Behind()
    for one in members:
        behind.add(one)
    return behind


def test_those_at_the_same_place_are_together() -> None:
    first, second, ahead, elsewhere = at(1), at(1), at(2), at(1, "b")
    behind = standing(first, ahead, second, elsewhere)

    assert behind.at("a", 1) == (first, second)
    assert (behind.at("a", 2), behind.at("b", 1)) == ((ahead,), (elsewhere,))
    assert (len(behind), bool(behind)) == (4, True)


def test_longest_waiting_come_first() -> None:
    first, second = at(5), at(1)
    behind = standing(first, second, at(5))

    assert behind.first == ("a", 5)
    for one in behind.at("a", 5):
        behind.remove(one)
    assert behind.first == ("a", 1)


def test_one_who_leaves_leaves_the_others() -> None:
    one, other = at(1), at(1)
    behind = standing(one, other)

    behind.remove(one)
    behind.remove(one)
    assert behind.at("a", 1) == (other,)
    behind.remove(other)
    assert not behind


def test_stranger_that_leaves_changes_nothing() -> None:
    one = at(1)
    behind = standing(one)

    behind.remove(at(1))
    behind.remove(at(2))

    assert behind.at("a", 1) == (one,)
