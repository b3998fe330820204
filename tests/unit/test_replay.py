"""Those who are behind, and how they catch up."""

from __future__ import annotations

import pytest

from bridge.core import entries as entries_module
from bridge.core import replay as replay_module
from bridge.core.entries import Need
from bridge.core.replay import MAX_GROUPS
from bridge.values.cursor import Cursor
from bridge.values.message import Batch
from bridge.wire import native
from unit.doubles import CountingCodec
from unit.feed_scene import (
    Guest,
    House,
    entry,
    gap,
    interrupted,
    resumed,
)

# Those who are behind.


def test_nobody_behind_is_nothing_to_do() -> None:
    house = House()
    house.live()

    assert house.feed.work() is None


def test_nothing_is_brought_forward_while_the_journal_is_away() -> None:
    house = House()
    house.live()
    house.publish("six")
    guest = house.new(5)
    guest.told()
    house.feed.lost()

    need = house.feed.work()

    assert (need, house.feed.behind) == (None, 1)
    assert guest.told() == [interrupted()]


def test_one_who_came_wakes_the_reader_when_it_is_behind() -> None:
    house = House()

    house.new(4)

    assert (house.wakes, house.feed.behind) == (1, 1)


def test_those_at_the_same_position_are_read_and_encoded_for_once() -> None:
    house = House()
    codec = CountingCodec()
    guests = [house.new(3, codec=codec) for _ in range(3)]

    need = house.feed.work()
    house.page(need, [(4, "four")])
    again = house.feed.work()

    assert (need, again) == (Need("a", 3, 5), None)
    assert codec.encoded.count("Batch") == 1
    assert [guest.told()[1:] for guest in guests] == [[entry(4, "four")]] * 3


def test_those_at_different_positions_have_their_turn_in_the_order_they_came() -> None:
    house = House()
    house.new(3)
    house.new(1)
    house.new(2, channel="b")
    needs = []

    while house.feed.behind:
        needs.append(house.feed.work())
        house.page(needs[-1])

    assert needs == [Need("a", 3, 5), Need("a", 1, 5), Need("b", 2, 5)]


def test_one_who_leaves_the_queue_leaves_the_others_in_it() -> None:
    house = House()
    first, second = house.new(3), house.new(3)

    first.leave()
    need = house.feed.work()
    house.page(need, [(4, "four")])

    assert first.told() == []
    assert second.told() == [resumed("e1-3"), entry(4, "four")]


def test_last_one_who_leaves_the_queue_needs_nothing_any_more() -> None:
    house = House()

    house.new(3).leave()

    assert (house.feed.work(), house.feed.behind) == (None, 0)


def test_page_that_comes_when_all_have_left_is_nothing() -> None:
    house = House()
    guest = house.new(3)
    need = house.feed.work()

    guest.leave()
    house.page(need, [(4, "four")])
    house.page(need, floor=4)

    assert (guest.told(), house.feed.behind) == ([], 0)


def test_page_that_is_not_all_is_followed_by_the_next() -> None:
    house = House()
    guest = house.new(1)

    house.page(house.feed.work(), [(2, "two"), (3, "three")], upto=3)
    need = house.feed.work()
    house.page(need, [(5, "five")])

    assert need == Need("a", 3, 5)
    assert guest.told() == [
        resumed("e1-1"),
        entry(2, "two"),
        entry(3, "three"),
        entry(5, "five"),
    ]


def test_page_of_another_epoch_is_left_to_the_tail() -> None:
    house = House()
    guest = house.new(3)
    need = house.feed.work()

    house.page(need, [(4, "four")], epoch="e2")

    assert (guest.told(), house.feed.behind) == ([], 1)


def test_page_that_comes_while_the_journal_is_away_is_left() -> None:
    house = House()
    guest = house.new(3)
    need = house.feed.work()
    house.feed.lost()
    guest.told()

    house.page(need, [(4, "four")])

    assert (guest.told(), house.feed.behind) == ([], 1)


def test_page_is_not_for_one_who_has_come_to_another_position() -> None:
    house = House()
    guest, late = house.new(3), house.new(4)

    house.page(house.feed.work(), [(4, "four"), (5, "five")])

    assert len(guest.told()) == 3
    assert late.told() == []


