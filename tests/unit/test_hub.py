"""Who wants what, and what they are told."""

from __future__ import annotations

import pytest

from bridge.core.subscription import State
from bridge.values.errors import BadChannel, Unavailable
from bridge.wire import native
from unit.doubles import (
    CountingCodec,
)
from unit.hub_scene import (
    House,
    gap,
    interrupted,
    notification,
    subscribed,
)

# Demand.


def test_channel_is_wanted_with_its_first_subscription_only() -> None:
    house = House()

    house.new("a")
    house.new("a")
    house.new("b")

    assert house.demand.calls == [("want", "a"), ("want", "b")]
    assert (house.hub.channels, house.hub.subscriptions) == (2, 3)


def test_channel_is_no_longer_wanted_with_its_last_subscription() -> None:
    house = House()
    first, second = house.new(), house.new()

    first.leave()
    before = list(house.demand.calls)
    second.leave()

    assert before == [("want", "a")]
    assert house.demand.calls == [("want", "a"), ("unwant", "a")]
    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)


def test_channel_that_was_left_is_wanted_again() -> None:
    house = House()
    house.new().leave()

    house.new()

    assert house.demand.calls == [("want", "a"), ("unwant", "a"), ("want", "a")]


def test_leaving_twice_counts_once() -> None:
    house = House()
    guest = house.new()
    house.new()

    guest.leave()
    guest.leave()

    assert (house.hub.channels, house.hub.subscriptions) == (1, 1)


def test_leaving_is_silent_and_ends_the_subscription() -> None:
    house = House()
    [guest] = house.crowd(1)

    guest.leave()
    house.publish("late")
    house.hub.interrupted(["a"], None)

    assert guest.subscription.active is False
    assert guest.told == []


def test_channel_that_cannot_be_had_leaves_nothing_behind() -> None:
    house = House()
    house.demand.error = Unavailable("too many channels")

    with pytest.raises(Unavailable):
        house.new()

    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)
    house.demand.error = None
    assert house.new().told == [subscribed()]


# What a new subscription is told.


def test_channel_that_is_listened_to_is_subscribed_at_once() -> None:
    assert House(State.LIVE).new().told == [subscribed()]


def test_channel_that_is_not_yet_listened_to_tells_nothing() -> None:
    assert House(State.PENDING).new().told == []


def test_channel_whose_source_is_away_is_interrupted_at_once() -> None:
    assert House(State.AWAY).new().told == [interrupted()]


def test_later_subscription_is_told_as_the_channel_stands_then() -> None:
    house = House(State.PENDING)
    first = house.new()
    house.hub.in_force(["a"])
    second = house.new()
    house.hub.interrupted(["a"], None)
    third = house.new()

    assert first.told == [subscribed(), interrupted()]
    assert second.told == [subscribed(), interrupted()]
    assert third.told == [interrupted()]


def test_new_subscription_of_a_live_channel_has_a_gap_when_it_comes_back() -> None:
    house = House(workers=2)
    house.crowd(99)

    guest = house.new(resume=True)

    # 100 clients of 2 workers, 100 reloads a second.
    assert guest.told == [
        subscribed(),
        {"type": "gap", "channel": "a", "reason": "not_kept", "reload_window": 2.0},
    ]


# Publishing.


def test_batch_goes_to_every_subscription_of_its_channel_and_no_other() -> None:
    house = House()
    first, second = house.crowd(2)
    [other] = house.crowd(1, "b")

    house.publish("1", "2")

    assert first.told == second.told == [notification("1"), notification("2")]
    assert other.told == []


def test_batches_keep_their_order() -> None:
    house = House()
    [guest] = house.crowd(1)

    for number in range(5):
        house.publish(str(number))

    assert guest.told == [notification(str(number)) for number in range(5)]


def test_batch_of_several_chunks_is_written_whole_and_in_order() -> None:
    house = House()
    guests = house.crowd(2)
    large = [character * native.MAX_CHUNK_BYTES for character in "xyz"]

    house.publish(*large)

    for guest in guests:
        assert len(guest.outlet.chunks) == 3
        assert guest.told == [notification(text) for text in large]


def test_notifications_belong_to_their_subscription() -> None:
    house = House()
    [guest] = house.crowd(1)

    house.publish("1")

    assert guest.outlet.owners == [guest.subscription]


