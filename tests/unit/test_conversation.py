"""One client, over a real hub and the native codec: requests and answers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bridge.core.conversation import Conversation
from bridge.core.entries import Entry, Page
from bridge.core.hub import Hub
from bridge.core.service import Service
from bridge.core.subscription import State
from bridge.values.channels import Patterns
from bridge.values.errors import (
    BadChannel,
    ClientError,
    CloseCode,
    TokenExpired,
    TokenInvalid,
    Unavailable,
)
from bridge.values.identity import Identity
from bridge.values.limits import Rate
from bridge.values.message import Batch
from bridge.wire import native
from unit.doubles import (
    Demand,
    RecordingOutlet,
    Time,
    durable_hub,
    make_hub,
    messages,
    plain_hub,
)

NO_LIMIT = Rate(per_second=0, burst=1)


def _everybody(identity: Identity | None, channel: str) -> bool:
    return True


class Gate:
    """Decides about access.

    Args:
        tokens: what each token is worth; None: no tokens are taken.
    """

    def __init__(
        self,
        may_subscribe: Callable[[Identity | None, str], bool],
        tokens: Mapping[str, Identity | ClientError] | None,
    ) -> None:
        self.may_subscribe = may_subscribe
        self.takes_tokens = tokens is not None
        self._tokens = tokens or {}
        #: Called when a token is asked about.
        self.on_token: Callable[[], None] | None = None

    def is_public(self, channel: str) -> bool:
        return channel.startswith("public")

    def authenticate(self, token: str) -> Identity:
        if self.on_token is not None:
            self.on_token()
        found = self._tokens.get(token, TokenInvalid("this server takes no tokens"))
        if isinstance(found, ClientError):
            raise found
        return found


class Talk:
    """A conversation with all that it needs; `closed` is how it was closed.

    Args:
        may_subscribe: the policy.
        tokens: what each token is worth; None: no tokens are taken.
        state: how channels stand when they are first wanted.
        make: makes the hub.
        hub: its options.
    """

    def __init__(
        self,
        *,
        may_subscribe: Callable[[Identity | None, str], bool] = _everybody,
        tokens: Mapping[str, Identity | ClientError] | None = None,
        state: State = State.LIVE,
        identity: Identity | None = None,
        max_channels: int = 3,
        max_errors: int = 20,
        subscribe_rate: Rate = NO_LIMIT,
        make: Callable[..., Hub] = plain_hub,
        **hub: Any,
    ) -> None:
        self.demand = Demand(state)
        self.hub = make(self.demand.want, self.demand.unwant, **hub)
        self.outlet = RecordingOutlet()
        self.gate = Gate(may_subscribe, tokens)
        #: Monotonic seconds.
        self.now = 1000.0
        #: After how many seconds the alarm is to come; None: it is not set.
        self.alarm: float | None = None
        self.closed: list[tuple[CloseCode, str]] = []
        self.conversation = Conversation(
            Service(
                hub=self.hub,
                access=self.gate,
                heartbeat_interval=25.0,
                max_channels=max_channels,
                subscribe_rate=subscribe_rate,
                max_errors=max_errors,
                authenticate_timeout=10.0,
                clock=lambda: self.now,
            ),
            identity=identity,
            codec=native,
            outlet=self.outlet,
            close=self._close,
            set_alarm=self._set_alarm,
        )

    def _set_alarm(self, seconds: float | None) -> None:
        self.alarm = seconds

    def _close(self, code: CloseCode, reason: str) -> None:
        self.closed.append((code, reason))
        # As every connection does.
        self.conversation.end()

    def say(self, type: str, **fields: Any) -> list[dict[str, Any]]:
        """Send a request; return what the client is told from then on."""
        return self.say_text(json.dumps({"type": type, **fields}))

    def say_text(self, text: str) -> list[dict[str, Any]]:
        self.outlet.take()
        self.conversation.receive(text)
        return self.outlet.messages

    def publish(self, channel: str, *payloads: str) -> None:
        self.hub.publish(Batch(channel, payloads))


def subscribed(channel: str, **id: Any) -> dict[str, Any]:
    return {
        "type": "subscribed",
        "channel": channel,
        "durable": False,
        "resumed": False,
        **id,
    }


def error(code: str, message: str, **fields: Any) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message, **fields}


WELCOME = {
    "type": "welcome",
    "protocol": 1,
    "heartbeat_interval": 25.0,
    "max_channels": 3,
    "authenticated": False,
}
NOT_KEPT = {"type": "gap", "channel": "a", "reason": "not_kept", "reload_window": 1.0}


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


# Tokens.

ADA = Identity("ada")


def ada_for(seconds: float) -> Identity:
    return Identity("ada", expires_at=time.time() + seconds)


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

    talk.conversation.refuse(TokenExpired("it was good until noon"))

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


# Durable channels.


def keeping(**options: Any) -> Talk:
    """A talk over a journal, whose position is 5."""
    return Talk(make=durable_hub, **options)


def undecided(**options: Any) -> Talk:
    """A talk before it is known which channels are durable."""
    return Talk(make=make_hub, patterns=None, **options)


def answered(channel: str = "kept", **changes: Any) -> dict[str, Any]:
    return subscribed(channel) | {"durable": True, "cursor": "e1-5", **changes}


def bring(talk: Talk, channel: str, *payloads: str) -> None:
    """Let the journal's tail bring so many entries."""
    feed = talk.hub.feed
    entries = [
        Entry(position, channel, payload)
        for position, payload in enumerate(payloads, feed.position + 1)
    ]
    feed.advance(entries, entries[-1].position, talk.hub.publish_kept)


