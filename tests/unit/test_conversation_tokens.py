"""Tokens: those that come, and channels that wait for one."""

from __future__ import annotations

import math

import pytest

from bridge.core.subscription import State
from bridge.values.errors import (
    ClientError,
    CloseCode,
    TokenExpired,
    TokenInvalid,
    Unavailable,
)
from bridge.values.identity import Identity
from unit.conversation_scene import (
    ADA,
    WELCOME,
    Talk,
    ada_for,
    error,
    subscribed,
)

# Tokens.


def _known_only(identity: Identity | None, channel: str) -> bool:
    return identity is not None


def test_token_makes_the_client_known() -> None:
    talk = Talk(tokens={"good": ADA}, may_subscribe=_known_only)

    told = talk.say("authenticate", token="good", id=1)

    assert told == [{"type": "authenticated", "id": 1}]
    assert talk.conversation.identity is ADA
    assert talk.alarm is None


@pytest.mark.parametrize("never", [math.inf, math.nan])
def test_token_that_never_expires_has_no_expires_in(never: float) -> None:
    talk = Talk(tokens={"good": Identity("ada", expires_at=never)})

    assert talk.say("authenticate", token="good") == [{"type": "authenticated"}]
    assert talk.alarm is None


def test_token_that_expires_says_in_how_many_seconds() -> None:
    talk = Talk(tokens={"good": ada_for(60)})

    [told] = talk.say("authenticate", token="good")

    assert talk.alarm is not None
    assert 59 < talk.alarm <= 60
    assert told == {"type": "authenticated", "expires_in": round(talk.alarm, 3)}


def test_token_that_has_just_expired_has_no_time_left() -> None:
    talk = Talk(tokens={"late": ada_for(-5)})

    assert talk.say("authenticate", token="late") == [
        {"type": "authenticated", "expires_in": 0.0}
    ]
    assert talk.alarm == 0.0


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (TokenInvalid("its signature is wrong"), "token_invalid"),
        (TokenExpired("it was good until noon"), "token_expired"),
    ],
)
def test_token_that_is_no_good_is_a_mistake(refused: ClientError, code: str) -> None:
    talk = Talk(tokens={"bad": refused}, max_errors=1)

    told = talk.say("authenticate", token="bad", id=1)

    assert told == [error(code, refused.message, id=1)]
    assert talk.conversation.identity is None
    assert talk.closed == [(CloseCode.TOO_MANY_ERRORS, "too many errors")]


def test_token_that_cannot_be_checked_is_no_mistake() -> None:
    talk = Talk(tokens={"good": Unavailable("not now", retry_delay=5.0)}, max_errors=1)

    assert talk.say("authenticate", token="good") == [
        error("unavailable", "not now", retry_delay=5.0)
    ]
    assert talk.closed == []


def test_token_of_the_same_subject_renews() -> None:
    talk = Talk(identity=ada_for(5), tokens={"new": ada_for(60)})
    talk.conversation.open([])
    before = talk.alarm

    talk.say("authenticate", token="new")

    assert before is not None and talk.alarm is not None
    assert 4 < before <= 5
    assert 59 < talk.alarm <= 60


def test_token_without_expiry_renews_for_good() -> None:
    talk = Talk(identity=ada_for(5), tokens={"new": ADA})
    talk.conversation.open([])

    talk.say("authenticate", token="new")

    assert talk.alarm is None


def test_token_of_another_subject_is_refused() -> None:
    talk = Talk(identity=ADA, tokens={"bobs": Identity("bob")})

    assert talk.say("authenticate", token="bobs", id=1) == [
        error("token_invalid", "the token is another subject's", id=1)
    ]
    assert talk.conversation.identity is ADA


def test_new_token_is_asked_about_every_channel() -> None:
    asked: list[tuple[Identity | None, str]] = []

    def policy(identity: Identity | None, channel: str) -> bool:
        asked.append((identity, channel))
        return True

    old, new = ada_for(5), ada_for(60)
    talk = Talk(identity=old, tokens={"new": new}, may_subscribe=policy)
    talk.conversation.open(["a", "b"])
    asked.clear()

    told = talk.say("authenticate", token="new")

    assert asked == [(new, "a"), (new, "b")]
    assert [message["type"] for message in told] == ["authenticated"]
    assert talk.conversation.channels == ["a", "b"]


def test_request_that_waits_when_a_new_token_does_not_open_it_is_refused() -> None:
    new = Identity("ada", claims="less")
    talk = Talk(
        identity=ADA,
        tokens={"less": new},
        may_subscribe=lambda identity, channel: identity is ADA,
        state=State.PENDING,
    )
    talk.say("subscribe", channel="b", id=1)

    told = talk.say("authenticate", token="less")
    talk.hub.in_force(["b"])

    assert told == [
        {"type": "authenticated"},
        error("forbidden", "channel 'b' is not open to you", channel="b", id=1),
    ]
    assert talk.outlet.messages[-1:] == told[-1:]


