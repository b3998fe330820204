"""The tail of the journal, and who follows it."""

from __future__ import annotations

import pytest

from bridge.core import entries as entries_module
from bridge.core.entries import MAX_PAGE_BYTES, Need
from bridge.values.cursor import Cursor
from bridge.values.message import Batch, Gap
from unit.feed_scene import (
    MANY,
    Guest,
    House,
    entry,
    gap,
    resumed,
    subscribed,
)


def test_entries_go_to_those_who_follow_their_channel_and_to_the_others() -> None:
    house = House()
    first, second, other = house.live(), house.live(), house.live("b")

    house.bring(("a", "1"), ("b", "2"), ("a", "[3]"))

    data = {"type": "notification", "channel": "a", "cursor": "e1-8", "data": [3]}
    assert first.told() == second.told() == [entry(6, "1"), data]
    assert other.told() == [entry(7, "2", "b")]
    assert house.others == [
        Batch("a", ("1", "[3]"), ("e1-6", "e1-8")),
        Batch("b", ("2",), ("e1-7",)),
    ]
    assert house.feed.cursor == Cursor("e1", 8)


def test_entries_of_a_channel_that_nobody_follows_are_for_the_others_alone() -> None:
    house = House()
    guest = house.live()

    house.publish("1", channel="b")

    assert guest.told() == []
    assert house.others == [Batch("b", ("1",), ("e1-6",))]


def test_tail_that_brings_nothing_stays() -> None:
    house = House()
    guest = house.live()

    house.feed.advance([], 5, house.others.append)

    assert (guest.told(), house.others, house.feed.position) == ([], [], 5)


def test_entry_that_cannot_be_delivered_is_a_gap_in_its_place() -> None:
    house = House()
    guest = house.live()

    house.publish("1", Gap("a", "too_large", 2.0, cursor="e1-7"), "3")

    assert guest.told() == [
        entry(6, "1"),
        gap("too_large", "e1-7", reload_window=2.0),
        entry(8, "3"),
    ]


def test_chunk_says_whose_it_is_and_the_position_before_it() -> None:
    house = House()
    guest = house.live()

    house.publish("1", "2")
    house.publish("3")

    assert guest.outlet.owners == [guest.subscription] * 2
    assert guest.outlet.marks == [5, 7]


def test_many_entries_are_cut_into_pages_each_with_the_position_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entries_module, "MAX_PAGE_ENTRIES", 2)
    house = House()
    guest = house.live()

    house.bring(("a", "1"), ("b", "x"), ("a", "2"), ("a", "3"), ("a", "4"), ("a", "5"))

    assert guest.outlet.marks == [5, 8, 10]
    assert guest.told() == [
        entry(position, text)
        for position, text in [(6, "1"), (8, "2"), (9, "3"), (10, "4"), (11, "5")]
    ]


@pytest.mark.parametrize(
    ("sizes", "marks"),
    [
        ([MAX_PAGE_BYTES - 1, 1, 1], [5, 7]),
        ([MAX_PAGE_BYTES, 1], [5, 6]),
        ([MAX_PAGE_BYTES + 1, 1], [5, 6]),
        ([1, MAX_PAGE_BYTES], [5, 6]),
    ],
)
def test_page_is_at_most_so_many_bytes_but_one_entry(
    sizes: list[int], marks: list[int]
) -> None:
    house = House(recent=10_000_000)
    guest = house.live()

    house.publish(*("x" * size for size in sizes))

    assert guest.outlet.marks == marks
    assert [len(message["text"]) for message in guest.told()] == sizes


def test_gap_in_place_of_an_entry_takes_no_bytes_of_a_page() -> None:
    house = House(recent=10_000_000)
    guest = house.live()
    large = "x" * MAX_PAGE_BYTES

    house.publish(large, Gap("a", "too_large", 1.0), Gap("a", "too_large", 1.0))

    assert guest.outlet.marks == [5]


def test_entry_that_was_not_read_takes_those_who_follow_back_to_the_table() -> None:
    # Somebody came after it was read without its payload.
    house = House()
    guest, other = house.live(), house.live("b")

    house.bring(("a", "6"), ("a", None), ("b", "8"))
    before = guest.told()
    need = house.feed.work()
    house.page(need, [(6, "6"), (7, "7")])

    assert before == []
    assert need == Need("a", 5, 8)
    assert guest.told() == [entry(6, "6"), entry(7, "7")]
    assert other.told() == [entry(8, "8", "b")]
    assert guest.live is True


def test_entry_that_nobody_wanted_moves_the_tail() -> None:
    house = House()

    house.publish(None, None)

    assert (house.feed.position, house.feed.behind, house.others) == (7, 0, [])


def test_reader_is_woken_for_those_who_are_behind_after_the_tail() -> None:
    house = House()
    house.new(2)
    house.wakes = 0

    house.publish("6")

    assert house.wakes == 1


def test_reader_is_not_woken_when_nobody_is_behind() -> None:
    house = House()
    house.live()

    house.publish("6")

    assert (house.wakes, house.feed.behind) == (0, 0)


def test_one_who_comes_while_entries_are_written_gets_them_afterwards() -> None:
    house = House()
    [*guests] = [house.live() for _ in range(MANY)]
    house.time.step = 0.005
    came: list[Guest] = []

    house.time.meanwhile = lambda: came.append(house.new())
    house.publish("six")
    before = (came[0].told(), came[0].live)
    house.feed.work()

    assert before == ([subscribed("e1-5")], False)
    assert came[0].told() == [entry(6, "six")]
    assert came[0].live is True
    assert guests[-1].told() == [entry(6, "six")]


def test_one_who_comes_back_while_entries_are_written_gets_all_once() -> None:
    house = House()
    for _ in range(MANY):
        house.live()
    house.publish("six")
    house.time.step = 0.005
    came: list[Guest] = []

    house.time.meanwhile = lambda: came.append(house.new(5))
    house.publish("seven")
    house.feed.work()

    assert came[0].told() == [resumed("e1-5"), entry(6, "six"), entry(7, "seven")]


def test_one_who_leaves_while_entries_are_written_gets_no_more() -> None:
    house = House()
    guests = [house.live() for _ in range(MANY)]
    house.time.step = 0.005

    house.time.meanwhile = guests[-1].leave
    house.publish("six")

    assert [len(guest.told()) for guest in guests] == [1] * (MANY - 1) + [0]


def test_entries_that_all_leave_from_are_still_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entries_module, "MAX_PAGE_ENTRIES", 1)
    house = House()
    guest = house.live()
    guest.outlet.on_write = guest.leave

    house.publish("six", "seven")

    assert guest.told() == [entry(6, "six")]
    assert [batch.payloads for batch in house.others] == [("six",), ("seven",)]


def test_what_is_forgotten_is_read_again() -> None:
    house = House()
    house.live()
    house.publish("six")
    guest = house.new(5)

    house.feed.forget()
    need = house.feed.work()

    assert guest.told() == [resumed("e1-5")]
    assert need == Need("a", 5, 6)