def replay(talk: Talk) -> None:
    """Bring one who is behind forward; there is nothing in between."""
    feed = talk.hub.feed
    need = feed.work()
    assert need is not None
    feed.replayed(need, Page((), need.upto, feed.epoch, feed.floor, feed.position))


def bad_cursor(**fields: Any) -> dict[str, Any]:
    return error("bad_cursor", "cursor 'c' is not valid", **fields)


def test_durable_channel_is_answered_with_its_cursor() -> None:
    assert keeping().say("subscribe", channel="kept", id=1) == [answered(id=1)]


def test_durable_channel_is_resumed_from_the_cursor_of_the_client() -> None:
    talk = keeping()

    told = talk.say("subscribe", channel="kept", cursor="e1-5")

    assert told == [answered(resumed=True)]


def test_durable_channels_of_the_url_are_resumed_from_one_cursor() -> None:
    talk = keeping()

    talk.conversation.open(["kept 1", "a", "kept 2"], cursor="e1-5")

    assert talk.outlet.messages == [
        WELCOME,
        answered("kept 1", resumed=True),
        subscribed("a"),
        NOT_KEPT,
        answered("kept 2", resumed=True),
    ]


def test_cursor_that_no_server_gave_is_refused() -> None:
    talk = keeping()

    refused = talk.say("subscribe", channel="kept", cursor="c", id=1)
    again = talk.say("subscribe", channel="kept", id=2)

    assert refused == [bad_cursor(id=1, channel="kept")]
    assert again == [answered(id=2)]


def test_bad_cursor_is_a_mistake_and_the_policy_is_not_asked() -> None:
    asked: list[str] = []

    def policy(identity: Identity | None, channel: str) -> bool:
        asked.append(channel)
        return True

    talk = keeping(may_subscribe=policy, max_errors=2)

    for _ in range(2):
        talk.say("subscribe", channel="kept", cursor="c")

    assert talk.closed == [(CloseCode.TOO_MANY_ERRORS, "too many errors")]
    assert asked == []


def test_bad_cursor_takes_nothing_from_the_rate() -> None:
    talk = keeping(subscribe_rate=Rate(per_second=1, burst=1))
    talk.say("subscribe", channel="kept", cursor="c")

    assert talk.say("subscribe", channel="kept") == [answered()]


def test_bad_cursor_is_refused_as_long_as_the_channel_may_be_durable() -> None:
    talk = undecided()

    assert talk.say("subscribe", channel="a", cursor="c") == [bad_cursor(channel="a")]
    assert talk.hub.subscriptions == 0


def test_cursor_of_a_channel_that_turns_out_to_be_plain_proves_nothing() -> None:
    talk = undecided()
    before = talk.say("subscribe", channel="a", cursor="e1-5", id=1)

    talk.hub.know(Patterns([]))

    assert before == []
    assert talk.outlet.messages == [subscribed("a", id=1), NOT_KEPT]


def test_second_subscribe_before_it_is_known_what_is_durable_is_refused_for_now() -> (
    None
):
    talk = undecided()
    talk.say("subscribe", channel="a", id=1)

    assert talk.say("subscribe", channel="a", id=2) == [
        error(
            "unavailable",
            "channel 'a' is not listened to yet",
            id=2,
            channel="a",
            retry_delay=1.0,
        )
    ]


@pytest.mark.parametrize(
    ("make", "channel", "most"),
    [(keeping, "a", 63), (keeping, "kept", 255), (undecided, "a", 255)],
)
def test_name_may_be_as_long_as_its_kind_allows(
    make: Callable[[], Talk], channel: str, most: int
) -> None:
    name = channel + "x" * (most - len(channel))
    talk = make()

    talk.say("subscribe", channel=name)
    [refused] = talk.say("subscribe", channel=name + "x")

    assert talk.conversation.channels == [name]
    assert refused == error(
        "bad_channel",
        f"channel {(name[:60] + '…')!r} is not valid: {most + 1} bytes, "
        f"at most {most} are allowed",
        channel=name + "x",
    )