def test_memory_is_brought_forward_a_page_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entries_module, "MAX_PAGE_ENTRIES", 2)
    monkeypatch.setattr(replay_module, "MAX_GROUPS", 1)
    house = House()
    house.live()
    house.publish("6", "7", "8", "9", "10")
    guest = house.new(5)
    guest.told()
    turns = []

    while house.feed.behind:
        assert house.feed.work() is None
        turns.append([message["text"] for message in guest.told()])

    assert turns == [["6", "7"], ["8", "9"], ["10"]]
    assert guest.live is True


def test_tail_has_its_turn_after_so_many_groups_from_memory() -> None:
    house = House()
    house.live()
    house.publish(*("x" * (MAX_GROUPS + 1)))
    for position in range(5, 5 + MAX_GROUPS + 1):
        house.new(position)

    first = house.feed.work()
    left = house.feed.behind
    second = house.feed.work()

    assert (first, left, second, house.feed.behind) == (None, 1, None, 0)


def test_others_have_their_turn_between_groups_from_memory() -> None:
    house = House()
    house.live()
    house.publish("six", "seven")
    house.new(5)
    house.new(6)
    house.time.step = 0.005

    house.feed.work()

    # Before each run, and after each group.
    assert house.time.pauses == 4


def test_one_who_leaves_while_it_is_brought_forward_gets_no_more() -> None:
    house = House()
    house.live()
    house.publish("six")
    guest = house.new(5)
    guest.told()
    house.time.step = 0.005

    house.time.meanwhile = guest.leave
    house.feed.work()

    assert (guest.told(), guest.live, house.feed.behind) == ([], False, 0)


def test_one_who_comes_while_others_are_brought_forward_has_its_own_turn() -> None:
    house = House()
    house.live()
    house.publish("six")
    guest = house.new(5)
    house.time.step = 0.005
    came: list[Guest] = []

    house.time.meanwhile = lambda: came.append(house.new(5))
    house.feed.work()

    told = [resumed("e1-5"), entry(6, "six")]
    assert guest.told() == told
    assert came[0].told() == told


def test_one_who_retention_passes_while_it_is_behind_has_a_gap_of_its_own() -> None:
    house = House()
    guest = house.slow()
    other = house.live()
    house.publish("6")
    house.publish("7")
    house.publish("8")
    house.feed.forget()
    guest.outlet.release()

    house.page(house.feed.work(), floor=7)
    house.publish("9")

    # Its window is that of one client.
    assert guest.told() == [entry(6, "6"), gap("expired", "e1-8"), entry(9, "9")]
    assert [message["text"] for message in other.told()] == ["6", "7", "8", "9"]


def test_one_who_is_gone_when_it_is_told_that_retention_has_passed_it() -> None:
    house = House()
    guest = house.slow()
    for text in "678":
        house.publish(text)
    house.feed.forget()
    guest.outlet.release()
    guest.outlet.on_write = guest.leave

    house.page(house.feed.work(), floor=7)

    assert (guest.live, house.feed.behind, house.feed.subscriptions) == (False, 0, 0)


# Those who read too slowly.


def test_slow_subscription_of_a_durable_channel_falls_behind_and_gets_all_later() -> (
    None
):
    house = House()
    guest = house.slow()

    for text in "6789":
        house.publish(text)
    before = (guest.live, house.feed.behind)
    guest.outlet.release()
    ready = house.feed.behind
    house.feed.work()

    assert (before, ready) == ((False, 0), 1)
    assert guest.told() == [entry(int(text), text) for text in "6789"]
    assert guest.live is True


def test_slow_subscription_keeps_nothing_beyond_its_backlog() -> None:
    house = House()
    guest = house.slow()

    for text in "6789":
        house.publish(text)

    assert len(guest.outlet.waiting) == 1


def test_slow_subscription_wakes_the_reader_when_it_can_be_written_to() -> None:
    house = House()
    guest = house.slow()
    for text in "678":
        house.publish(text)
    before = house.wakes

    guest.outlet.release()

    assert (before, house.wakes) == (0, 1)


def test_slow_subscription_that_leaves_is_not_queued() -> None:
    house = House()
    guest = house.slow()
    for text in "678":
        house.publish(text)

    guest.leave()
    guest.outlet.release()

    assert (house.feed.behind, house.wakes) == (0, 0)