def test_batch_is_encoded_once_for_each_codec() -> None:
    house = House()
    one, other = CountingCodec(), CountingCodec()
    guests = [house.new(codec=codec) for codec in (one, other, one, other, one)]
    one.encoded.clear()
    other.encoded.clear()

    house.publish("1", "2")

    assert (one.encoded, other.encoded) == (["Batch"], ["Batch"])
    for guest in guests:
        assert guest.told[1:] == [notification("1"), notification("2")]


def test_subscribers_of_a_codec_share_the_same_bytes() -> None:
    house = House()
    first, second = house.crowd(2)

    house.publish("1")

    assert first.outlet.chunks[0] is second.outlet.chunks[0]


def test_newcomer_gets_what_is_published_after_it_came() -> None:
    house = House()
    first = house.new()
    house.publish("1")
    second = house.new()
    house.publish("2")

    assert first.told == [subscribed(), notification("1"), notification("2")]
    assert second.told == [subscribed(), notification("2")]


def test_batch_of_a_channel_that_nobody_has_is_ignored() -> None:
    codec = CountingCodec()
    house = House()
    house.new("b", codec=codec)
    codec.encoded.clear()

    house.publish("1")

    assert codec.encoded == []


@pytest.mark.parametrize("state", [State.PENDING, State.AWAY])
def test_batch_of_a_channel_that_is_not_live_is_dropped(state: State) -> None:
    house = House(state)
    [guest] = house.crowd(1)

    house.publish("left over from an earlier LISTEN")

    assert guest.told == []


# The source comes and goes.


def test_pending_subscriptions_are_confirmed_in_force() -> None:
    house = House(State.PENDING)
    first, second = house.new(id=1), house.new(id=2)
    other = house.new("b")

    house.hub.in_force(["a"])

    assert first.told == [subscribed() | {"id": 1}]
    assert second.told == [subscribed() | {"id": 2}]
    assert other.told == []


def test_interruption_is_told_to_all_channels_that_are_named() -> None:
    house = House()
    [first], [second], [third] = (house.crowd(1, name) for name in "abc")

    house.hub.interrupted(["a", "b", "unknown"], None)

    assert first.told == [interrupted("a")]
    assert second.told == [interrupted("b")]
    assert third.told == []


def test_interruption_ends_in_one_gap_since_the_last_moment_known_complete() -> None:
    house = House()
    [guest] = house.crowd(1)

    house.hub.interrupted(["a"], 1700000000.5)
    house.hub.in_force(["a"])
    house.publish("1")

    assert guest.told == [interrupted(), gap(since=1700000000.5), notification("1")]


def test_interruption_without_a_known_moment_has_a_gap_without_since() -> None:
    house = House()
    [guest] = house.crowd(1)

    house.hub.interrupted(["a"], None)
    house.hub.in_force(["a"])

    assert guest.told == [interrupted(), gap()]


def test_interruption_told_twice_is_one_with_the_first_moment() -> None:
    house = House()
    [guest] = house.crowd(1)

    house.hub.interrupted(["a"], 1700000000.0)
    house.hub.interrupted(["a"], 1700000009.0)
    house.hub.in_force(["a"])
    house.hub.in_force(["a"])

    assert guest.told == [interrupted(), gap(since=1700000000.0)]


def test_second_interruption_has_its_own_moment() -> None:
    house = House()
    [guest] = house.crowd(1)

    house.hub.interrupted(["a"], 1700000000.0)
    house.hub.in_force(["a"])
    house.hub.interrupted(["a"], None)
    house.hub.in_force(["a"])

    assert guest.told == [
        interrupted(),
        gap(since=1700000000.0),
        interrupted(),
        gap(),
    ]


def test_interrupted_before_it_was_in_force_is_subscribed_without_gap() -> None:
    house = House(State.PENDING)
    guest = house.new()

    house.hub.interrupted(["a"], 1700000000.0)
    house.hub.in_force(["a"])

    assert guest.told == [interrupted(), subscribed()]


def test_one_who_came_while_the_source_was_away_has_no_gap() -> None:
    house = House()
    [before] = house.crowd(1)
    house.hub.interrupted(["a"], 1700000000.0)
    meanwhile = house.new()
    returning = house.new(resume=True)

    house.hub.in_force(["a"])

    assert before.told == [interrupted(), gap(since=1700000000.0)]
    assert meanwhile.told == [interrupted(), subscribed()]
    assert returning.told == [
        interrupted(),
        subscribed(),
        {"type": "gap", "channel": "a", "reason": "not_kept", "reload_window": 1.0},
    ]