def test_request_that_waits_when_nobody_can_say_any_more_is_refused_for_now() -> None:
    def policy(identity: Identity | None, channel: str) -> bool:
        if identity is not ADA:
            raise Unavailable("away", retry_delay=2.0)
        return True

    new = Identity("ada", claims="less")
    talk = Talk(
        identity=ADA, tokens={"less": new}, may_subscribe=policy, state=State.PENDING
    )
    talk.say("subscribe", channel="b", id=1)

    assert talk.say("authenticate", token="less") == [
        {"type": "authenticated"},
        error("unavailable", "away", channel="b", id=1, retry_delay=2.0),
    ]


def test_channel_that_a_new_token_does_not_open_is_revoked() -> None:
    new = Identity("ada", claims="a")
    talk = Talk(
        identity=ADA,
        tokens={"less": new},
        may_subscribe=lambda identity, channel: identity is ADA or channel == "a",
    )
    talk.conversation.open(["a", "b"])

    told = talk.say("authenticate", token="less")
    talk.publish("b", "secret")

    assert told == [
        {"type": "authenticated"},
        {"type": "unsubscribed", "channel": "b", "reason": "revoked"},
    ]
    assert talk.outlet.messages == told
    assert talk.conversation.channels == ["a"]
    assert talk.demand.calls[-1] == ("unwant", "b")
    # It is no mistake of the client's.
    assert talk.closed == []


def test_channel_that_cannot_be_checked_now_is_taken_away() -> None:
    def policy(identity: Identity | None, channel: str) -> bool:
        raise Unavailable("not now", retry_delay=5.0)

    talk = Talk(identity=ADA, tokens={"new": ADA})
    talk.conversation.open(["a"])
    talk.gate.may_subscribe = policy

    told = talk.say("authenticate", token="new")

    assert told == [
        {"type": "authenticated"},
        error("unavailable", "not now", channel="a", retry_delay=5.0),
    ]
    assert talk.demand.calls == [("want", "a"), ("unwant", "a")]


def test_client_that_leaves_while_its_token_is_checked_gets_nothing() -> None:
    talk = Talk(tokens={"good": ada_for(60)})
    talk.gate.on_token = talk.conversation.end

    assert talk.say("authenticate", token="good") == []
    assert talk.conversation.identity is None
    assert talk.alarm is None


def test_client_that_leaves_while_its_channels_are_checked_gets_nothing() -> None:
    def policy(identity: Identity | None, channel: str) -> bool:
        talk.conversation.end()
        return False

    talk = Talk(identity=ADA, tokens={"new": ADA})
    talk.conversation.open(["a", "b"])
    talk.gate.may_subscribe = policy

    assert talk.say("authenticate", token="new") == [{"type": "authenticated"}]
    assert talk.hub.subscriptions == 0


def test_channel_that_needs_a_token_says_so() -> None:
    talk = Talk(tokens={"good": ADA}, may_subscribe=_known_only)

    refused = talk.say("subscribe", channel="a", id=1)
    talk.say("authenticate", token="good")

    assert refused == [
        error("not_authenticated", "channel 'a' needs a token", id=1, channel="a")
    ]
    assert talk.say("subscribe", channel="a") == [subscribed("a")]


def test_channel_that_a_known_client_may_not_have_is_forbidden() -> None:
    talk = Talk(identity=ADA, tokens={}, may_subscribe=lambda identity, channel: False)

    assert talk.say("subscribe", channel="a") == [
        error("forbidden", "channel 'a' is not open to you", channel="a")
    ]


# Channels of the URL that wait for a token.


def test_channels_of_the_url_wait_for_a_token() -> None:
    talk = Talk(tokens={"good": ADA}, may_subscribe=_known_only)

    talk.conversation.open(["a", "b"], cursor="c")
    before, waited = talk.outlet.messages, talk.alarm
    told = talk.say("authenticate", token="good")

    assert (before, waited) == ([WELCOME], 10.0)
    assert [(m["type"], m.get("channel")) for m in told] == [
        ("authenticated", None),
        ("subscribed", "a"),
        ("gap", "a"),
        ("subscribed", "b"),
        ("gap", "b"),
    ]
    assert talk.alarm is None


def test_channel_that_waits_and_is_unsubscribed_waits_no_longer() -> None:
    talk = Talk(tokens={"good": ADA}, may_subscribe=_known_only)
    talk.conversation.open(["a", "b"])

    told = talk.say("unsubscribe", channel="a", id=1)
    then = talk.say("authenticate", token="good")

    assert told == [
        {"type": "unsubscribed", "channel": "a", "reason": "requested", "id": 1}
    ]
    assert then == [{"type": "authenticated"}, subscribed("b")]
    assert talk.conversation.channels == ["b"]


