"""The journal as a worker sees it: its state, and what may be said of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.core.entries import Need, Page
from bridge.core.subscription import Mark, State
from bridge.values.channels import Patterns
from bridge.values.cursor import Cursor
from unit.doubles import CountingCodec
from unit.feed_scene import (
    MANY,
    Guest,
    House,
    entry,
    gap,
    interrupted,
    restored,
    resumed,
    subscribed,
)

# Which channels.


def test_whether_a_channel_is_durable_is_not_known_at_first() -> None:
    assert House().feed.is_durable("a") is None


def test_channel_is_durable_when_a_pattern_covers_it() -> None:
    feed = House().feed

    feed.patterns = Patterns(["kept_*"])

    assert [feed.is_durable(name) for name in ("kept_a", "a")] == [True, False]


def test_payloads_are_wanted_of_the_channels_that_somebody_has() -> None:
    house = House()
    first, second = house.new(), house.new()

    found = [house.feed.wants("a"), house.feed.wants("b")]
    first.leave()
    found.append(house.feed.wants("a"))
    second.leave()
    found.append(house.feed.wants("a"))

    assert found == [True, False, True, False]


def test_subscriptions_are_counted_over_all_channels() -> None:
    house = House()
    first = house.new()
    house.new()
    house.new(channel="b")

    before = house.feed.subscriptions
    first.leave()

    assert (before, house.feed.subscriptions) == (3, 2)


# The source comes and goes.


def test_nothing_is_said_before_the_journal_is_open() -> None:
    house = House(None)

    assert house.new().told() == []
    assert (house.feed.state, house.feed.position) == (State.PENDING, 0)


def test_those_who_waited_are_answered_when_the_journal_is_opened() -> None:
    house = House(None)
    first, second = house.new(id=1), house.new(channel="b")

    house.feed.opened("e1", 0, 5)

    assert first.told() == [subscribed("e1-5") | {"id": 1}]
    assert second.told() == [subscribed("e1-5", "b")]
    assert (first.live, second.live) == (True, True)


def test_opened_journal_says_whether_it_begins_anew() -> None:
    house = House(None)

    first = house.feed.opened("e1", 0, 5)
    house.feed.lost()
    again = house.feed.opened("e1", 0, 7)
    house.feed.lost()
    other_epoch = house.feed.opened("e2", 0, 7)
    house.feed.lost()
    fewer = house.feed.opened("e2", 0, 6)
    house.feed.lost()
    expired = house.feed.opened("e2", 8, 9)

    assert (first, again) == (True, False)
    assert (other_epoch, fewer, expired) == (True, True, True)


def test_opened_journal_has_its_reader_look_for_who_is_behind() -> None:
    house = House(None)

    house.feed.opened("e1", 0, 5)

    assert house.wakes == 1


def test_lost_journal_is_told_once_and_restored_without_gap() -> None:
    house = House()
    guest, other = house.live(), house.live("b")

    house.feed.lost()
    house.feed.lost()
    away = (house.feed.state, guest.live)
    house.feed.opened("e1", 0, 7)
    house.publish("six", "seven")

    assert away == (State.AWAY, False)
    assert guest.told() == [
        interrupted(),
        restored(),
        entry(6, "six"),
        entry(7, "seven"),
    ]
    assert other.told() == [interrupted("b"), restored("b")]


def test_one_who_comes_while_the_journal_is_away_is_told_so_then_answered() -> None:
    house = House()
    house.feed.lost()

    guest = house.new()
    before = guest.told()
    house.feed.opened("e1", 0, 5)

    assert before == [interrupted()]
    assert guest.told() == [subscribed("e1-5")]


def test_journal_that_was_never_there_is_lost_and_then_opened_without_gap() -> None:
    house = House(None)
    guest = house.new()

    house.feed.lost()
    house.feed.opened("e1", 3, 5)
    house.publish("six")

    assert guest.told() == [interrupted(), subscribed("e1-5"), entry(6, "six")]
    assert house.feed.floor == 3


def test_one_who_is_behind_is_restored_and_goes_on_from_where_it_was() -> None:
    house = House()
    guest = house.slow()
    house.publish("1")
    house.publish("2")
    house.publish("3")  # drops the second

    house.feed.lost()
    house.feed.opened("e1", 0, 8)
    guest.outlet.release()
    house.feed.work()

    assert guest.told() == [
        entry(6, "1"),
        interrupted(),
        restored(),
        entry(7, "2"),
        entry(8, "3"),
    ]


def test_one_who_waits_for_the_table_goes_on_waiting_when_the_journal_is_back() -> None:
    house = House()
    guest = house.new(2)
    house.feed.lost()

    house.feed.opened("e1", 0, 5)
    before = guest.told()
    need = house.feed.work()
    house.page(need, [(3, "three")])

    assert before == [interrupted()]
    assert need == Need("a", 2, 5)
    assert guest.told() == [resumed("e1-2"), entry(3, "three")]


def test_interruption_and_its_end_are_encoded_once_for_each_codec() -> None:
    house = House()
    codec = CountingCodec()
    for _ in range(3):
        house.new(codec=codec)
    codec.encoded.clear()

    house.feed.lost()
    house.feed.lost()
    house.feed.opened("e1", 0, 5)

    assert codec.encoded == ["Interrupted", "Restored"]


@pytest.mark.parametrize(
    ("epoch", "floor", "newest", "reason"),
    [
        ("e1", 0, 5, None),
        ("e1", 5, 5, None),
        ("e1", 6, 9, "expired"),
        ("e1", 0, 4, "epoch_changed"),
        ("e2", 0, 5, "epoch_changed"),
        ("e2", 6, 9, "epoch_changed"),
    ],
)
def test_journal_that_is_back_is_the_one_that_was_lost_or_begins_anew(
    epoch: str, floor: int, newest: int, reason: str | None
) -> None:
    house = House()
    guest = house.live()
    house.feed.lost()

    house.feed.opened(epoch, floor, newest)

    end = [restored()] if reason is None else [gap(reason, f"{epoch}-{newest}")]
    assert guest.told() == [interrupted(), *end]
    assert guest.live is True
    assert (house.feed.floor, house.feed.epoch) == (floor, epoch)


def test_one_who_comes_while_others_are_restored_is_answered_once() -> None:
    house = House()
    [*guests] = [house.live() for _ in range(MANY)]
    other = house.live("b")
    house.feed.lost()
    house.time.step = 0.005
    came: list[Guest] = []

    house.time.meanwhile = lambda: came.extend([house.new(), house.new(channel="b")])
    house.feed.opened("e1", 0, 5)

    assert [guest.told() for guest in came] == [
        [subscribed("e1-5")],
        [subscribed("e1-5", "b")],
    ]
    assert guests[-1].told() == [interrupted(), restored()]
    assert other.told() == [interrupted("b"), restored("b")]


# Beginning anew.


def test_journal_that_begins_anew_is_a_gap_for_all_and_goes_on_from_there() -> None:
    house = House()
    live, behind, other = house.live(), house.slow(), house.live("b")
    for text in "678":
        house.publish(text)
    live.told()

    house.feed.reset("e2", 1, 3, "epoch_changed")
    behind.outlet.release()
    house.publish("new")

    gap_ = gap("epoch_changed", "e2-3", reload_window=0.3)
    new = entry(4, "new") | {"cursor": "e2-4"}
    assert live.told() == [gap_, new]
    assert behind.told() == [entry(6, "6"), gap_, new]
    assert other.told() == [gap_ | {"channel": "b"}]
    assert (live.live, behind.live, house.feed.behind) == (True, True, 0)
    assert (house.feed.floor, house.feed.cursor) == (1, Cursor("e2", 3 + 1))


def test_journal_that_begins_anew_shows_nothing_of_the_old_one() -> None:
    house = House()
    house.live()
    house.publish("six", "seven")

    house.feed.reset("e1", 0, 6, "epoch_changed")
    guest = house.new(5)

    assert guest.told() == []
    assert house.feed.work() == Need("a", 5, 6)


def test_journal_that_begins_anew_ends_what_was_ahead_and_behind() -> None:
    house = House()
    house.live()
    house.publish("6")
    ahead, behind = house.new(9), house.new(5)
    house.page(house.feed.work(), newest=9)
    ahead.told()
    behind.told()

    house.feed.reset("e2", 0, 3, "epoch_changed")
    need = house.feed.work()
    house.publish("new")
    house.feed.work()

    gap_ = gap("epoch_changed", "e2-3", reload_window=0.3)
    new = entry(4, "new") | {"cursor": "e2-4"}
    assert need is None
    assert ahead.told() == behind.told() == [gap_, new]


def test_one_who_was_not_answered_is_judged_anew() -> None:
    house = House()
    old, new = house.new(3), house.new(2, epoch="e2")
    new.told()

    house.feed.reset("e2", 0, 7, "epoch_changed")

    assert old.told() == [
        subscribed("e2-7"),
        gap("epoch_changed", "e2-7", reload_window=0.2),
    ]
    assert house.feed.work() is None


def test_one_who_was_not_answered_may_be_good_after_all() -> None:
    house = House(None)
    guest = house.new(2, epoch="e2")
    house.feed.lost()

    house.feed.opened("e2", 0, 7)
    need = house.feed.work()
    house.page(need, [])

    assert need == Need("a", 2, 7)
    assert guest.told() == [interrupted(), resumed("e2-2")]


def test_gap_of_a_beginning_is_encoded_once_for_each_codec() -> None:
    house = House()
    codec = CountingCodec()
    for _ in range(3):
        house.new(codec=codec)
    codec.encoded.clear()

    house.feed.reset("e2", 0, 3, "epoch_changed")

    assert codec.encoded == ["Gap"]


def test_one_who_is_gone_at_its_gap_does_not_become_live() -> None:
    house = House()
    gone, stays = house.live(), house.live()
    gone.outlet.on_write = gone.leave

    house.feed.reset("e2", 0, 3, "epoch_changed")
    house.publish("new")

    assert [message["type"] for message in gone.told()] == ["gap"]
    assert [message["type"] for message in stays.told()] == ["gap", "notification"]
    assert house.feed.subscriptions == 1


def test_one_who_leaves_while_others_are_told_of_a_beginning_is_told_nothing() -> None:
    house = House()
    guests = [house.live() for _ in range(MANY)]
    house.time.step = 0.005

    house.time.meanwhile = guests[-1].leave
    house.feed.reset("e2", 0, 3, "epoch_changed")

    assert [len(guest.told()) for guest in guests] == [1] * (MANY - 1) + [0]


def test_one_who_is_not_told_yet_of_a_beginning_is_not_live() -> None:
    house = House()
    guests = [house.live() for _ in range(MANY)]
    house.time.step = 0.005
    found: list[bool] = []

    house.time.meanwhile = lambda: found.extend(guest.live for guest in guests)
    house.feed.reset("e2", 0, 3, "epoch_changed")

    assert found == [False] * MANY
    assert all(guest.live for guest in guests)


def test_what_is_dropped_before_a_beginning_is_told_takes_nobody_back() -> None:
    house = House()
    guest = house.live()
    house.publish("six")
    guest.told()
    house.time.step = 0.005

    old = Mark(1, 5)
    house.time.meanwhile = lambda: guest.subscription.dropped([old]) and None
    house.feed.reset("e2", 0, 7, "epoch_changed")
    house.publish("new")
    house.feed.work()

    assert guest.told() == [
        gap("epoch_changed", "e2-7"),
        entry(8, "new") | {"cursor": "e2-8"},
    ]


# What may be said of it.


def test_one_who_is_live_has_everything_up_to_the_tail() -> None:
    house = House()
    guest = house.live()
    house.publish("six", channel="b")

    assert house.feed.promise(guest.subscription) == Cursor("e1", 6)
    assert house.feed.promise_to_all([guest.subscription]) == Cursor("e1", 6)


def test_nothing_is_said_of_one_whose_outlet_may_drop() -> None:
    house = House()
    guest = house.slow()
    house.publish("six")

    assert house.feed.promise(guest.subscription) is None
    assert house.feed.promise_to_all([guest.subscription]) is None


def test_nothing_is_said_to_all_of_a_client_while_the_journal_is_away() -> None:
    house = House()
    guest = house.live()

    house.feed.lost()

    assert house.feed.promise_to_all([guest.subscription]) is None


def test_nobody_is_live_on_a_channel_that_all_have_left() -> None:
    house = House()
    guest = house.live()

    guest.leave()

    assert guest.live is False


# Pauses.


@pytest.mark.parametrize(
    ("before", "call"),
    [
        (House.new, lambda house: house.publish("x")),
        (House.new, lambda house: house.feed.lost()),
        (House.new, lambda house: house.feed.opened("e1", 0, 5)),
        (House.new, lambda house: house.feed.reset("e2", 0, 5, "epoch_changed")),
        (
            lambda house: (house.live(), house.publish("x"), house.new(5)),
            lambda house: house.feed.work(),
        ),
        (
            lambda house: house.new(4),
            lambda house: house.feed.replayed(
                Need("a", 4, 5), Page([(5, "five")], 5, "e1", 0, 5)
            ),
        ),
    ],
    ids=["advance", "lost", "opened", "reset", "work", "replayed"],
)
def test_time_that_has_passed_before_is_not_counted(
    before: Callable[[House], object], call: Callable[[House], None]
) -> None:
    house = House()
    before(house)
    house.time.pass_by(1.0)

    call(house)

    assert house.time.pauses == 0
