"""Subscriptions by channel: who gets what, in which order, encoded how often."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from bridge.core.entries import Entry, Need
from bridge.core.hub import Hub
from bridge.core.subscription import State, Subscription
from bridge.values.channels import Patterns
from bridge.values.counters import COUNTERS
from bridge.values.cursor import Cursor
from bridge.values.errors import BadChannel, Unavailable
from bridge.values.message import Batch, Gap
from bridge.wire import native
from unit.doubles import (
    CountingCodec,
    Demand,
    SlowOutlet,
    Time,
    durable_hub,
    make_hub,
    plain_hub,
)

MANY = 200
"""Subscriptions of a fan-out that is long enough to pause."""


class House(Time):
    """A hub with its listeners' double, a clock and subscribers.

    Args:
        state: how every channel stands when it is first wanted.
        make: makes the hub.
        options: the hub's.
    """

    def __init__(
        self,
        state: State = State.LIVE,
        make: Callable[..., Hub] = plain_hub,
        **options: Any,
    ) -> None:
        super().__init__()
        self.demand = Demand(state)
        self.hub = make(
            self.demand.want,
            self.demand.unwant,
            pause=self.pause,
            clock=self.clock,
            **options,
        )

    def new(self, channel: str = "a", codec: Any = native, **options: Any) -> Guest:
        """Subscribe somebody new; what it is told at once is kept."""
        guest = Guest(self.hub, channel, codec, options)
        self.hub.subscribe(guest.subscription)
        return guest

    def crowd(self, count: int, channel: str = "a") -> list[Guest]:
        """Subscribe many, and forget what they were told."""
        guests = [self.new(channel) for _ in range(count)]
        for guest in guests:
            guest.outlet.take()
        return guests

    def publish(self, *payloads: str, channel: str = "a") -> None:
        self.hub.publish(Batch(channel, payloads))


class Guest:
    """A subscription and what it was told."""

    def __init__(
        self, hub: Hub, channel: str, codec: Any, options: dict[str, Any]
    ) -> None:
        self.outlet = SlowOutlet()
        self.subscription = Subscription(
            channel, codec=codec, outlet=self.outlet, **options
        )
        self._hub = hub

    def leave(self) -> None:
        self._hub.unsubscribe(self.subscription)

    @property
    def told(self) -> list[dict[str, Any]]:
        return self.outlet.messages


def subscribed(channel: str = "a") -> dict[str, Any]:
    return {
        "type": "subscribed",
        "channel": channel,
        "durable": False,
        "resumed": False,
    }


def notification(text: str, channel: str = "a") -> dict[str, Any]:
    return {"type": "notification", "channel": channel, "text": text}


def interrupted(channel: str = "a") -> dict[str, Any]:
    return {"type": "interrupted", "channel": channel, "reason": "listener_lost"}


def gap(
    channel: str = "a", reload_window: float = 1.0, **since: float
) -> dict[str, Any]:
    return {
        "type": "gap",
        "channel": channel,
        "reason": "listener_lost",
        "reload_window": reload_window,
        **since,
    }


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


# Long fan-outs.


def test_short_fan_out_does_not_pause() -> None:
    house = House()
    house.crowd(MANY)
    house.step = 0.0001

    house.publish("1")

    assert house.pauses == 0


def test_long_fan_out_pauses_whenever_a_run_was_long_enough() -> None:
    house = House()
    house.crowd(MANY)
    house.step = 0.005

    house.publish("1")

    # The clock is looked at before each run of 64.
    assert house.pauses == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda house: house.publish("1"),
        lambda house: house.hub.interrupted(["a"], None),
        lambda house: house.hub.in_force(["a"]),
    ],
    ids=["publish", "interrupted", "in_force"],
)
def test_time_that_has_passed_before_is_not_counted(
    call: Callable[[House], None],
) -> None:
    house = House()
    house.new()
    house.pass_by(1.0)

    call(house)

    assert house.pauses == 0


def test_run_begins_anew_after_a_pause() -> None:
    house = House()
    house.crowd(MANY)
    house.step = 0.005

    def time_stands_still() -> None:
        house.step = 0.0

    house.meanwhile = time_stands_still
    house.publish("1")

    assert house.pauses == 1


def test_pauses_go_on_counting_over_channels() -> None:
    house = House()
    for channel in "abcdefgh":
        house.crowd(25, channel)
    house.step = 0.005

    house.hub.interrupted("abcdefgh", None)
    first = house.pauses
    house.hub.in_force("abcdefgh")

    assert (first, house.pauses) == (8, 16)


def test_one_who_leaves_during_a_publish_gets_no_more_of_it() -> None:
    house = House()
    guests = house.crowd(MANY)
    house.step = 0.005

    def leave() -> None:
        guests[0].leave()
        guests[-1].leave()

    house.meanwhile = leave
    house.publish("1")

    assert house.pauses == 4
    assert [len(guest.told) for guest in guests] == [0] + [1] * (MANY - 2) + [0]


def test_one_who_comes_during_a_publish_is_subscribed_and_gets_the_next() -> None:
    house = House()
    guests = house.crowd(MANY)
    house.step = 0.005
    came: list[Guest] = []

    house.meanwhile = lambda: came.append(house.new())
    house.publish("1")
    house.publish("2")

    assert came[0].told == [subscribed(), notification("2")]
    assert guests[-1].told == [notification("1"), notification("2")]


def test_channel_that_all_leave_during_a_publish_may_be_had_again() -> None:
    house = House()
    guests = house.crowd(MANY)
    house.step = 0.005
    came: list[Guest] = []

    def leave() -> None:
        for guest in guests:
            guest.leave()
        came.append(house.new())

    house.meanwhile = leave
    house.publish("1")

    assert house.demand.calls == [("want", "a"), ("unwant", "a"), ("want", "a")]
    assert came[0].told == [subscribed()]
    assert guests[-1].told == []


def test_one_who_comes_while_others_are_told_in_force_is_subscribed_once() -> None:
    house = House(State.PENDING)
    guests = house.crowd(MANY, "a") + house.crowd(1, "b")
    house.step = 0.005
    came: list[Guest] = []

    house.meanwhile = lambda: came.extend([house.new("a"), house.new("b")])
    house.hub.in_force(["a", "b"])

    assert came[0].told == [subscribed("a")]
    assert came[1].told == [subscribed("b")]
    assert guests[MANY - 1].told == [subscribed("a")]
    assert guests[MANY].told == [subscribed("b")]


def test_one_who_comes_while_others_are_interrupted_is_told_so_once() -> None:
    house = House()
    guests = house.crowd(MANY, "a") + house.crowd(1, "b")
    house.step = 0.005
    came: list[Guest] = []

    house.meanwhile = lambda: came.extend([house.new("a"), house.new("b")])
    house.hub.interrupted(["a", "b"], None)

    assert came[0].told == [interrupted("a")]
    assert came[1].told == [interrupted("b")]
    assert guests[MANY - 1].told == [interrupted("a")]
    assert guests[MANY].told == [interrupted("b")]


def test_one_who_leaves_while_others_are_told_is_told_nothing() -> None:
    house = House()
    guests = house.crowd(MANY)
    house.step = 0.005

    house.meanwhile = guests[-1].leave
    house.hub.interrupted(["a"], None)
    house.meanwhile = guests[-2].leave
    house.hub.in_force(["a"])

    assert guests[-3].told == [interrupted(), gap(reload_window=1.99)]
    assert guests[-2].told == [interrupted()]
    assert guests[-1].told == []


# A client that turns out to be gone while it is written to.


def test_one_who_is_gone_during_a_publish_does_not_disturb_the_others() -> None:
    house = House()
    first, gone, last = house.crowd(3)
    gone.outlet.on_write = gone.leave

    house.publish("1")
    house.publish("2")

    assert first.told == last.told == [notification("1"), notification("2")]
    assert gone.told == [notification("1")]
    assert house.hub.subscriptions == 2


def test_last_one_who_is_gone_during_a_publish_gives_the_channel_up() -> None:
    house = House()
    [gone] = house.crowd(1)
    gone.outlet.on_write = gone.leave

    house.publish("1")

    assert house.demand.calls == [("want", "a"), ("unwant", "a")]


def test_one_who_is_gone_while_it_is_subscribed_leaves_nothing_behind() -> None:
    house = House()
    guest = Guest(house.hub, "a", native, {})
    guest.outlet.on_write = guest.leave

    house.hub.subscribe(guest.subscription)

    assert house.demand.calls == [("want", "a"), ("unwant", "a")]
    assert (house.hub.channels, house.hub.subscriptions) == (0, 0)


def test_one_who_is_gone_when_it_is_told_does_not_disturb_the_others() -> None:
    house = House()
    first, gone, last = house.crowd(3)
    gone.outlet.on_write = gone.leave

    house.hub.interrupted(["a"], None)
    house.hub.in_force(["a"])

    assert first.told == last.told == [interrupted(), gap()]
    assert gone.told == [interrupted()]


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


# Durable channels.


def undecided(state: State = State.LIVE, **options: Any) -> House:
    """A house that does not know yet which channels are durable."""
    return House(state, make_hub, patterns=None, **options)


def keeping(state: State = State.LIVE, **options: Any) -> House:
    """A house with a journal, whose position is 5."""
    return House(state, durable_hub, **options)


def answered(channel: str = "kept", cursor: str = "e1-5") -> dict[str, Any]:
    return subscribed(channel) | {"durable": True, "cursor": cursor}


def journal_lost(channel: str = "kept") -> dict[str, Any]:
    return {"type": "interrupted", "channel": channel, "reason": "journal_lost"}


def slow_gap(channel: str = "kept") -> dict[str, Any]:
    return {"type": "gap", "channel": channel, "reason": "slow", "reload_window": 1.0}


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
    house.hub.feed.advance([Entry(6, "a", "six")], 6, house.hub.publish_kept)

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
    house.hub.publish_kept(Batch("a", ("1",), ("e1-6",)))

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
    house.hub.feed.advance([Entry(6, "kept", "six")], 6, house.hub.publish_kept)
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
        house.hub.feed.advance([Entry(6, "kept", "6")], 6, house.hub.publish_kept)
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

    house.hub.publish_kept(Batch("a", ("1",), ("e1-6",)))

    assert guest.told == [notification("1")]
    assert guest.outlet.owners == [guest.subscription]


def test_entries_do_not_come_twice_to_those_who_follow_the_journal() -> None:
    house = keeping()
    [guest] = house.crowd(1, "kept")

    house.hub.publish_kept(Batch("kept", ("1",), ("e1-6",)))

    assert guest.told == []


def test_entries_of_a_channel_that_nobody_has_are_nothing() -> None:
    keeping().hub.publish_kept(Batch("a", ("1",), ("e1-6",)))


@pytest.mark.parametrize("state", [State.PENDING, State.AWAY])
def test_entries_of_a_channel_that_is_not_live_are_not_for_plain_ones(
    state: State,
) -> None:
    house = keeping(state)
    [guest] = house.crowd(1)

    house.hub.publish_kept(Batch("a", ("1",), ("e1-6",)))

    assert guest.told == []


# Past the journal.


@pytest.fixture
def strays() -> Callable[[], int]:
    """Tell how many more notifications went past the journal."""
    before = COUNTERS.strays
    return lambda: COUNTERS.strays - before


def test_notification_past_the_journal_is_delivered_without_cursor(
    strays: Callable[[], int],
) -> None:
    house = keeping()
    first, second = house.crowd(2, "kept")

    house.publish("1", "2", channel="kept")

    told = [notification("1", "kept"), notification("2", "kept")]
    assert first.told == second.told == told
    # The journal's alone may be dropped.
    assert first.outlet.owners == [None]
    assert strays() == 2


def test_notification_past_the_journal_is_said_once_for_each_channel(
    caplog: pytest.LogCaptureFixture, strays: Callable[[], int]
) -> None:
    house = keeping()
    house.crowd(2, "kept 1")
    house.crowd(1, "kept 2")

    with caplog.at_level(logging.WARNING, "bridge.core.hub"):
        house.hub.publish(Batch("kept 1", ("x",), pid=4711))
        house.hub.publish(Batch("kept 1", ("y",), pid=4712))
        house.hub.publish(Batch("kept 2", ("z",), pid=4713))

    def line(channel: str, pid: int) -> str:
        return (
            f"channel '{channel}' is durable, and backend {pid} publishes to it with "
            "NOTIFY: that is delivered, and not kept; use bridge.publish"
        )

    assert caplog.messages == [line("kept 1", 4711), line("kept 2", 4713)]
    assert {record.__dict__["action"] for record in caplog.records} == {
        "stray_notification"
    }
    assert strays() == 3


def test_notification_past_the_journal_needs_no_listener_that_is_live() -> None:
    house = keeping(State.PENDING)
    [guest] = house.crowd(1, "kept")

    house.publish("1", channel="kept")

    assert guest.told == [notification("1", "kept")]


def test_notification_past_the_journal_is_encoded_once_for_each_codec() -> None:
    house = keeping()
    one, other = CountingCodec(), CountingCodec()
    guests = [house.new("kept", codec) for codec in (one, other, one)]
    one.encoded.clear()
    other.encoded.clear()

    house.publish("1", channel="kept")

    assert one.encoded == other.encoded == ["Batch", "Gap"]
    assert [guest.told[1:] for guest in guests] == [[notification("1", "kept")]] * 3


def test_notifications_past_the_journal_of_several_chunks_are_written_in_order() -> (
    None
):
    house = keeping()
    [guest] = house.crowd(1, "kept")
    large = [character * native.MAX_CHUNK_BYTES for character in "xy"]

    house.publish(*large, channel="kept")

    assert guest.told == [notification(text, "kept") for text in large]
    assert len(guest.outlet.chunks) == 2


def test_one_who_is_not_answered_gets_nothing_past_the_journal(
    strays: Callable[[], int],
) -> None:
    house = keeping()
    guest = house.new("kept", cursor=Cursor("e1", 3))

    house.publish("1", channel="kept")

    assert guest.told == []
    assert strays() == 1


def test_slow_client_has_a_gap_for_what_goes_past_the_journal() -> None:
    house = keeping()
    slow, quick = house.crowd(2, "kept")
    slow.outlet.stuck = True
    house.hub.feed.advance([Entry(6, "kept", "six")], 6, house.hub.publish_kept)

    house.publish("1", channel="kept")
    slow.outlet.release()

    six = notification("six", "kept") | {"cursor": "e1-6"}
    assert slow.told == [six, slow_gap()]
    assert quick.told == [six, notification("1", "kept")]


def test_one_who_leaves_gets_no_more_of_what_goes_past_the_journal() -> None:
    house = keeping()
    guests = house.crowd(MANY, "kept")
    house.step = 0.005

    house.meanwhile = guests[-1].leave
    house.publish("1", channel="kept")

    assert house.pauses == 4
    assert [len(guest.told) for guest in guests] == [1] * (MANY - 1) + [0]


def test_channel_of_both_kinds_delivers_a_notification_to_each_once() -> None:
    house = keeping()
    [plain] = house.crowd(1, "a")
    house.hub.know(Patterns(["*"]))
    [kept] = house.crowd(1, "a")

    house.publish("1")

    assert plain.told == kept.told == [notification("1")]
    assert house.demand.calls == [("want", "a")]


def test_channel_of_both_kinds_is_wanted_until_the_last_has_left() -> None:
    house = keeping()
    [plain] = house.crowd(1, "a")
    house.hub.know(Patterns(["*"]))
    [kept] = house.crowd(1, "a")

    plain.leave()
    before = list(house.demand.calls)
    kept.leave()

    assert before == [("want", "a")]
    assert house.demand.calls == [("want", "a"), ("unwant", "a")]


def test_plain_channel_has_no_strays(strays: Callable[[], int]) -> None:
    house = keeping()
    house.crowd(1)

    house.publish("1")

    assert strays() == 0


def test_gap_of_the_journal_goes_to_plain_ones_as_it_is() -> None:
    house = keeping()
    [guest] = house.crowd(1)

    house.hub.publish_kept(Batch("a", (Gap("a", "too_large", 1.0),), ("e1-6",)))

    assert guest.told == [slow_gap("a") | {"reason": "too_large"}]