def test_public_channels_of_the_url_do_not_wait() -> None:
    talk = Talk(tokens={"good": ADA})

    talk.conversation.open(["a", "public"])

    assert talk.outlet.messages == [WELCOME, subscribed("public")]
    assert talk.conversation.channels == ["public"]


def test_channels_of_the_url_do_not_wait_for_one_who_is_known() -> None:
    talk = Talk(identity=ADA, tokens={"good": ADA})

    talk.conversation.open(["a"])

    assert talk.conversation.channels == ["a"]
    assert talk.alarm is None


def test_only_public_channels_set_no_alarm() -> None:
    talk = Talk(tokens={"good": ADA})

    talk.conversation.open(["public"])

    assert talk.alarm is None


def test_channels_go_on_waiting_after_a_bad_token() -> None:
    talk = Talk(tokens={"good": ADA, "bad": TokenInvalid("no")})
    talk.conversation.open(["a"])

    bad = talk.say("authenticate", token="bad")
    good = talk.say("authenticate", token="good")

    assert bad == [error("token_invalid", "no")]
    assert good == [{"type": "authenticated"}, subscribed("a")]


def test_channels_that_waited_are_subscribed_once() -> None:
    talk = Talk(tokens={"good": ADA})
    talk.conversation.open(["a"])
    talk.say("authenticate", token="good")

    assert talk.say("authenticate", token="good") == [{"type": "authenticated"}]


def test_channels_that_waited_stop_when_the_client_is_sent_away() -> None:
    asked: list[str] = []

    def policy(identity: Identity | None, channel: str) -> bool:
        asked.append(channel)
        return True

    talk = Talk(tokens={"good": ADA}, may_subscribe=policy, max_errors=1)
    talk.conversation.open(["a*", "b"])

    told = talk.say("authenticate", token="good")

    assert [message["type"] for message in told] == ["authenticated", "error"]
    assert (asked, talk.demand.calls) == ([], [])


def test_client_that_sends_no_token_in_time_is_closed() -> None:
    talk = Talk(tokens={"good": ADA})
    talk.conversation.open(["a"])
    talk.outlet.take()

    talk.conversation.alarm()

    assert talk.outlet.messages == [
        {"type": "bye", "reason": "authenticate_timeout", "reconnect_delay": 0}
    ]
    assert talk.closed == [(CloseCode.AUTHENTICATE_TIMEOUT, "no token came in time")]


def test_client_whose_token_expires_is_closed() -> None:
    talk = Talk(identity=ada_for(60))
    talk.conversation.open(["a"])
    talk.outlet.take()

    talk.conversation.alarm()

    assert talk.outlet.messages == [
        {"type": "bye", "reason": "token_expired", "reconnect_delay": 0}
    ]
    assert talk.closed == [(CloseCode.TOKEN_EXPIRED, "the token has expired")]


def test_alarm_after_the_end_is_nothing() -> None:
    talk = Talk(identity=ada_for(60))
    talk.conversation.open([])
    talk.outlet.take()
    talk.conversation.end()

    talk.conversation.alarm()

    assert talk.outlet.messages == []
    assert talk.closed == []


def test_client_with_a_bad_token_in_its_handshake_is_told_and_closed() -> None:
    talk = Talk()

    talk.conversation.turn_away(TokenExpired("it was good until noon"))

    assert talk.outlet.messages == [
        WELCOME,
        error("token_expired", "it was good until noon"),
    ]
    assert talk.closed == [(CloseCode.TOKEN_EXPIRED, "it was good until noon")]


def test_more_channels_of_the_url_than_one_may_have_do_not_wait() -> None:
    talk = Talk(tokens={"good": ADA}, max_channels=2)

    talk.conversation.open(["a", "b", "c"])
    refused = talk.outlet.messages[1:]
    told = talk.say("authenticate", token="good")

    assert refused == [
        error("too_many_channels", "at most 2 channels a connection", channel="c")
    ]
    assert told == [{"type": "authenticated"}, subscribed("a"), subscribed("b")]


def test_last_channel_that_waits_and_is_unsubscribed_stops_the_alarm() -> None:
    talk = Talk(tokens={"good": ADA})
    talk.conversation.open(["a"])
    before = talk.alarm

    told = talk.say("unsubscribe", channel="a", id=1)

    assert (before, talk.alarm) == (10.0, None)
    assert told == [
        {"type": "unsubscribed", "id": 1, "channel": "a", "reason": "requested"}
    ]