def test_slow_subscription_does_not_slow_the_others() -> None:
    house = House()
    house.slow()
    guest = house.live()

    for text in "6789":
        house.publish(text)

    assert guest.told() == [entry(int(text), text) for text in "6789"]


def test_one_who_is_slow_while_it_is_brought_forward_goes_back_to_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entries_module, "MAX_PAGE_ENTRIES", 1)
    house = House()
    house.live()
    house.publish(*"678")
    guest = house.new(5)
    house.feed.forget()
    guest.outlet.stuck = True

    # The first is begun, the second waits, the third drops it.
    house.page(house.feed.work(), [(6, "6"), (7, "7"), (8, "8")])
    before = (len(guest.outlet.waiting), house.feed.behind)
    guest.outlet.release()
    need = house.feed.work()
    house.page(need, [(7, "7"), (8, "8")])

    assert before == (1, 0)
    assert need == Need("a", 6, 8)
    assert guest.told() == [resumed("e1-5"), *(entry(int(n), n) for n in "678")]
    assert guest.live is True


def test_one_who_is_slow_between_two_pages_goes_on_when_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entries_module, "MAX_PAGE_ENTRIES", 2)
    house = House()
    house.live()
    house.publish(*"6789")
    guest = house.new(5)
    guest.outlet.stuck = True

    house.feed.work()
    before = (len(guest.outlet.waiting), house.feed.behind)
    guest.outlet.release()
    house.feed.work()

    assert before == (1, 0)
    assert guest.told() == [resumed("e1-5"), *(entry(int(n), n) for n in "6789")]
    assert guest.live is True


def test_slow_client_that_comes_back_to_many_channels_reads_hardly_a_row_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entries_module, "MAX_PAGE_ENTRIES", 3)
    house = House(0, recent=0)
    channels = [f"a{number}" for number in range(20)]
    house.bring(*((channel, None) for channel in channels * 6))
    first = Guest(house.feed, channels[0], native, cursor=Cursor("e1", 0))
    guests = [first]
    for channel in channels[1:]:
        guests.append(Guest(house.feed, channel, native, cursor=Cursor("e1", 0)))
        guests[-1].subscription.outlet = first.outlet
    for guest in guests:
        house.feed.subscribe(guest.subscription)
    first.outlet.stuck = True

    read = 0
    while any(not guest.live for guest in guests):
        while (need := house.feed.work()) is not None:
            number = channels.index(need.channel) + 1
            all_of_it = range(number, 121, 20)
            rows = [row for row in all_of_it if need.after < row <= need.upto][:3]
            read += len(rows)
            upto = rows[-1] if len(rows) == 3 else need.upto
            house.page(need, [(row, "x") for row in rows], upto=upto)
        first.outlet.release()
        first.outlet.stuck = True

    told = [message for message in first.told() if message["type"] == "notification"]
    # Of each first page only the answer fits; it is read again.
    assert (len(told), read) == (120, 120 + 20 * 3)


def test_newcomer_who_cannot_be_written_to_is_judged_when_it_can() -> None:
    house = House()
    guest = Guest(house.feed, "a", native, cursor=Cursor("e1", 3))
    guest.outlet.stuck = True
    guest.outlet.write(native.encode_batch(Batch("z", ("x",)))[0])

    house.feed.subscribe(guest.subscription)
    before = house.feed.work()
    guest.outlet.release()
    need = house.feed.work()

    assert (before, need) == (None, Need("a", 3, 5))


def test_newcomer_who_waits_for_its_socket_is_asked_for_once_after_a_loss() -> None:
    house = House()
    guest = Guest(house.feed, "a", native, cursor=Cursor("e1", 3))
    guest.outlet.stuck = True
    guest.outlet.write(native.encode_batch(Batch("z", ("x",)))[0])
    house.feed.subscribe(guest.subscription)
    house.feed.lost()

    house.feed.opened("e1", 0, 5)
    guest.outlet.release()
    behind = house.feed.behind
    house.page(house.feed.work(), [(4, "four")])

    assert behind == 1
    assert guest.told()[1:] == [interrupted(), resumed("e1-3"), entry(4, "four")]
