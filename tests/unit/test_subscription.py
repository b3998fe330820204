"""One channel for one client: its states and what each change says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bridge.core.subscription import MIN_RELOAD_WINDOW, Mark, State, Subscription
from bridge.values.cursor import Cursor
from bridge.values.errors import BadChannel, Unavailable
from bridge.values.message import Gap, Interrupted, Restored
from bridge.wire import native
from unit.doubles import RecordingOutlet, messages

GAP = native.encode(Gap("a", "listener_lost", 2.0, 1700000000.0))
NOTICE = native.encode(Interrupted("a", "listener_lost"))

SUBSCRIBED = {
    "type": "subscribed",
    "channel": "a",
    "durable": False,
    "resumed": False,
}
INTERRUPTED = {"type": "interrupted", "channel": "a", "reason": "listener_lost"}
LISTENER_LOST = {
    "type": "gap",
    "channel": "a",
    "reason": "listener_lost",
    "reload_window": 2.0,
    "since": 1700000000.0,
}
NOT_KEPT = {
    "type": "gap",
    "channel": "a",
    "reason": "not_kept",
    "reload_window": 7.5,
}


@pytest.fixture
def outlet() -> RecordingOutlet:
    return RecordingOutlet()


def subscription(outlet: RecordingOutlet, **options: Any) -> Subscription:
    return Subscription("a", codec=native, outlet=outlet, **options)


def in_force(subscription: Subscription) -> None:
    subscription.in_force(lambda: GAP, lambda: 7.5)


def never() -> Any:
    raise AssertionError("called without need")


def test_new_subscription_is_pending_and_silent(outlet: RecordingOutlet) -> None:
    new = subscription(outlet)

    assert (new.state, new.active, new.channel) == (State.PENDING, True, "a")
    assert outlet.messages == []


def test_pending_subscription_is_confirmed_once_in_force(
    outlet: RecordingOutlet,
) -> None:
    pending = subscription(outlet, id="x")

    pending.in_force(never, never)

    assert pending.state is State.LIVE
    assert outlet.messages == [SUBSCRIBED | {"id": "x"}]


def test_live_subscription_is_told_nothing_when_in_force_again(
    outlet: RecordingOutlet,
) -> None:
    live = subscription(outlet)
    in_force(live)
    outlet.take()

    live.in_force(never, never)

    assert live.state is State.LIVE
    assert outlet.messages == []


def test_subscription_that_comes_back_is_told_that_nothing_was_kept(
    outlet: RecordingOutlet,
) -> None:
    resumed = subscription(outlet, resume=True)

    resumed.in_force(never, lambda: 7.5)

    assert outlet.messages == [SUBSCRIBED, NOT_KEPT]


def test_subscription_that_comes_back_is_told_so_once(
    outlet: RecordingOutlet,
) -> None:
    resumed = subscription(outlet, resume=True)
    in_force(resumed)
    resumed.interrupted(NOTICE)
    outlet.take()

    in_force(resumed)

    assert outlet.messages == [LISTENER_LOST]


def test_one_who_is_gone_when_it_is_confirmed_is_told_of_no_gap(
    outlet: RecordingOutlet,
) -> None:
    resumed = subscription(outlet, resume=True)
    outlet.on_write = resumed.end

    resumed.in_force(never, never)

    assert outlet.messages == [SUBSCRIBED]


def test_interruption_ends_in_one_gap(outlet: RecordingOutlet) -> None:
    live = subscription(outlet)
    in_force(live)

    live.interrupted(NOTICE)
    away = live.state
    in_force(live)

    assert (away, live.state) == (State.AWAY, State.LIVE)
    assert outlet.messages == [SUBSCRIBED, INTERRUPTED, LISTENER_LOST]


def test_interruption_is_told_once(outlet: RecordingOutlet) -> None:
    live = subscription(outlet)
    in_force(live)
    outlet.take()

    live.interrupted(NOTICE)
    live.interrupted(NOTICE)

    assert outlet.messages == [INTERRUPTED]


def test_each_interruption_has_its_gap(outlet: RecordingOutlet) -> None:
    live = subscription(outlet)
    in_force(live)
    outlet.take()

    for _ in range(2):
        live.interrupted(NOTICE)
        in_force(live)

    assert outlet.messages == [INTERRUPTED, LISTENER_LOST] * 2


def test_interrupted_before_it_was_in_force_ends_in_subscribed(
    outlet: RecordingOutlet,
) -> None:
    pending = subscription(outlet, id=1)

    pending.interrupted(NOTICE)
    away = pending.state
    pending.in_force(never, never)

    assert (away, pending.state) == (State.AWAY, State.LIVE)
    assert outlet.messages == [INTERRUPTED, SUBSCRIBED | {"id": 1}]


def test_second_request_is_confirmed_with_its_own_id(outlet: RecordingOutlet) -> None:
    live = subscription(outlet, id="first")
    in_force(live)

    live.confirm("second")

    assert outlet.messages == [
        SUBSCRIBED | {"id": "first"},
        SUBSCRIBED | {"id": "second"},
    ]


def test_gap_of_a_slow_client_says_since_when(outlet: RecordingOutlet) -> None:
    slow = subscription(outlet)

    gap = slow.dropped([1700000000.5, 1700000001.5])

    assert messages(gap) == [
        {
            "type": "gap",
            "channel": "a",
            "reason": "slow",
            "reload_window": MIN_RELOAD_WINDOW,
            "since": 1700000000.5,
        }
    ]
    assert outlet.messages == []


def test_refused_subscription_says_why(outlet: RecordingOutlet) -> None:
    refused = subscription(outlet, id=3)

    refused.refuse(BadChannel("channel 'a' is not valid"))

    assert outlet.messages == [
        {
            "type": "error",
            "code": "bad_channel",
            "message": "channel 'a' is not valid",
            "id": 3,
            "channel": "a",
        }
    ]


def test_refusal_that_passes_says_when_to_ask_again(outlet: RecordingOutlet) -> None:
    subscription(outlet).refuse(Unavailable("later", retry_delay=30.0))

    assert outlet.messages == [
        {
            "type": "error",
            "code": "unavailable",
            "message": "later",
            "channel": "a",
            "retry_delay": 30.0,
        }
    ]


def test_end_is_silent(outlet: RecordingOutlet) -> None:
    live = subscription(outlet)
    in_force(live)
    outlet.take()

    live.end()

    assert live.active is False
    assert outlet.messages == []


def test_nothing_of_a_subscription_itself_may_be_dropped(
    outlet: RecordingOutlet,
) -> None:
    live = subscription(outlet, resume=True)

    in_force(live)
    live.interrupted(NOTICE)
    in_force(live)

    # Chunks without owner are kept when a client is slow.
    assert outlet.owners == [None, None, None, None]


# Durable channels.

NEWEST = Cursor("e1", 9)
ANSWERED = {
    "type": "subscribed",
    "channel": "a",
    "durable": True,
    "resumed": False,
    "cursor": "e1-9",
}
EXPIRED = {
    "type": "gap",
    "channel": "a",
    "reason": "expired",
    "reload_window": 2.0,
    "cursor": "e1-9",
}
JOURNAL_LOST = {"type": "interrupted", "channel": "a", "reason": "journal_lost"}


def expired() -> Gap:
    return Gap("a", "expired", 2.0, cursor="e1-9")


def durable(outlet: RecordingOutlet, **options: Any) -> Subscription:
    """A subscription that the feed has taken in, and has not answered."""
    made = subscription(outlet, **options)
    made.go_back = never_back
    return made


def never_back(subscription: Subscription, marks: Sequence[Mark]) -> None:
    raise AssertionError("it went back")


def lost(subscription: Subscription) -> None:
    subscription.interrupted(native.encode(Interrupted("a", "journal_lost")))


def test_subscription_is_durable_once_the_feed_has_it(outlet: RecordingOutlet) -> None:
    plain, kept = subscription(outlet), durable(outlet)

    assert (plain.durable, kept.durable) == (False, True)
    assert (kept.answered, kept.position, kept.state) == (False, 0, State.PENDING)


def test_subscription_with_a_cursor_had_the_channel_before(
    outlet: RecordingOutlet,
) -> None:
    new, known = subscription(outlet), subscription(outlet, cursor=NEWEST)
    resumed = subscription(outlet, resume=True)

    assert [one.resume for one in (new, known, resumed)] == [False, True, True]


def test_durable_subscription_is_answered_with_where_it_begins(
    outlet: RecordingOutlet,
) -> None:
    new = durable(outlet, id="x")

    new.answer(NEWEST, None)

    assert (new.state, new.answered) == (State.LIVE, True)
    assert outlet.messages == [ANSWERED | {"id": "x"}]
    assert outlet.owners == [None]


def test_cursor_from_which_nothing_is_missing_is_resumed(
    outlet: RecordingOutlet,
) -> None:
    durable(outlet, cursor=Cursor("e1", 5)).answer(NEWEST, None)

    assert outlet.messages == [ANSWERED | {"resumed": True}]


def test_cursor_from_which_something_is_missing_has_a_gap(
    outlet: RecordingOutlet,
) -> None:
    durable(outlet, cursor=Cursor("e1", 5)).answer(NEWEST, expired())

    assert outlet.messages == [ANSWERED, EXPIRED]
    assert outlet.owners == [None, None]


def test_one_who_is_gone_when_it_is_answered_is_told_of_no_gap(
    outlet: RecordingOutlet,
) -> None:
    gone = durable(outlet, resume=True)
    outlet.on_write = gone.end

    gone.answer(NEWEST, expired())

    assert outlet.messages == [ANSWERED]


def test_answer_ends_an_interruption(outlet: RecordingOutlet) -> None:
    away = durable(outlet)
    lost(away)

    away.answer(NEWEST, None)
    away.restored(never)

    assert away.state is State.LIVE
    assert outlet.messages == [JOURNAL_LOST, ANSWERED]


def test_source_that_is_back_is_told_to_one_who_knew_that_it_was_away(
    outlet: RecordingOutlet,
) -> None:
    live = durable(outlet)
    live.answer(NEWEST, None)
    lost(live)
    lost(live)

    live.restored(lambda: native.encode(Restored("a")))
    live.restored(never)

    assert live.state is State.LIVE
    assert outlet.messages == [
        ANSWERED,
        JOURNAL_LOST,
        {"type": "restored", "channel": "a"},
    ]


def test_reset_ends_an_interruption_with_its_gap(outlet: RecordingOutlet) -> None:
    live = durable(outlet)
    live.answer(NEWEST, None)
    lost(live)

    live.reset(native.encode(expired()))
    live.restored(never)

    assert live.state is State.LIVE
    assert outlet.messages == [ANSWERED, JOURNAL_LOST, EXPIRED]


def test_slow_durable_subscription_goes_back_and_has_no_gap(
    outlet: RecordingOutlet,
) -> None:
    slow = subscription(outlet)
    back: list[tuple[Subscription, Sequence[Mark]]] = []
    slow.go_back = lambda subscription, marks: back.append((subscription, marks))

    assert slow.dropped([Mark(1, 7), Mark(1, 9)]) == b""

    assert back == [(slow, [Mark(1, 7), Mark(1, 9)])]
    assert outlet.messages == []


def test_second_request_of_a_durable_channel_is_confirmed_with_its_cursor(
    outlet: RecordingOutlet,
) -> None:
    live = durable(outlet)

    live.confirm(2, "e1-4")

    assert outlet.messages == [ANSWERED | {"cursor": "e1-4", "id": 2}]


def test_one_who_left_follows_no_more(outlet: RecordingOutlet) -> None:
    live = durable(outlet)

    live.end()

    assert (live.active, live.follows) == (False, False)
