"""Subscriptions come and go while the source does: what each one is told.

Any sequence of events is played against a real hub. Each write may be followed
by a pause, in which clients come and go, as other greenlets do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.doubles import messages, plain_hub

from bridge.core import fan_out as fan_out_module
from bridge.core.conversation import Conversation
from bridge.core.service import Service
from bridge.core.subscription import State, Subscription
from bridge.values.errors import BadChannel, CloseCode, TokenInvalid, Unavailable
from bridge.values.identity import Identity
from bridge.values.limits import Rate
from bridge.values.message import Batch
from bridge.wire import native

CHANNELS = "ab"


@pytest.fixture(autouse=True, scope="module")
def pause_after_every_write() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fan_out_module, "_RUN_LENGTH", 1)
        yield


class Client:
    """A subscription that is its own outlet.

    Attributes:
        told: each message, and how many notifications its channel had by then.
    """

    def __init__(self, house: House, channel: str, resume: bool) -> None:
        self._house = house
        self.channel = channel
        self.resume = resume
        self.told: list[tuple[dict[str, Any], int]] = []
        #: How many notifications there were when it left; None: it has not.
        self.left: int | None = None
        self.subscription = Subscription(
            channel, codec=native, outlet=self, resume=resume
        )

    def write(
        self, chunk: bytes, owner: Subscription | None = None, before: int | None = None
    ) -> None:
        assert self.left is None, "something was written after the end"
        published = self._house.published[self.channel]
        self.told += [(message, published) for message in messages(chunk)]
        assert (owner is not None) == (self.told[-1][0]["type"] == "notification")


class House:
    """A hub, its clients, and a listener that follows the rules of one."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        #: How the listener sees each channel.
        self.states = dict.fromkeys(CHANNELS, State.PENDING)
        self.published = dict.fromkeys(CHANNELS, 0)
        self.wanted: set[str] = set()
        #: What happens in the next pauses.
        self.meanwhile: list[Callable[[], None]] = []
        self._now = 0.0
        self.hub = plain_hub(
            self._want, self.wanted.remove, pause=self._pause, clock=self._clock
        )

    def _want(self, channel: str) -> State:
        assert channel not in self.wanted
        self.wanted.add(channel)
        return self.states[channel]

    def _clock(self) -> float:
        self._now += 1
        return self._now

    def _pause(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop()()

    # What clients do, also in a pause.

    def come(self, channel: str, resume: bool) -> None:
        client = Client(self, channel, resume)
        self.clients.append(client)
        self.hub.subscribe(client.subscription)

    def leave(self, number: int) -> None:
        present = [client for client in self.clients if client.left is None]
        if present:
            client = present[number % len(present)]
            self.hub.unsubscribe(client.subscription)
            client.left = self.published[client.channel]

    # What the listener does, one after another.

    def in_force(self, channels: str) -> None:
        for channel in channels:
            self.states[channel] = State.LIVE
        self.hub.in_force(channels)

    def interrupted(self) -> None:
        self.states = dict.fromkeys(CHANNELS, State.AWAY)
        self.hub.interrupted(CHANNELS, 1.0)

    def unlisten(self, channel: str) -> None:
        if channel not in self.wanted and self.states[channel] is State.LIVE:
            self.states[channel] = State.PENDING

    def publish(self, channel: str, count: int) -> None:
        first = self.published[channel] + 1
        self.published[channel] += count
        self.hub.publish(Batch(channel, tuple(str(first + n) for n in range(count))))


Step = Callable[[House], None]

channels = st.sampled_from(CHANNELS)

client_steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda channel, resume: lambda house: house.come(channel, resume),
        channels,
        st.booleans(),
    ),
    st.builds(lambda number: lambda house: house.leave(number), st.integers(0, 9)),
)

listener_steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda found: lambda house: house.in_force(found),
        st.sampled_from(["a", "b", "ab", "ba"]),
    ),
    st.just(lambda house: house.interrupted()),
    st.builds(lambda channel: lambda house: house.unlisten(channel), channels),
    st.builds(
        lambda channel, count: lambda house: house.publish(channel, count),
        channels,
        st.integers(1, 3),
    ),
)

plays = st.lists(
    st.one_of(
        client_steps.map(lambda step: (step, [])),
        st.tuples(listener_steps, st.lists(client_steps, max_size=4)),
    ),
    max_size=30,
)


def play(steps: list[tuple[Step, list[Step]]]) -> House:
    house = House()
    for step, meanwhile in steps:
        house.meanwhile = [
            lambda other=other: other(house)  # type: ignore[misc]
            for other in meanwhile
        ]
        step(house)
    return house


