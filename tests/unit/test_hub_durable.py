"""The hub's durable channels: whose source is the journal."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.entries import Entry, Need
from bridge.core.subscription import State
from bridge.values.channels import Patterns
from bridge.values.cursor import Cursor
from bridge.values.errors import BadChannel, Unavailable
from bridge.values.message import Batch
from unit.doubles import (
    make_hub,
)
from unit.hub_scene import (
    House,
    gap,
    interrupted,
    keeping,
    notification,
    subscribed,
)

# Durable channels.


def undecided(state: State = State.LIVE, **options: Any) -> House:
    """A house that does not know yet which channels are durable."""
    return House(state, make_hub, patterns=None, **options)


def answered(channel: str = "kept", cursor: str = "e1-5") -> dict[str, Any]:
    return subscribed(channel) | {"durable": True, "cursor": cursor}


def journal_lost(channel: str = "kept") -> dict[str, Any]:
    return {"type": "interrupted", "channel": channel, "reason": "journal_lost"}


def test_nothing_is_wanted_or_said_before_it_is_known_what_is_durable() -> None:
    house = undecided()

    guests = [house.new("a"), house.new("kept")]

    assert [guest.told for guest in guests] == [[], []]
    assert house.demand.calls == []
    assert (house.hub.channels, house.hub.subscriptions) == (0, 2)


def test_those_who_waited_are_answered_when_it_is_known_what_is_durable() -> None:
    house = undecided()
    plain, kept = house.new("a"), house.new("kept")

    house.hub.feed.opened("e1", 0, 5)
    house.hub.know(Patterns(["kept*"]))

    assert plain.told == [subscribed()]
    assert kept.told == [answered()]
    assert (house.hub.channels, house.hub.subscriptions) == (2, 2)


def test_those_who_waited_may_leave_when_it_is_known_what_is_durable() -> None:
    house = undecided()
    plain, kept = house.new("a"), house.new("kept")
    house.hub.know(Patterns(["kept*"]))

    plain.leave()
    kept.leave()

    assert house.demand.calls == [
        ("want", "a"),
        ("want", "kept"),
        ("unwant", "a"),
        ("unwant", "kept"),
    ]
    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)


def test_those_who_waited_are_taken_in_once() -> None:
    house = undecided()
    guest = house.new("a")
    house.hub.know(Patterns([]))

    house.hub.know(Patterns(["a"]))

    assert guest.told == [subscribed()]
    assert house.hub.feed.subscriptions == 0


def test_one_who_waited_for_a_durable_channel_waits_for_the_journal_too() -> None:
    house = undecided()
    guest = house.new("kept")

    house.hub.know(Patterns(["kept*"]))
    before = guest.told
    house.hub.feed.opened("e1", 0, 5)

    assert before == []
    assert guest.told == [answered()]


def test_one_who_waited_and_left_is_forgotten() -> None:
    house = undecided()
    guest = house.new("a")

    guest.leave()
    guest.leave()
    house.hub.know(Patterns([]))

    assert guest.told == []
    assert house.demand.calls == []
    assert house.hub.subscriptions == 0


def test_those_who_wait_are_told_once_that_the_source_is_away() -> None:
    house = undecided()
    before = house.new("a")
    house.hub.journal_lost()
    after = house.new("a")
    at_once = after.told
    house.hub.journal_lost()

    house.hub.know(Patterns([]))

    assert at_once == [interrupted()]
    assert before.told == [interrupted(), subscribed()]
    assert after.told == [interrupted(), subscribed()]


def test_one_who_waited_for_a_durable_channel_is_interrupted_once() -> None:
    house = undecided()
    guest = house.new("kept")
    house.hub.journal_lost()

    house.hub.know(Patterns(["kept*"]))
    house.hub.feed.opened("e1", 0, 5)

    assert guest.told == [interrupted("kept"), answered()]


def test_one_who_leaves_while_others_are_entered_is_not_entered() -> None:
    house = undecided()
    first, second = house.new("a"), house.new("kept")
    # What the first is told shows that the client of both is gone.
    first.outlet.on_write = second.leave

    house.hub.feed.opened("e1", 0, 5)
    house.hub.know(Patterns(["kept*"]))

    assert second.told == []
    assert (house.hub.subscriptions, house.hub.feed.subscriptions) == (1, 0)
    assert house.hub.channels == 1


def test_channel_that_turns_out_to_be_plain_may_have_too_long_a_name() -> None:
    house = undecided()
    name = "é" * 32
    long, short, kept = house.new(name, id=1), house.new("a"), house.new(f"kept {name}")

    house.hub.feed.opened("e1", 0, 5)
    house.hub.know(Patterns(["kept*"]))

    assert long.told == [
        {
            "type": "error",
            "code": "bad_channel",
            "message": f"channel {name!r} is not valid: 64 bytes, "
            "at most 63 are allowed",
            "id": 1,
            "channel": name,
        }
    ]
    assert long.subscription.active is False
    assert short.told == [subscribed()]
    assert kept.told == [answered(f"kept {name}")]
    assert (house.hub.channels, house.hub.subscriptions) == (1, 2)


def test_channel_that_turns_out_to_be_too_many_is_refused() -> None:
    house = undecided()
    guest = house.new("a")
    house.demand.error = Unavailable("too many channels", retry_delay=30.0)

    house.hub.know(Patterns([]))
    guest.leave()

    assert [message["type"] for message in guest.told] == ["error"]
    assert guest.told[0]["code"] == "unavailable"
    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)


def test_what_is_durable_may_change_for_those_who_come_later() -> None:
    house = keeping()
    plain, kept = house.new("a"), house.new("kept")

    house.hub.know(Patterns(["a"]))
    late_plain, late_kept = house.new("kept"), house.new("a")
    house.hub.feed.advance([Entry(6, "a", "six")], 6, house.hub.publish_to_plain)

    assert plain.told == [subscribed(), notification("six")]
    assert kept.told == [answered()]
    assert late_plain.told == [subscribed("kept")]
    assert late_kept.told == [
        answered("a"),
        notification("six") | {"cursor": "e1-6"},
    ]


def test_who_came_before_its_channel_was_durable_is_told_that_the_journal_begins() -> (
    None
):
    house = keeping()
    plain, other, kept = house.new("a"), house.new("b"), house.new("kept")
    house.hub.know(Patterns(["a", "kept"]))

    house.hub.journal_began()

    gap = {"type": "gap", "channel": "a", "reason": "not_kept", "reload_window": 1.0}
    assert plain.told == [subscribed(), gap]
    assert (other.told, kept.told) == ([subscribed("b")], [answered()])


def test_who_gets_entries_of_the_journal_is_told_that_it_begins_anew() -> None:
    house = keeping()
    plain, other = house.new("a"), house.new("b")
    house.hub.publish_to_plain(Batch("a", ("1",), ("e1-6",)))

    house.hub.journal_began()

    gap = {"type": "gap", "channel": "a", "reason": "not_kept", "reload_window": 1.0}
    assert plain.told == [subscribed(), notification("1"), gap]
    assert other.told == [subscribed("b")]


def test_who_waits_for_a_listener_is_not_told_that_the_journal_begins() -> None:
    house = keeping(State.PENDING)
    plain = house.new("a")
    house.hub.know(Patterns(["a"]))

    house.hub.journal_began()

    assert plain.told == []


def test_durable_channel_is_listened_to_as_well() -> None:
    house = keeping()
    first, second = house.new("kept"), house.new("kept")

    first.leave()
    before = list(house.demand.calls)
    second.leave()

    assert before == [("want", "kept")]
    assert house.demand.calls == [("want", "kept"), ("unwant", "kept")]
    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)
    assert house.hub.feed.subscriptions == 0


def test_durable_channel_may_follow_the_journal_alone() -> None:
    house = keeping(tripwire=False)

    guest = house.new("kept")
    told = guest.told
    guest.leave()

    assert told == [answered()]
    assert house.demand.calls == []
    assert (house.hub.subscriptions, house.hub.feed.subscriptions) == (0, 0)


@pytest.mark.parametrize(("size", "listened"), [(63, True), (64, False)])
def test_durable_channel_is_listened_to_when_postgresql_can(
    size: int, listened: bool
) -> None:
    house = keeping()
    name = "kept" + "x" * (size - 4)

    guest = house.new(name)

    assert guest.told == [answered(name)]
    assert house.demand.calls == ([("want", name)] if listened else [])


def test_durable_channel_is_counted_in_bytes_and_not_in_characters() -> None:
    house = keeping()

    house.new("kept" + "é" * 30)

    assert house.demand.calls == []


def test_journal_does_without_a_listener_that_has_no_room() -> None:
    house = keeping()
    house.demand.error = Unavailable("too many channels")

    guest = house.new("kept")
    told = guest.told
    guest.leave()

    assert told == [answered()]
    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)


def test_durable_channel_needs_no_listener_to_be_live() -> None:
    for state in (State.PENDING, State.AWAY):
        assert keeping(state).new("kept").told == [answered()]


def test_listener_that_comes_and_goes_is_nothing_to_a_durable_channel() -> None:
    house = keeping(State.PENDING)
    guest = house.new("kept")

    house.hub.in_force(["kept"])
    house.hub.interrupted(["kept"], 1700000000.0)
    house.hub.in_force(["kept"])

    assert guest.told == [answered()]


def test_gap_of_a_listener_counts_those_whom_it_is_told() -> None:
    house = keeping()
    guest = house.crowd(150, "a")[0]
    house.crowd(500, "kept")

    house.hub.interrupted(["a", "kept"], None)
    house.hub.in_force(["a", "kept"])

    assert guest.told == [interrupted(), gap(reload_window=1.5)]


def test_channel_that_postgresql_refuses_stays_in_the_journal() -> None:
    house = keeping(State.PENDING)
    guest = house.new("kept")

    house.hub.refuse("kept", BadChannel("no"))
    house.hub.feed.advance([Entry(6, "kept", "six")], 6, house.hub.publish_to_plain)
    told = guest.told
    guest.leave()

    assert told == [answered(), notification("six", "kept") | {"cursor": "e1-6"}]
    # The listener has given the channel up by itself.
    assert house.demand.calls == [("want", "kept")]
    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)


def test_one_from_before_a_refusal_leaves_without_those_who_came_after_it() -> None:
    house = keeping(State.PENDING)
    before = house.new("kept")
    house.hub.refuse("kept", BadChannel("no"))
    house.new("kept")

    before.leave()

    assert house.demand.calls == [("want", "kept")] * 2
    assert (house.hub.channels, house.hub.subscriptions) == (1, 1)


def test_journal_that_is_lost_interrupts_durable_channels_alone() -> None:
    house = keeping()
    plain, kept = house.new("a"), house.new("kept")

    house.hub.journal_lost()

    assert plain.told == [subscribed()]
    assert kept.told == [answered(), journal_lost()]


def test_who_waits_for_a_journal_that_may_not_be_read_is_refused_for_now() -> None:
    house = keeping()
    early = house.new("kept")
    house.hub.journal_lost()
    waits = house.new("kept")

    house.hub.journal_denied(True)
    with pytest.raises(Unavailable, match="not served now") as late:
        house.new("kept")
    plain = house.new("a")

    assert early.told == [answered(), journal_lost()]
    assert waits.told == [
        journal_lost(),
        {
            "type": "error",
            "code": "unavailable",
            "message": str(late.value),
            "channel": "kept",
            "retry_delay": late.value.retry_delay,
        },
    ]
    assert (early.subscription.active, waits.subscription.active) == (True, False)
    assert plain.told == [subscribed()]
    assert house.hub.subscriptions == 2


def test_journal_that_may_be_read_again_is_served() -> None:
    house = keeping()
    house.hub.journal_lost()
    house.hub.journal_denied(True)

    house.hub.journal_denied(False)
    guest = house.new("kept")
    house.hub.feed.opened("e1", 0, 5)

    assert guest.told == [journal_lost(), answered()]


def test_reader_of_the_journal_is_told_that_somebody_is_behind() -> None:
    calls: list[None] = []
    house = keeping(journal_wanted=lambda: calls.append(None))
    calls.clear()

    house.new("kept", cursor=Cursor("e1", 3))

    assert len(calls) == 1
    assert house.hub.feed.work() == Need("kept", 3, 5)


def test_entries_are_kept_in_memory_within_the_bound_that_is_given() -> None:
    for bound, need in [(0, Need("kept", 5, 6)), (1000, None)]:
        house = keeping(max_recent_bytes=bound)
        house.new("kept")
        house.hub.feed.advance([Entry(6, "kept", "6")], 6, house.hub.publish_to_plain)
        house.new("kept", cursor=Cursor("e1", 5))

        assert house.hub.feed.work() == need


def test_what_is_published_is_wanted_where_somebody_has_the_channel() -> None:
    house = keeping()
    house.new("a")
    kept = house.new("kept")

    before = [house.hub.wants(name) for name in ("a", "kept", "b")]
    kept.leave()

    assert before == [True, True, False]
    assert house.hub.wants("kept") is False


def test_durable_channel_that_is_not_listened_to_is_wanted_of_the_journal() -> None:
    house = keeping(tripwire=False)

    house.new("kept")

    assert house.hub.wants("kept") is True


# Entries of the journal for those who do not follow it.


def test_entries_go_without_cursor_to_those_who_do_not_follow_the_journal() -> None:
    house = keeping()
    [guest] = house.crowd(1)

    house.hub.publish_to_plain(Batch("a", ("1",), ("e1-6",)))

    assert guest.told == [notification("1")]
    assert guest.outlet.owners == [guest.subscription]


def test_entries_do_not_come_twice_to_those_who_follow_the_journal() -> None:
    house = keeping()
    [guest] = house.crowd(1, "kept")

    house.hub.publish_to_plain(Batch("kept", ("1",), ("e1-6",)))

    assert guest.told == []


def test_entries_of_a_channel_that_nobody_has_are_nothing() -> None:
    keeping().hub.publish_to_plain(Batch("a", ("1",), ("e1-6",)))


@pytest.mark.parametrize("state", [State.PENDING, State.AWAY])
def test_entries_of_a_channel_that_is_not_live_are_not_for_plain_ones(
    state: State,
) -> None:
    house = keeping(state)
    [guest] = house.crowd(1)

    house.hub.publish_to_plain(Batch("a", ("1",), ("e1-6",)))

    assert guest.told == []
