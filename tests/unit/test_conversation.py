"""What a client asks in order, and how its connection ends."""

from __future__ import annotations

import json

from bridge.core.subscription import State
from bridge.values.errors import (
    BadChannel,
)
from bridge.values.identity import Identity
from unit.conversation_scene import (
    NOT_KEPT,
    WELCOME,
    Talk,
    ada_for,
    error,
    subscribed,
)

# Opening.


def test_first_message_is_the_welcome() -> None:
    talk = Talk()

    talk.conversation.open([])

    assert talk.outlet.messages == [WELCOME]


def test_welcome_says_whether_the_client_is_known() -> None:
    talk = Talk(identity=Identity("ada"))

    talk.conversation.open([])

    assert talk.outlet.messages == [WELCOME | {"authenticated": True}]


def test_channels_of_the_url_are_subscribed_to_in_order() -> None:
    talk = Talk()

    talk.conversation.open(["b", "a"])

    assert talk.outlet.messages == [WELCOME, subscribed("b"), subscribed("a")]
    assert talk.conversation.channels == ["b", "a"]


def test_channel_that_the_url_names_twice_is_one() -> None:
    talk = Talk()

    talk.conversation.open(["b", "a", "b"])

    assert talk.outlet.messages == [WELCOME, subscribed("b"), subscribed("a")]


def test_channels_of_the_url_are_resumed_together() -> None:
    talk = Talk()

    talk.conversation.open(["a"], cursor="c")

    assert talk.outlet.messages == [WELCOME, subscribed("a"), NOT_KEPT]


def test_channel_of_the_url_that_is_refused_does_not_stop_the_others() -> None:
    talk = Talk(may_subscribe=lambda identity, channel: channel != "a")

    talk.conversation.open(["a", "b"])

    assert talk.outlet.messages == [
        WELCOME,
        error("forbidden", "channel 'a' is not open to you", channel="a"),
        subscribed("b"),
    ]


def test_channels_of_the_url_stop_when_the_client_is_sent_away() -> None:
    asked: list[str] = []

    def policy(identity: Identity | None, channel: str) -> bool:
        asked.append(channel)
        return True

    talk = Talk(may_subscribe=policy, max_errors=2)

    talk.conversation.open(["a*", "b*", "c"])

    assert [message["type"] for message in talk.outlet.messages] == [
        "welcome",
        "error",
        "error",
    ]
    assert (asked, talk.demand.calls) == ([], [])


# Leaving a channel.


def test_unsubscribe_is_the_last_word_about_a_channel() -> None:
    talk = Talk()
    talk.conversation.open(["a"])

    told = talk.say("unsubscribe", channel="a", id=1)
    talk.publish("a", "late")

    unsubscribed = {
        "type": "unsubscribed",
        "channel": "a",
        "reason": "requested",
        "id": 1,
    }
    assert told == [unsubscribed]
    assert talk.outlet.messages == [unsubscribed]
    assert talk.demand.calls == [("want", "a"), ("unwant", "a")]


def test_unsubscribe_from_a_channel_one_does_not_have_is_answered() -> None:
    talk = Talk()

    assert talk.say("unsubscribe", channel="a") == [
        {"type": "unsubscribed", "channel": "a", "reason": "requested"}
    ]
    assert talk.demand.calls == []


def test_unsubscribe_before_the_channel_is_in_force_cancels_the_subscribe() -> None:
    talk = Talk(state=State.PENDING)
    talk.say("subscribe", channel="a", id=1)

    talk.say("unsubscribe", channel="a", id=2)
    talk.hub.in_force(["a"])

    assert talk.outlet.messages == [
        {
            "type": "error",
            "code": "unavailable",
            "message": "channel 'a' was left before it was listened to",
            "id": 1,
            "channel": "a",
        },
        {"type": "unsubscribed", "channel": "a", "reason": "requested", "id": 2},
    ]


def test_unsubscribe_after_a_refusal_is_answered() -> None:
    talk = Talk(state=State.PENDING)
    talk.say("subscribe", channel="a")
    talk.hub.refuse("a", BadChannel("no"))

    assert talk.say("unsubscribe", channel="a") == [
        {"type": "unsubscribed", "channel": "a", "reason": "requested"}
    ]


# Other requests.


def test_ping_is_answered_with_its_id() -> None:
    assert Talk().say("ping", id="x") == [{"type": "pong", "id": "x"}]


def test_token_is_refused_where_none_are_taken() -> None:
    assert Talk().say("authenticate", token="s3cret", id=1) == [
        error("token_invalid", "this server takes no tokens", id=1)
    ]


def test_unreadable_request_is_refused_with_its_id() -> None:
    assert Talk().say("subscribe", id=5) == [
        error("bad_message", "'channel' must be a string", id=5)
    ]


def test_requests_are_answered_in_the_order_they_came() -> None:
    talk = Talk()

    for id in range(5):
        talk.conversation.receive(json.dumps({"type": "ping", "id": id}))

    assert talk.outlet.messages == [{"type": "pong", "id": id} for id in range(5)]


# The end.


def test_end_leaves_every_channel_in_silence() -> None:
    talk = Talk()
    talk.conversation.open(["a", "b"])
    talk.outlet.take()

    talk.conversation.end()
    talk.publish("a", "late")

    assert talk.outlet.messages == []
    assert talk.conversation.channels == []
    assert sorted(talk.demand.calls[2:]) == [("unwant", "a"), ("unwant", "b")]
    assert talk.hub.subscriptions == 0


def test_end_may_come_twice() -> None:
    talk = Talk()
    talk.conversation.open(["a"])

    talk.conversation.end()
    talk.conversation.end()

    assert talk.demand.calls == [("want", "a"), ("unwant", "a")]


def test_nothing_is_read_after_the_end() -> None:
    talk = Talk()
    talk.conversation.end()

    assert talk.say("ping") == []
    assert talk.say_text("not JSON") == []


def test_bye_is_said_before_the_end() -> None:
    talk = Talk()

    talk.conversation.bye("restart", 1.25)

    assert talk.outlet.messages == [
        {"type": "bye", "reason": "restart", "reconnect_delay": 1.25}
    ]


def test_bye_is_not_said_after_the_end() -> None:
    talk = Talk()
    talk.conversation.end()

    talk.conversation.bye("restart", 1.25)

    assert talk.outlet.messages == []


def test_client_that_is_gone_at_the_welcome_is_subscribed_to_nothing() -> None:
    talk = Talk()
    talk.outlet.on_write = talk.conversation.end

    talk.conversation.open(["a"])

    assert talk.outlet.messages == [WELCOME]
    assert talk.demand.calls == []


def test_client_that_is_gone_at_the_welcome_sets_no_alarm() -> None:
    talk = Talk(identity=ada_for(3600))
    talk.outlet.on_write = talk.conversation.end

    talk.conversation.open([])

    assert talk.alarm is None


def test_client_that_is_gone_at_its_answer_leaves_nothing_behind() -> None:
    talk = Talk()
    talk.outlet.on_write = talk.conversation.end

    told = talk.say("subscribe", channel="a", resume=True)

    assert told == [subscribed("a")]
    assert talk.demand.calls == [("want", "a"), ("unwant", "a")]
    assert (talk.hub.subscriptions, talk.conversation.channels) == (0, [])


def test_claims_and_expiry_of_an_identity_are_optional() -> None:
    identity = Identity("ada")

    assert (identity.subject, identity.expires_at, identity.claims) == (
        "ada",
        None,
        None,
    )