def check(house: House, client: Client) -> None:
    """Hold what a client was told against the states of a subscription."""
    state, start = State.PENDING, 0
    answered = False
    told = iter(client.told)
    for message, published in told:
        kind = message["type"]
        assert message["channel"] == client.channel
        if kind == "interrupted":
            assert state is not State.AWAY
            state = State.AWAY
        elif kind == "subscribed":
            assert not answered
            answered, state, start = True, State.LIVE, published
            if client.resume:
                following, at = next(told)
                assert (following["type"], at) == ("gap", published)
                assert following["reason"] == "not_kept"
        elif kind == "gap":
            assert answered and state is State.AWAY
            assert (message["reason"], message["since"]) == ("listener_lost", 1.0)
            state, start = State.LIVE, published
        else:
            # An unbroken run: none left out, none twice, in order.
            assert kind == "notification" and state is State.LIVE
            start += 1
            assert message["text"] == str(start)
    # Nothing that was published while it was there and live is missing.
    if client.left is None:
        assert state is (house.states[client.channel])
        if state is State.LIVE:
            assert start == house.published[client.channel]


@settings(deadline=None, max_examples=200)
@given(plays)
def test_each_subscription_is_told_an_unbroken_story(
    steps: list[tuple[Step, list[Step]]],
) -> None:
    house = play(steps)

    for client in house.clients:
        check(house, client)
    present = [client for client in house.clients if client.left is None]
    assert house.hub.subscriptions == len(present)
    assert house.wanted == {client.channel for client in present}
    assert house.hub.channels == len(house.wanted)


@settings(deadline=None, max_examples=200)
@given(plays)
def test_every_interruption_ends_when_all_is_in_force_again(
    steps: list[tuple[Step, list[Step]]],
) -> None:
    house = play(steps)
    present = [client for client in house.clients if client.left is None]
    house.meanwhile = []

    house.in_force(CHANNELS)

    for client in present:
        check(house, client)
        assert client.subscription.state is State.LIVE
        kinds = [message["type"] for message, _ in client.told]
        gaps = [m for m, _ in client.told if m.get("reason") == "listener_lost"]
        assert kinds.count("subscribed") == 1
        first_word = kinds[0] == "interrupted"
        lost = sum(message["type"] == "gap" for message in gaps)
        assert kinds.count("interrupted") == lost + first_word


# Conversations.

requests = st.one_of(
    st.text(max_size=10),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                ["subscribe", "unsubscribe", "authenticate", "ping", "other"]
            )
        },
        optional={
            "channel": st.sampled_from(
                ["a", "b", "c", "*", "forbidden", "unsure", "full", "\ud800", 1]
            ),
            "token": st.sampled_from(["good", "bad", 1]),
            "resume": st.booleans(),
            "cursor": st.sampled_from(["c", None, 5]),
            "id": st.sampled_from([1, "x", "\ud800", 1.5]),
        },
    ).map(json.dumps),
)


class Told:
    """An outlet that keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def write(self, chunk: bytes, owner: Subscription | None = None) -> None:
        self.messages += messages(chunk)


class Gate:
    """Decides about access; one token is good, and changes nothing."""

    takes_tokens = True

    def is_public(self, channel: str) -> bool:
        return True

    def authenticate(self, token: str) -> Identity:
        if token != "good":
            raise TokenInvalid("no")
        return Identity("ada")

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        if channel == "unsure":
            raise Unavailable("cannot say", retry_delay=1.0)
        return channel != "forbidden"


def _want(channel: str) -> State:
    if channel == "full":
        raise BadChannel("cannot be listened to")
    return State.LIVE


@settings(deadline=None, max_examples=200)
@given(st.lists(requests, max_size=12), st.integers(0, 4))
def test_every_request_has_one_answer_until_the_end(
    texts: list[str], max_errors: int
) -> None:
    hub = plain_hub(_want, lambda channel: None)
    outlet = Told()
    closed: list[CloseCode] = []

    def close(code: CloseCode, reason: str) -> None:
        closed.append(code)
        conversation.end()

    conversation = Conversation(
        Service(
            hub=hub,
            access=Gate(),
            heartbeat_interval=25.0,
            max_channels=2,
            subscribe_rate=Rate(per_second=1, burst=5),
            max_errors=max_errors,
            authenticate_timeout=10.0,
            clock=lambda: 0.0,
        ),
        identity=None,
        codec=native,
        outlet=outlet,
        close=close,
        set_alarm=lambda seconds: None,
    )

    for text in texts:
        before, ended = len(outlet.messages), bool(closed)
        conversation.receive(text)
        new = [m for m in outlet.messages[before:] if m["type"] != "gap"]
        assert len(new) == (0 if ended else 1)

    errors = [m for m in outlet.messages if m["type"] == "error"]
    mistakes = [m for m in errors if "retry_delay" not in m]
    assert closed == (
        [CloseCode.TOO_MANY_ERRORS] if 0 < max_errors <= len(mistakes) else []
    )
    assert len(mistakes) <= max_errors or max_errors == 0
    assert len(conversation.channels) == hub.subscriptions <= 2