def test_interruption_and_gap_are_encoded_once_for_each_codec() -> None:
    house = House()
    one, other = CountingCodec(), CountingCodec()
    for codec in (one, other, one, other):
        house.new(codec=codec)
    one.encoded.clear()
    other.encoded.clear()

    house.hub.interrupted(["a"], None)
    house.hub.in_force(["a"])

    assert one.encoded == other.encoded == ["Interrupted", "Gap"]


def test_channel_that_was_only_pending_encodes_no_gap() -> None:
    house = House(State.PENDING)
    codec = CountingCodec()
    house.new(codec=codec)

    house.hub.in_force(["a"])

    assert codec.encoded == ["Subscribed"]


# Reloads.


@pytest.mark.parametrize(
    ("subscribers", "workers", "seconds"),
    [
        (1, 1, 1.0),
        (100, 1, 1.0),
        (101, 1, 1.01),
        (250, 1, 2.5),
        (250, 4, 10.0),
        (6000, 1, 60.0),
        (6001, 1, 60.0),
    ],
)
def test_reload_window_grows_with_the_clients_told(
    subscribers: int, workers: int, seconds: float
) -> None:
    hub = House(workers=workers).hub

    assert hub.reload_window(subscribers) == seconds


def test_reload_window_counts_all_subscriptions_by_default() -> None:
    house = House()
    house.crowd(100, "a")
    house.crowd(50, "b")

    assert house.hub.reload_window() == 1.5


def test_gap_has_a_window_for_those_who_are_told_together() -> None:
    house = House()
    first = house.crowd(150, "a")
    second = house.crowd(100, "b")
    house.crowd(500, "c")

    house.hub.interrupted(["a", "b"], None)
    house.hub.in_force(["a", "b"])

    assert first[0].told == [interrupted("a"), gap("a", 2.5)]
    assert second[-1].told == [interrupted("b"), gap("b", 2.5)]


# Channels that PostgreSQL cannot listen to.


def test_one_who_is_gone_when_its_channel_is_refused_does_not_disturb_the_others() -> (
    None
):
    house = House(State.PENDING)
    first, gone, last = house.new(), house.new(), house.new()
    gone.outlet.on_write = gone.leave

    house.hub.refuse("a", BadChannel("no"))

    refused = {
        "type": "error",
        "code": "bad_channel",
        "message": "no",
        "channel": "a",
    }
    assert [guest.told for guest in (first, gone, last)] == [[refused]] * 3
    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)
    # The listener has given the channel up by itself.
    assert house.demand.calls == [("want", "a")]


def test_subscriptions_of_a_refused_channel_have_ended_before_one_is_told() -> None:
    house = House(State.PENDING)
    guests = [house.new() for _ in range(3)]
    found: list[bool] = []
    for guest in guests:
        guest.outlet.on_write = lambda: found.extend(
            guest.subscription.active for guest in guests
        )

    house.hub.refuse("a", BadChannel("no"))

    assert found == [False] * 9


def test_refused_channel_ends_its_subscriptions() -> None:
    house = House(State.PENDING)
    first, second = house.new(id=1), house.new(id=2)
    other = house.new("b")
    error = {
        "type": "error",
        "code": "bad_channel",
        "message": "the database cannot write it",
        "channel": "a",
    }

    house.hub.refuse("a", BadChannel("the database cannot write it"))

    assert first.told == [error | {"id": 1}]
    assert second.told == [error | {"id": 2}]
    assert other.told == []
    assert (house.hub.channels, house.hub.subscriptions) == (1, 1)


def test_refused_subscription_hears_nothing_more_and_may_leave() -> None:
    house = House(State.PENDING)
    guest = house.new()
    house.hub.refuse("a", BadChannel("no"))
    guest.outlet.take()

    house.hub.in_force(["a"])
    house.publish("1")
    guest.leave()

    assert guest.told == []
    # The listener has given the channel up by itself.
    assert house.demand.calls == [("want", "a")]


def test_refused_channel_is_wanted_again_by_the_next() -> None:
    house = House(State.PENDING)
    house.new()
    house.hub.refuse("a", BadChannel("no"))

    house.new()

    assert house.demand.calls == [("want", "a"), ("want", "a")]


def test_refusal_of_a_channel_that_nobody_has_is_ignored() -> None:
    house = House()
    [guest] = house.crowd(1)

    house.hub.refuse("b", BadChannel("no"))

    assert guest.told == []
    assert house.hub.subscriptions == 1
