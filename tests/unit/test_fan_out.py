"""One message to many subscriptions: by codec, in runs, with pauses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bridge.core.fan_out import Audience, FanOut
from bridge.core.subscription import Subscription
from bridge.values.message import Batch, Interrupted
from bridge.wire import native
from unit.doubles import CountingCodec, RecordingOutlet, Time

MANY = 200
"""Members of an audience that is written to in four runs."""


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def fan_out(time: Time) -> FanOut:
    return time.fan_out()


def member(codec: Any = native) -> Subscription:
    return Subscription("a", codec=codec, outlet=RecordingOutlet())


def outlet(subscription: Subscription) -> RecordingOutlet:
    assert isinstance(subscription.outlet, RecordingOutlet)
    return subscription.outlet


def audience(members: Sequence[Subscription]) -> Audience:
    made = Audience()
    for one in members:
        made.add(one)
    return made


def crowd(count: int) -> list[Subscription]:
    return [member() for _ in range(count)]


def texts(subscription: Subscription) -> list[str]:
    return [message["text"] for message in outlet(subscription).messages]


# Audiences.


def test_audience_knows_its_members_in_the_order_they_came() -> None:
    first, second, stranger = crowd(3)

    both = audience([first, second])

    assert (len(both), list(both)) == (2, [first, second])
    assert [one in both for one in (first, second, stranger)] == [True, True, False]


def test_audience_is_empty_without_its_last_member() -> None:
    one = member()
    alone = audience([one])

    alone.remove(one)

    assert (len(alone), list(alone), alone.groups()) == (0, [], [])


def test_member_that_is_added_twice_is_one() -> None:
    one = member()

    assert len(audience([one, one])) == 1


def test_audience_may_change_while_it_is_gone_through() -> None:
    members = crowd(3)
    changing = audience(members)

    for one in changing:
        changing.remove(one)

    assert len(changing) == 0


def test_groups_are_by_codec_and_kept_until_a_change() -> None:
    other = CountingCodec()
    first, second, third = member(), member(other), member()
    mixed = audience([first, second, third])

    groups = mixed.groups()
    same = mixed.groups()
    mixed.remove(first)

    assert groups == [(native, (first, third)), (other, (second,))]
    assert same is groups
    assert mixed.groups() == [(other, (second,)), (native, (third,))]


# Publishing.


def test_batch_is_written_to_those_who_follow(fan_out: FanOut) -> None:
    first, behind, last = crowd(3)
    behind.follows = False

    fan_out.publish(audience([first, behind, last]), Batch("a", ("1", "2")))

    assert [texts(one) for one in (first, behind, last)] == [
        ["1", "2"],
        [],
        ["1", "2"],
    ]
    assert (outlet(first).owners, outlet(first).marks) == ([first], [None])


def test_batch_of_the_journal_is_one_chunk_with_the_position_before_it(
    fan_out: FanOut,
) -> None:
    one = member()
    large = "x" * native.MAX_CHUNK_BYTES
    batch = Batch("a", (large, large), ("e1-8", "e1-9"))

    fan_out.publish_after(audience([one]), batch, 7)

    assert (outlet(one).owners, outlet(one).marks) == ([one], [7])
    assert [message["cursor"] for message in outlet(one).messages] == ["e1-8", "e1-9"]


def test_batch_that_is_not_of_the_journal_may_be_several_chunks(
    fan_out: FanOut,
) -> None:
    one = member()
    large = "x" * native.MAX_CHUNK_BYTES

    fan_out.publish(audience([one]), Batch("a", (large, large)))

    assert outlet(one).marks == [None, None]


@pytest.mark.parametrize("journal", [False, True])
def test_batch_is_encoded_once_for_each_codec(fan_out: FanOut, journal: bool) -> None:
    one, other = CountingCodec(), CountingCodec()
    members = [member(codec) for codec in (one, other, one)]

    if journal:
        fan_out.publish_after(audience(members), Batch("a", ("1",), ("e1-1",)), 0)
    else:
        fan_out.publish(audience(members), Batch("a", ("1",)))

    assert (one.encoded, other.encoded) == (["Batch"], ["Batch"])
    assert [texts(each) for each in members] == [["1"]] * 3


def test_writing_may_be_somebody_elses(time: Time) -> None:
    written: list[tuple[int, bytes, int | None]] = []

    def write_all(
        subscriptions: Sequence[Subscription], chunk: bytes, before: int | None
    ) -> None:
        written.append((len(subscriptions), chunk, before))

    fan_out = FanOut(clock=time.clock, pause=time.pause, write_all=write_all)
    batch = Batch("a", ("1",), ("e1-1",))
    [chunk] = native.encode_batch(batch)

    fan_out.publish(audience(crowd(MANY)), batch)
    fan_out.publish_after(audience(crowd(1)), batch, 0)

    assert written == [
        *[(64, chunk, None)] * 3,
        (8, chunk, None),
        (1, chunk, 0),
    ]


# One by one.


def test_message_is_given_to_every_active_member(fan_out: FanOut) -> None:
    first, ended, behind = crowd(3)
    ended.end()
    behind.follows = False
    told: list[Subscription] = []

    fan_out.each(
        audience([first, ended, behind]),
        Interrupted("a", "journal_lost"),
        lambda subscription, message: told.append(subscription),
    )

    assert told == [first, behind]


def test_message_is_encoded_once_and_only_when_it_is_asked_for(
    fan_out: FanOut,
) -> None:
    asks, does_not = CountingCodec(), CountingCodec()
    members = [member(codec) for codec in (asks, does_not, asks)]
    found: list[bytes] = []

    def do(subscription: Subscription, message: Callable[[], bytes]) -> None:
        if subscription.codec is asks:
            found.append(message())

    notice = Interrupted("a", "journal_lost")
    fan_out.each(audience(members), notice, do)

    assert (asks.encoded, does_not.encoded) == (["Interrupted"], [])
    assert found == [native.encode(notice)] * 2


# Pauses.


def test_runs_are_of_64() -> None:
    members = crowd(129)

    runs = list(Time().fan_out().runs(members))

    assert [len(run) for run in runs] == [64, 64, 1]
    assert [one for run in runs for one in run] == members


def test_others_have_a_turn_after_four_milliseconds(
    fan_out: FanOut, time: Time
) -> None:
    fan_out.begin()
    time.step = 0.004
    fan_out.breathe()
    before = time.pauses

    # The clock has been looked at once more.
    fan_out.breathe()

    assert (before, time.pauses) == (0, 1)


def test_time_counts_anew_after_a_turn_of_the_others(
    fan_out: FanOut, time: Time
) -> None:
    time.step = 0.005
    fan_out.breathe()
    time.step = 0.0

    fan_out.breathe()

    assert time.pauses == 1


def test_time_counts_from_the_beginning(fan_out: FanOut, time: Time) -> None:
    time.step = 0.005
    fan_out.begin()
    time.step = 0.0

    fan_out.breathe()

    assert time.pauses == 0


@pytest.mark.parametrize("journal", [False, True])
def test_one_who_leaves_in_a_pause_gets_no_more(
    fan_out: FanOut, time: Time, journal: bool
) -> None:
    members = crowd(MANY)
    time.step = 0.005
    time.meanwhile = members[-1].end

    if journal:
        fan_out.publish_after(audience(members), Batch("a", ("1",), ("e1-1",)), 0)
    else:
        fan_out.publish(audience(members), Batch("a", ("1",)))

    assert time.pauses == 4
    assert [texts(one) for one in members] == [["1"]] * (MANY - 1) + [[]]


def test_one_who_comes_in_a_pause_does_not_get_what_is_being_written(
    fan_out: FanOut, time: Time
) -> None:
    members, late = audience(crowd(MANY)), member()
    time.step = 0.005
    time.meanwhile = lambda: members.add(late)

    fan_out.publish(members, Batch("a", ("1",)))
    fan_out.publish(members, Batch("a", ("2",)))

    assert texts(late) == ["2"]


def test_one_who_leaves_in_a_pause_is_told_nothing(fan_out: FanOut, time: Time) -> None:
    members = crowd(MANY)
    time.step = 0.005
    time.meanwhile = members[-1].end
    told: list[Subscription] = []

    fan_out.each(
        audience(members),
        Interrupted("a", "journal_lost"),
        lambda subscription, message: told.append(subscription),
    )

    assert told == members[:-1]
