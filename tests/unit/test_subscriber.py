"""What a client may have: limits, the policy, the rate."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.subscription import State
from bridge.values.errors import (
    BadChannel,
    CloseCode,
    Unavailable,
)
from bridge.values.identity import Identity
from bridge.values.limits import Rate
from unit.conversation_scene import (
    ADA,
    NOT_KEPT,
    Talk,
    error,
    subscribed,
)

# Subscribing.


def test_subscribe_is_answered_with_its_id() -> None:
    talk = Talk()

    assert talk.say("subscribe", channel="a", id=1) == [subscribed("a", id=1)]


def test_what_is_published_afterwards_follows_the_answer() -> None:
    talk = Talk()
    talk.publish("a", "before")
    told = talk.say("subscribe", channel="a")
    talk.publish("a", "[1]", "two")

    assert told == [subscribed("a")]
    assert talk.outlet.messages == [
        subscribed("a"),
        {"type": "notification", "channel": "a", "data": [1]},
        {"type": "notification", "channel": "a", "text": "two"},
    ]


def test_subscribe_is_answered_only_when_the_channel_is_in_force() -> None:
    talk = Talk(state=State.PENDING)

    before = talk.say("subscribe", channel="a", id=1)
    talk.hub.in_force(["a"])

    assert before == []
    assert talk.outlet.messages == [subscribed("a", id=1)]


def test_subscribe_while_the_source_is_away_is_interrupted_then_answered() -> None:
    talk = Talk(state=State.AWAY)

    before = talk.say("subscribe", channel="a", id=1)
    talk.hub.in_force(["a"])

    interrupted = {"type": "interrupted", "channel": "a", "reason": "listener_lost"}
    assert before == [interrupted]
    assert talk.outlet.messages == [interrupted, subscribed("a", id=1)]


@pytest.mark.parametrize("fields", [{"resume": True}, {"cursor": "c"}])
def test_client_that_had_the_channel_before_is_told_that_nothing_was_kept(
    fields: dict[str, Any],
) -> None:
    talk = Talk()

    assert talk.say("subscribe", channel="a", **fields) == [subscribed("a"), NOT_KEPT]


def test_second_subscribe_is_answered_and_subscribes_once() -> None:
    talk = Talk()
    talk.say("subscribe", channel="a", id=1)

    again = talk.say("subscribe", channel="a", id=2)
    talk.publish("a", "1")

    assert again == [subscribed("a", id=2)]
    assert talk.outlet.messages[1:] == [
        {"type": "notification", "channel": "a", "text": "1"}
    ]
    assert talk.hub.subscriptions == 1


@pytest.mark.parametrize("state", [State.PENDING, State.AWAY])
def test_second_subscribe_before_the_first_is_answered_is_refused_for_now(
    state: State,
) -> None:
    talk = Talk(state=state)
    talk.say("subscribe", channel="a", id=1)

    again = talk.say("subscribe", channel="a", id=2)
    talk.hub.in_force(["a"])

    refused = error(
        "unavailable",
        "channel 'a' is not listened to yet",
        id=2,
        channel="a",
        retry_delay=1.0,
    )
    assert again == [refused]
    assert talk.outlet.messages == [refused, subscribed("a", id=1)]


def test_second_subscribe_before_the_first_is_answered_is_no_mistake() -> None:
    talk = Talk(state=State.PENDING, max_errors=1)

    for _ in range(3):
        talk.say("subscribe", channel="a")

    assert talk.closed == []


def test_second_subscribe_while_the_source_is_away_is_refused_for_now() -> None:
    talk = Talk()
    talk.say("subscribe", channel="a", id=1)
    talk.hub.interrupted(["a"], None)

    again = talk.say("subscribe", channel="a", id=2)

    assert again == [
        error(
            "unavailable",
            "channel 'a' is not listened to yet",
            id=2,
            channel="a",
            retry_delay=1.0,
        )
    ]


def test_bad_channel_is_refused_with_id_and_channel() -> None:
    talk = Talk()

    assert talk.say("subscribe", channel="a*", id="x") == [
        error(
            "bad_channel",
            "channel 'a*' is not valid: '*' is kept for patterns",
            id="x",
            channel="a*",
        )
    ]
    assert talk.demand.calls == []


def test_bad_channel_is_refused_before_the_policy_is_asked() -> None:
    asked: list[str] = []

    def policy(identity: Identity | None, channel: str) -> bool:
        asked.append(channel)
        return True

    Talk(may_subscribe=policy).say("subscribe", channel="bridge_journal")

    assert asked == []


def test_channel_that_cannot_be_listened_to_now_is_refused_for_now() -> None:
    talk = Talk()
    talk.demand.error = Unavailable("too many channels here", retry_delay=30.0)

    refused = talk.say("subscribe", channel="a", id=1)
    talk.demand.error = None
    again = talk.say("subscribe", channel="a", id=2)

    assert refused == [
        error(
            "unavailable",
            "too many channels here",
            id=1,
            channel="a",
            retry_delay=30.0,
        )
    ]
    assert again == [subscribed("a", id=2)]


def test_channel_that_could_not_be_had_takes_no_place() -> None:
    talk = Talk(max_channels=1)
    talk.demand.error = Unavailable("not now")
    talk.say("subscribe", channel="a")
    talk.demand.error = None

    assert talk.conversation.channels == []
    assert talk.say("subscribe", channel="b") == [subscribed("b")]


def test_channel_that_postgresql_refuses_can_be_asked_for_again() -> None:
    talk = Talk(state=State.PENDING, max_channels=1)
    talk.say("subscribe", channel="a", id=1)
    talk.hub.refuse("a", BadChannel("the database cannot write it"))
    refused = talk.outlet.messages
    talk.demand.state = State.LIVE

    again = talk.say("subscribe", channel="a", id=2)

    assert refused == [
        error("bad_channel", "the database cannot write it", id=1, channel="a")
    ]
    assert again == [subscribed("a", id=2)]


def test_channel_that_postgresql_refuses_takes_no_place() -> None:
    talk = Talk(state=State.PENDING, max_channels=1)
    talk.say("subscribe", channel="a")
    talk.hub.refuse("a", BadChannel("no"))
    talk.demand.state = State.LIVE

    assert talk.conversation.channels == []
    assert talk.say("subscribe", channel="b") == [subscribed("b")]


def test_client_that_is_gone_when_its_channel_is_refused_leaves_nothing() -> None:
    talk = Talk(state=State.PENDING)
    talk.conversation.open(["a", "b"])
    talk.outlet.on_write = talk.conversation.end

    talk.hub.refuse("a", BadChannel("no"))

    assert (talk.hub.channels, talk.hub.subscriptions) == (0, 0)
    assert talk.demand.calls == [("want", "a"), ("want", "b"), ("unwant", "b")]


# Limits.


def test_one_channel_too_many_is_refused() -> None:
    talk = Talk(max_channels=2)
    talk.conversation.open(["a", "b"])

    assert talk.say("subscribe", channel="c", id=1) == [
        error(
            "too_many_channels",
            "at most 2 channels a connection",
            id=1,
            channel="c",
        )
    ]
    assert talk.conversation.channels == ["a", "b"]


def test_channel_that_one_has_is_never_too_many() -> None:
    talk = Talk(max_channels=1)
    talk.conversation.open(["a"])

    assert talk.say("subscribe", channel="a") == [subscribed("a")]


def test_channel_that_was_left_makes_room() -> None:
    talk = Talk(max_channels=1)
    talk.conversation.open(["a"])
    talk.say("unsubscribe", channel="a")

    assert talk.say("subscribe", channel="b") == [subscribed("b")]


def test_too_many_errors_end_the_connection_after_the_last_answer() -> None:
    talk = Talk(max_errors=3)
    first = talk.say("nonsense")
    second = talk.say("subscribe", channel="")
    before = list(talk.closed)

    third = talk.say_text("not JSON")

    assert [m["code"] for m in first + second] == ["unknown_type", "bad_channel"]
    assert before == []
    assert third == [error("bad_message", "the message is not JSON")]
    assert talk.closed == [(CloseCode.TOO_MANY_ERRORS, "too many errors")]


def test_any_number_of_errors_is_allowed_when_the_limit_is_0() -> None:
    talk = Talk(max_errors=0)

    for _ in range(100):
        talk.say("nonsense")

    assert talk.closed == []
    assert talk.say("ping") == [{"type": "pong"}]


def test_what_is_not_the_clients_fault_does_not_count_as_an_error() -> None:
    def policy(identity: Identity | None, channel: str) -> bool:
        raise Unavailable("not now", retry_delay=5.0)

    talk = Talk(may_subscribe=policy, max_errors=1)

    for _ in range(10):
        talk.say("subscribe", channel="a")

    assert talk.closed == []


# The policy.


def test_policy_is_asked_with_identity_and_channel() -> None:
    asked: list[tuple[Identity | None, str]] = []

    def policy(identity: Identity | None, channel: str) -> bool:
        asked.append((identity, channel))
        return True

    ada = Identity("ada")
    talk = Talk(may_subscribe=policy, identity=ada)

    talk.say("subscribe", channel="a")

    assert asked == [(ada, "a")]


def test_channel_that_is_not_open_is_forbidden() -> None:
    talk = Talk(may_subscribe=lambda identity, channel: False)

    assert talk.say("subscribe", channel="a", id=1) == [
        error("forbidden", "channel 'a' is not open to you", id=1, channel="a")
    ]
    assert talk.demand.calls == []


def test_policy_that_cannot_answer_is_unavailable_for_now() -> None:
    def policy(identity: Identity | None, channel: str) -> bool:
        raise Unavailable("access cannot be checked now", retry_delay=5.0)

    assert Talk(may_subscribe=policy).say("subscribe", channel="a", id=1) == [
        error(
            "unavailable",
            "access cannot be checked now",
            id=1,
            channel="a",
            retry_delay=5.0,
        )
    ]


def test_policy_is_not_asked_again_about_a_channel_that_one_has() -> None:
    asked: list[str] = []

    def policy(identity: Identity | None, channel: str) -> bool:
        asked.append(channel)
        return True

    talk = Talk(may_subscribe=policy)
    talk.say("subscribe", channel="a")
    talk.say("subscribe", channel="a")

    assert asked == ["a"]


@pytest.mark.parametrize("answer", [True, False, Unavailable("not now")])
def test_client_that_leaves_while_the_policy_thinks_gets_nothing(
    answer: bool | Unavailable,
) -> None:
    def policy(identity: Identity | None, channel: str) -> bool:
        talk.conversation.end()
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    talk = Talk(may_subscribe=policy, max_errors=1)

    told = talk.say("subscribe", channel="a")

    assert told == []
    assert talk.closed == []
    assert talk.demand.calls == []


# The rate of subscribes.


def test_subscribes_beyond_the_rate_are_refused_for_a_moment() -> None:
    talk = Talk(subscribe_rate=Rate(per_second=2, burst=2))
    talk.conversation.open(["a", "b"])

    refused = talk.say("subscribe", channel="c", id=1)
    talk.now += 0.501
    again = talk.say("subscribe", channel="c", id=2)

    assert refused == [
        error(
            "rate_limited",
            "at most 2 subscribes a second",
            id=1,
            channel="c",
            retry_delay=0.501,
        )
    ]
    assert again == [subscribed("c", id=2)]


def test_token_takes_from_the_rate_before_it_is_asked_about() -> None:
    asked: list[None] = []
    talk = Talk(
        tokens={"good": ADA}, subscribe_rate=Rate(per_second=2, burst=1), max_errors=1
    )
    talk.gate.on_token = lambda: asked.append(None)
    first = talk.say("authenticate", token="good", id=1)

    refused = talk.say("authenticate", token="good", id=2)
    talk.now += 0.501
    again = talk.say("authenticate", token="good", id=3)

    assert first == [{"type": "authenticated", "id": 1}]
    assert refused == [
        error("rate_limited", "at most 2 subscribes a second", id=2, retry_delay=0.501)
    ]
    assert again == [{"type": "authenticated", "id": 3}]
    assert len(asked) == 2
    assert talk.closed == []


def test_channels_go_on_waiting_when_the_token_came_beyond_the_rate() -> None:
    talk = Talk(tokens={"good": ADA}, subscribe_rate=Rate(per_second=2, burst=2))
    talk.conversation.open(["public1", "public2", "a"])

    [refused] = talk.say("authenticate", token="good")
    waited = talk.alarm
    talk.now += 1.0
    again = talk.say("authenticate", token="good")

    assert (refused["code"], waited) == ("rate_limited", 10.0)
    assert again == [{"type": "authenticated"}, subscribed("a")]


def test_rate_is_no_mistake() -> None:
    talk = Talk(subscribe_rate=Rate(per_second=1, burst=1), max_errors=1)
    talk.conversation.open(["a"])

    for _ in range(10):
        talk.say("subscribe", channel="b")

    assert talk.closed == []


def test_rate_does_not_count_what_one_has_or_cannot_be() -> None:
    talk = Talk(subscribe_rate=Rate(per_second=1, burst=2))
    talk.conversation.open(["a"])
    for channel in ("a", "a*", "a"):
        talk.say("subscribe", channel=channel)

    assert talk.say("subscribe", channel="b") == [subscribed("b")]


def test_rate_is_that_of_one_client() -> None:
    rate = Rate(per_second=1, burst=1)

    assert Talk(subscribe_rate=rate).say("subscribe", channel="a") == [subscribed("a")]
    assert Talk(subscribe_rate=rate).say("subscribe", channel="a") == [subscribed("a")]