def test_second_subscribe_of_one_who_is_live_has_the_cursor_of_the_tail() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept", id=1)
    bring(talk, "kept", "six")

    again = talk.say("subscribe", channel="kept", id=2)

    assert again == [answered(id=2, cursor="e1-6")]
    assert talk.hub.subscriptions == 1


def test_second_subscribe_of_one_who_is_behind_has_its_own_cursor() -> None:
    # What is in memory needs no table: it is answered, and not yet forward.
    talk = keeping(max_recent_bytes=1000)
    bring(talk, "kept", "six", "seven")
    first = talk.say("subscribe", channel="kept", cursor="e1-5", id=1)

    again = talk.say("subscribe", channel="kept", id=2)

    assert first == [answered(id=1, cursor="e1-5", resumed=True)]
    assert again == [answered(id=2, cursor="e1-5")]


def test_second_subscribe_says_no_cursor_while_something_may_be_dropped() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept", id=1)

    talk.outlet.idle = False
    [again] = talk.say("subscribe", channel="kept", id=2)

    assert again == subscribed("kept") | {"durable": True, "id": 2}


def test_second_subscribe_of_one_who_is_not_judged_yet_is_refused_for_now() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept", cursor="e1-3", id=1)

    [refused] = talk.say("subscribe", channel="kept", cursor="e1-3", id=2)
    talk.outlet.take()
    replay(talk)

    assert (refused["code"], refused["retry_delay"]) == ("unavailable", 1.0)
    assert talk.outlet.messages == [answered(id=1, resumed=True, cursor="e1-3")]


def test_second_subscribe_of_a_plain_channel_has_no_cursor() -> None:
    talk = keeping()
    talk.say("subscribe", channel="a")

    assert talk.say("subscribe", channel="a") == [subscribed("a")]


def test_end_leaves_durable_channels_too() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept")
    talk.say("subscribe", channel="kept 2", cursor="e1-3")

    talk.conversation.end()

    assert (talk.hub.subscriptions, talk.hub.channels) == (0, 0)
    assert (talk.hub.feed.subscriptions, talk.hub.feed.behind) == (0, 0)


# Heartbeats.


def heartbeat(talk: Talk) -> dict[str, Any]:
    [message] = messages(talk.conversation.heartbeat())
    return message


LIVES = {"type": "heartbeat"}


def test_heartbeat_of_one_without_durable_channels_has_no_cursor() -> None:
    talk = keeping()
    before = heartbeat(talk)
    talk.say("subscribe", channel="a")

    assert before == heartbeat(talk) == LIVES


def test_heartbeat_has_the_cursor_of_the_tail_when_all_durable_channels_are_live() -> (
    None
):
    talk = keeping()
    for channel in ("kept 1", "a", "kept 2"):
        talk.say("subscribe", channel=channel)

    bring(talk, "kept 3", "not for this client")

    assert heartbeat(talk) == LIVES | {"cursor": "e1-6"}


def test_heartbeat_has_no_cursor_while_one_channel_is_behind() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept 1")
    talk.say("subscribe", channel="kept 2", cursor="e1-3")

    before = heartbeat(talk)
    replay(talk)

    assert before == LIVES
    assert heartbeat(talk) == LIVES | {"cursor": "e1-5"}


def test_heartbeat_has_no_cursor_while_something_waits_that_may_be_dropped() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept")

    talk.outlet.idle = False

    assert heartbeat(talk) == LIVES


def test_heartbeat_has_no_cursor_while_entries_are_written() -> None:
    time = Time()
    talk = keeping(clock=time.clock, pause=time.pause)
    talk.say("subscribe", channel="kept")
    time.step = 0.005
    found: list[dict[str, Any]] = []

    time.meanwhile = lambda: found.append(heartbeat(talk))
    bring(talk, "kept", "six")

    assert found == [LIVES]
    assert heartbeat(talk) == LIVES | {"cursor": "e1-6"}


def test_heartbeat_has_no_cursor_while_the_journal_is_away() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept")

    talk.hub.journal_lost()
    away = heartbeat(talk)
    talk.hub.feed.opened("e1", 0, 5)

    assert away == LIVES
    assert heartbeat(talk) == LIVES | {"cursor": "e1-5"}


def test_heartbeat_has_no_cursor_before_it_is_known_what_is_durable() -> None:
    talk = undecided()
    talk.say("subscribe", channel="a")

    assert heartbeat(talk) == LIVES


def test_heartbeat_forgets_a_channel_that_was_left() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept 1")
    talk.say("subscribe", channel="kept 2", cursor="e1-3")

    talk.say("unsubscribe", channel="kept 2")

    assert heartbeat(talk) == LIVES | {"cursor": "e1-5"}


def test_heartbeat_is_encoded_once_for_all_clients_of_a_moment() -> None:
    first, second = keeping(), keeping()
    for talk in (first, second):
        talk.say("subscribe", channel="kept")

    assert first.conversation.heartbeat() is second.conversation.heartbeat()


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
