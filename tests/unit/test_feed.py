"""The journal as a worker sees it: who follows its tail, and who is behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bridge.core import entries as entries_module
from bridge.core import replay as replay_module
from bridge.core.entries import MAX_PAGE_BYTES, Entry, Need, Page
from bridge.core.feed import Feed
from bridge.core.replay import MAX_GROUPS
from bridge.core.subscription import Mark, Place, State, Subscription
from bridge.values.channels import Patterns
from bridge.values.cursor import Cursor
from bridge.values.message import Batch, Gap
from bridge.wire import native
from unit.doubles import CountingCodec, SlowOutlet, Time

MANY = 200
"""Subscriptions of a fan-out that is long enough to pause."""


class Guest:
    """A subscription of the journal, and what it was told."""

    def __init__(self, feed: Feed, channel: str, codec: Any, **options: Any) -> None:
        self.outlet = SlowOutlet()
        self.subscription = Subscription(
            channel, codec=codec, outlet=self.outlet, **options
        )
        self._feed = feed

    def leave(self) -> None:
        self.subscription.end()
        self._feed.unsubscribe(self.subscription)

    def told(self) -> list[dict[str, Any]]:
        """Return what it was told since the last call."""
        return self.outlet.take()

    @property
    def live(self) -> bool:
        live = self.subscription.place is Place.LIVE
        return live and self._feed.state is State.LIVE


class House:
    """A feed with its journal's reader, a clock and subscribers.

    Args:
        position: the journal's end when it is opened; None: it is not yet.
    """

    def __init__(
        self, position: int | None = 5, *, floor: int = 0, recent: int = 1_000_000
    ) -> None:
        self.time = Time()
        self.wakes = 0
        self.feed = Feed(
            self.time.fan_out(),
            max_recent_bytes=recent,
            # Its own number for each, to tell who was counted.
            reload_window=lambda told: told / 10,
            wake=self._wake,
        )
        #: Batches for those who do not follow the journal.
        self.others: list[Batch] = []
        if position is not None:
            self.feed.opened("e1", floor, position)
            self.wakes = 0

    def _wake(self) -> None:
        self.wakes += 1

    def new(
        self,
        cursor: int | None = None,
        *,
        channel: str = "a",
        epoch: str = "e1",
        **more: Any,
    ) -> Guest:
        """Subscribe somebody; what it is told at once is kept."""
        given = None if cursor is None else Cursor(epoch, cursor)
        guest = Guest(
            self.feed, channel, more.pop("codec", native), cursor=given, **more
        )
        self.feed.subscribe(guest.subscription)
        return guest

    def live(self, channel: str = "a") -> Guest:
        """Subscribe somebody, and forget what it was told."""
        guest = self.new(channel=channel)
        guest.told()
        return guest

    def slow(self, channel: str = "a") -> Guest:
        """Subscribe somebody whose socket takes nothing any more."""
        guest = self.live(channel)
        guest.outlet.stuck = True
        return guest

    def publish(self, *payloads: str | Gap | None, channel: str = "a") -> None:
        """Let the tail bring so many entries."""
        self.bring(*((channel, payload) for payload in payloads))

    def bring(self, *entries: tuple[str, str | Gap | None]) -> None:
        first = self.feed.position + 1
        numbered = [
            Entry(position, channel, payload)
            for position, (channel, payload) in enumerate(entries, first)
        ]
        self.feed.advance(numbered, first + len(entries) - 1, self.others.append)

    def page(
        self,
        need: Need | None,
        entries: Sequence[tuple[int, str | Gap]] = (),
        **changes: Any,
    ) -> None:
        """Answer a need; by default with all that there is."""
        assert need is not None
        values: dict[str, Any] = {
            "upto": need.upto,
            "epoch": self.feed.epoch,
            "floor": self.feed.floor,
            "newest": self.feed.position,
        }
        self.feed.replayed(need, Page(entries, **{**values, **changes}))


def subscribed(
    cursor: str, channel: str = "a", resumed: bool = False
) -> dict[str, Any]:
    return {
        "type": "subscribed",
        "channel": channel,
        "durable": True,
        "resumed": resumed,
        "cursor": cursor,
    }


def resumed(cursor: str) -> dict[str, Any]:
    return subscribed(cursor, resumed=True)


def entry(position: int, text: str, channel: str = "a") -> dict[str, Any]:
    return {
        "type": "notification",
        "channel": channel,
        "cursor": f"e1-{position}",
        "text": text,
    }


def gap(
    reason: str, cursor: str, channel: str = "a", reload_window: float = 0.1
) -> dict[str, Any]:
    return {
        "type": "gap",
        "channel": channel,
        "reason": reason,
        "reload_window": reload_window,
        "cursor": cursor,
    }


def interrupted(channel: str = "a") -> dict[str, Any]:
    return {"type": "interrupted", "channel": channel, "reason": "journal_lost"}


def restored(channel: str = "a") -> dict[str, Any]:
    return {"type": "restored", "channel": channel}


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


# Cursors.


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


# The tail.


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
