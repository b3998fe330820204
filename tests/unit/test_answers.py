"""Where a subscription of the journal begins, and what it is told of that."""

from __future__ import annotations

from bridge.core.entries import Need
from bridge.wire import native
from unit.feed_scene import (
    Guest,
    House,
    entry,
    gap,
    interrupted,
    resumed,
    subscribed,
)


def test_newcomer_is_answered_at_once_with_where_the_journal_stands() -> None:
    guest = House().new()

    assert guest.told() == [subscribed("e1-5")]
    assert guest.live is True


def test_one_who_had_the_channel_without_cursor_is_told_that_it_may_have_missed() -> (
    None
):
    guest = House().new(resume=True)

    assert guest.told() == [subscribed("e1-5"), gap("not_kept", "e1-5")]
    assert guest.live is True


def test_window_of_a_gap_counts_all_who_follow_the_journal() -> None:
    house = House()
    for channel in "abc":
        house.new(channel=channel)

    guest = house.new(resume=True)

    assert guest.told()[1]["reload_window"] == 0.4


def test_cursor_of_the_tail_misses_nothing() -> None:
    house = House()

    guest = house.new(5)

    assert guest.told() == [resumed("e1-5")]
    assert (guest.live, house.feed.behind) == (True, 0)


def test_cursor_of_another_epoch_proves_nothing() -> None:
    guest = House().new(5, epoch="e0")

    assert guest.told() == [subscribed("e1-5"), gap("epoch_changed", "e1-5")]
    assert guest.live is True


def test_cursor_that_retention_has_passed_is_told_so() -> None:
    guest = House(floor=3).new(2)

    assert guest.told() == [subscribed("e1-5"), gap("expired", "e1-5")]
    assert guest.live is True


def test_cursor_that_retention_has_just_not_passed_is_good() -> None:
    house = House(floor=3)

    guest = house.new(3)
    house.page(house.feed.work(), [(4, "four")])

    assert guest.told() == [resumed("e1-3"), entry(4, "four")]


def test_cursor_that_memory_reaches_is_answered_at_once_and_brought_forward() -> None:
    house = House()
    house.live()
    house.publish("six", "seven", "eight")

    guest = house.new(6)
    before = guest.told()
    need = house.feed.work()

    assert (before, need) == ([resumed("e1-6")], None)
    assert guest.told() == [entry(7, "seven"), entry(8, "eight")]
    assert guest.live is True


def test_one_who_was_brought_forward_follows_the_tail() -> None:
    house = House()
    house.live()
    house.publish("six")
    guest = house.new(5)
    house.feed.work()
    guest.told()

    house.publish("seven")
    house.feed.work()

    assert guest.told() == [entry(7, "seven")]


def test_cursor_that_memory_does_not_reach_waits_for_the_table() -> None:
    house = House()

    guest = house.new(3)
    before = guest.told()
    need = house.feed.work()
    house.page(need, [(4, "four"), (5, "five")])

    assert (before, need) == ([], Need("a", 3, 5))
    assert guest.told() == [resumed("e1-3"), entry(4, "four"), entry(5, "five")]
    assert guest.live is True


def test_table_may_say_that_retention_has_passed_a_cursor() -> None:
    house = House()
    guest = house.new(3)

    house.page(house.feed.work(), floor=4)

    assert guest.told() == [subscribed("e1-5"), gap("expired", "e1-5")]
    assert (guest.live, house.feed.floor) == (True, 4)


def test_table_does_not_move_the_floor_back() -> None:
    house = House(floor=3)
    house.new(3)

    house.page(house.feed.work(), floor=2)

    assert house.feed.floor == 3


def test_cursor_ahead_of_the_tail_is_good_when_the_journal_has_it() -> None:
    house = House()
    guest = house.new(7)

    need = house.feed.work()
    house.page(need, newest=7)
    house.publish("six", "seven")
    house.publish("eight")
    house.feed.work()

    assert need == Need("a", 7, 5)
    assert guest.told() == [resumed("e1-7"), entry(8, "eight")]
    assert guest.live is True


def test_cursor_ahead_of_the_journal_is_a_lie_or_of_a_lost_future() -> None:
    house = House()
    guest = house.new(8)

    house.page(house.feed.work(), newest=7)
    house.publish("six")

    assert guest.told() == [
        subscribed("e1-5"),
        gap("epoch_changed", "e1-5"),
        entry(6, "six"),
    ]


