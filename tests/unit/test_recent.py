"""The newest entries in memory: what is known of a channel, and within which bound."""

from __future__ import annotations

from sys import getsizeof

import pytest

from bridge.core.recent import _ENTRY_BYTES, Recent
from bridge.values.message import Gap

ONE = _ENTRY_BYTES + getsizeof("x")
"""What an entry with one character takes."""


@pytest.fixture
def recent() -> Recent:
    made = Recent(1_000_000)
    made.start(10)
    return made


def bounded(entries: int) -> Recent:
    """Room for so many entries of one character."""
    made = Recent(entries * ONE)
    made.start(10)
    return made


def test_nothing_is_there_before_the_start(recent: Recent) -> None:
    assert (recent.begin, recent.bytes) == (10, 0)
    assert recent.after("a", 9) is None
    assert recent.after("a", 10) == []


def test_entries_after_a_position_come_oldest_first(recent: Recent) -> None:
    for position in (11, 12, 13):
        recent.add(position, "a", f"a{position}")

    assert recent.after("a", 10) == [(11, "a11"), (12, "a12"), (13, "a13")]
    assert recent.after("a", 12) == [(13, "a13")]
    assert recent.after("a", 13) == []
    assert recent.after("a", 99) == []


def test_position_may_be_another_channels(recent: Recent) -> None:
    recent.add(11, "a", "1")
    recent.add(12, "b", "2")
    recent.add(13, "a", "3")

    assert recent.after("a", 12) == [(13, "3")]
    assert recent.after("b", 11) == [(12, "2")]


def test_channel_without_entries_has_none(recent: Recent) -> None:
    recent.add(11, "a", "1")

    assert recent.covers("b", 10) is True
    assert recent.after("b", 10) == []


def test_what_the_caller_does_with_the_entries_is_its_own_affair(
    recent: Recent,
) -> None:
    recent.add(11, "a", "1")
    found = recent.after("a", 10)
    assert found is not None

    found.clear()

    assert recent.after("a", 10) == [(11, "1")]


def test_gap_is_kept_like_a_payload(recent: Recent) -> None:
    gap = Gap("a", "too_large", 1.0, cursor="e1-11")

    recent.add(11, "a", gap)

    assert recent.after("a", 10) == [(11, gap)]
    assert recent.bytes == _ENTRY_BYTES


def test_entry_that_nobody_wanted_is_not_known(recent: Recent) -> None:
    recent.add(11, "a", "1")
    recent.add(12, "a", None)
    recent.add(13, "a", "3")

    assert [recent.covers("a", position) for position in (10, 11, 12, 13)] == [
        False,
        False,
        True,
        True,
    ]
    assert recent.after("a", 11) is None
    assert recent.after("a", 12) == [(13, "3")]
    assert recent.bytes == 2 * ONE + _ENTRY_BYTES


def test_entry_that_nobody_wanted_hides_no_other_channel(recent: Recent) -> None:
    recent.add(11, "a", None)
    recent.add(12, "b", "2")

    assert recent.after("b", 10) == [(12, "2")]


# The bound.


def test_bound_that_is_reached_forgets_nothing() -> None:
    recent = bounded(2)

    recent.add(11, "a", "1")
    recent.add(12, "a", "2")

    assert (recent.begin, recent.bytes) == (10, 2 * ONE)


def test_bound_that_is_passed_forgets_the_oldest() -> None:
    recent = bounded(2)
    recent.add(11, "a", "1")
    recent.add(12, "b", "2")

    recent.add(13, "a", "3")

    assert (recent.begin, recent.bytes) == (11, 2 * ONE)
    assert recent.after("a", 10) is None
    assert recent.after("a", 11) == [(13, "3")]
    assert recent.after("b", 11) == [(12, "2")]


def test_large_entry_forgets_several() -> None:
    recent = bounded(3)
    for position in (11, 12, 13):
        recent.add(position, "a", "x")

    recent.add(14, "a", "x" * (ONE + 1))

    assert recent.begin == 12
    assert recent.bytes == 2 * ONE + ONE
    assert recent.after("a", 12) == [(13, "x"), (14, "x" * (ONE + 1))]


def test_entry_that_never_fits_is_forgotten_at_once() -> None:
    recent = Recent(0)
    recent.start(10)

    recent.add(11, "a", "1")

    assert (recent.begin, recent.bytes) == (11, 0)
    assert recent.after("a", 10) is None
    assert recent.after("a", 11) == []


def test_entries_that_nobody_wanted_are_forgotten_too() -> None:
    recent = Recent(2 * _ENTRY_BYTES)
    recent.start(10)
    for position in (11, 12, 13):
        recent.add(position, "a", None)

    recent.add(14, "b", None)

    assert (recent.begin, recent.bytes) == (12, 2 * _ENTRY_BYTES)
    assert recent.covers("b", 13) is False
    assert recent.covers("a", 13) is True


def test_channel_is_forgotten_with_the_last_that_is_known_of_it() -> None:
    recent = bounded(2)
    recent.add(11, "a", "1")
    recent.add(12, "a", None)
    recent.add(13, "b", "x")
    recent.add(14, "b", "x")

    known = set(recent._channels)
    recent.add(15, "c", "x")

    # What is forgotten of "a" must not be taken for all there was.
    assert known == {"b"}
    assert (recent.begin, recent.after("a", 11), recent.after("a", 13)) == (
        13,
        None,
        [],
    )


def test_unknown_entry_outlives_the_known_ones_before_it() -> None:
    recent = Recent(ONE + 2 * _ENTRY_BYTES)
    recent.start(10)
    recent.add(11, "a", "1")
    recent.add(12, "b", "x")
    recent.add(13, "a", None)

    recent.add(14, "b", None)

    assert recent.begin == 11
    assert recent.after("a", 12) is None
    assert recent.after("a", 13) == []


# Forgetting.


def test_what_is_forgotten_is_known_to_be_gone(recent: Recent) -> None:
    recent.add(11, "a", "1")
    recent.add(12, "b", "2")

    recent.forget()

    assert (recent.begin, recent.bytes) == (12, 0)
    assert recent.after("a", 11) is None
    assert recent.after("a", 12) == []


def test_what_comes_after_forgetting_is_kept(recent: Recent) -> None:
    recent.add(11, "a", "1")
    recent.forget()

    recent.add(12, "a", "2")

    assert recent.after("a", 10) is None
    assert recent.after("a", 11) == [(12, "2")]
    assert recent.bytes == ONE


def test_forgetting_before_anything_came_changes_nothing(recent: Recent) -> None:
    recent.forget()

    assert (recent.begin, recent.after("a", 10)) == (10, [])


def test_new_start_may_be_before_the_old_one(recent: Recent) -> None:
    recent.add(11, "a", "1")

    recent.start(3)

    assert (recent.begin, recent.bytes) == (3, 0)
    assert recent.after("a", 3) == []