def test_tail_that_jumps_over_a_cursor_leaves_it_behind_for_a_moment() -> None:
    house = House()
    guest = house.new(6)
    house.page(house.feed.work(), newest=9)
    guest.told()

    house.publish("six", "seven", "eight")
    before = guest.told()
    need = house.feed.work()

    assert (before, need) == ([], None)
    assert guest.told() == [entry(7, "seven"), entry(8, "eight")]
    assert guest.live is True


def test_one_ahead_of_the_tail_is_not_live_until_the_tail_has_come() -> None:
    house = House()
    guest = house.new(7)
    house.page(house.feed.work(), newest=9)

    found = [guest.live]
    house.publish("six")
    found.append(guest.live)
    house.publish("seven")
    found.append(guest.live)

    assert found == [False, False, True]
    assert house.feed.behind == 0


def test_one_who_leaves_while_it_is_ahead_is_forgotten() -> None:
    house = House()
    guest = house.new(7)
    house.page(house.feed.work(), newest=9)
    guest.told()

    guest.leave()
    house.publish("six", "seven", "eight")

    assert (guest.told(), guest.live, house.feed.behind) == ([], False, 0)


def test_tail_may_pass_a_cursor_while_the_table_is_asked() -> None:
    house = House()
    house.live()
    guest = house.new(6)
    need = house.feed.work()

    house.publish("six", "seven")
    house.page(need, newest=7)
    before = guest.told()
    again = house.feed.work()

    assert (before, again) == ([resumed("e1-6")], None)
    assert guest.told() == [entry(7, "seven")]


def test_one_who_is_not_answered_asks_the_table_although_memory_reaches() -> None:
    house = House()
    house.live()
    guest = house.new(6)
    house.publish("six", "seven")

    need = house.feed.work()
    house.page(need, [(7, "seven")])

    assert need == Need("a", 6, 7)
    assert guest.told() == [resumed("e1-6"), entry(7, "seven")]


def test_one_who_is_not_answered_is_asked_for_although_others_are() -> None:
    house = House()
    house.live()
    waits = house.new(6)
    house.publish("six", "seven")
    answered = house.new(6)

    need = house.feed.work()
    house.page(need, [(7, "seven")])

    assert need == Need("a", 6, 7)
    assert waits.told() == answered.told() == [resumed("e1-6"), entry(7, "seven")]


def test_one_who_missed_nothing_of_its_channel_becomes_live() -> None:
    house = House()
    house.publish("six", "seven", channel="b")

    guest = house.new(5)
    need = house.feed.work()

    assert need is None
    assert (guest.told(), guest.live) == ([resumed("e1-5")], True)


def test_one_who_is_not_answered_waits_for_the_table_also_after_a_loss() -> None:
    house = House()
    guest = house.new(6)
    house.publish("six")
    house.feed.lost()

    house.feed.opened("e1", 0, 6)
    before = guest.told()
    need = house.feed.work()
    house.page(need)

    assert (before, need) == ([interrupted()], Need("a", 6, 6))
    assert guest.told() == [resumed("e1-6")]
    assert (guest.live, house.feed.behind) == (True, 0)


def test_one_who_is_gone_at_its_answer_does_not_become_live() -> None:
    house = House()
    guest = Guest(house.feed, "a", native, resume=True)
    guest.outlet.on_write = guest.leave

    house.feed.subscribe(guest.subscription)

    assert guest.told() == [subscribed("e1-5")]
    assert (guest.live, house.feed.subscriptions) == (False, 0)


def test_one_who_is_gone_when_the_table_has_answered_leaves_nothing_behind() -> None:
    house = House()
    guest = house.new(3)
    guest.outlet.on_write = guest.leave

    house.page(house.feed.work(), [(4, "four")])

    assert guest.told() == [resumed("e1-3")]
    assert (house.feed.subscriptions, house.feed.behind) == (0, 0)


def test_cursors_are_judged_when_the_journal_is_opened() -> None:
    house = House(None)
    at_end, behind, old, stranger = (
        house.new(5),
        house.new(4),
        house.new(2),
        house.new(5, epoch="e0"),
    )

    house.feed.opened("e1", 3, 5)

    assert at_end.told() == [resumed("e1-5")]
    assert behind.told() == []
    assert old.told() == [subscribed("e1-5"), gap("expired", "e1-5", reload_window=0.4)]
    assert stranger.told() == [
        subscribed("e1-5"),
        gap("epoch_changed", "e1-5", reload_window=0.4),
    ]
    assert house.feed.work() == Need("a", 4, 5)
