"""Whole conversations: many messages to one client's end of the server.

Law: every message has exactly one answer, with its id, until the client is sent
away (and a `gap` may follow on `subscribed`); nothing of it is left in the hub.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from unit.doubles import plain_hub

from bridge.conversation import Conversation, Service
from bridge.errors import CloseCode, TokenInvalid, Unavailable
from bridge.hub import Hub
from bridge.identity import Identity
from bridge.limits import Rate
from bridge.subscription import State, Subscription
from bridge.wire import native
from fuzz.run import Target
from fuzz.targets import messages

__all__ = ["target"]

CHANNELS = 5
"""Of one client; few, so that the limit is reached."""


@dataclass
class Client:
    """The other end: what it was told, and whether it was sent away."""

    chunks: list[bytes] = field(default_factory=list)
    closed: list[CloseCode] = field(default_factory=list)

    def write(self, chunk: bytes, owner: Subscription | None = None) -> None:
        self.chunks.append(chunk)


class Access:
    """A policy that says yes, no, and that it cannot say."""

    takes_tokens = False

    def authenticate(self, token: str) -> Identity:
        if token == "good":
            return Identity("somebody")
        raise TokenInvalid("not good")

    def is_public(self, channel: str) -> bool:
        return not channel.startswith("x")

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        if channel.startswith("a"):
            raise Unavailable("cannot say", retry_delay=1.0)
        return self.is_public(channel)


def target() -> Target[list[str]]:
    return Target(_make, _run, _judge)


def _make(random: Random) -> list[str]:
    told = [_message(random) for _ in range(random.randrange(1, 30))]
    return random.choices(told, k=random.randrange(1, 40))


def _message(random: Random) -> str:
    if random.random() < 0.1:
        return messages.text(random)
    channel = random.choice(("a", "b", "c", "d", "e", "f", "g", "x", "*", ""))
    kind = random.choice(("subscribe", "subscribe", "unsubscribe", "ping"))
    message: dict[str, Any] = {"type": kind, "channel": channel}
    if random.random() < 0.7:
        message["id"] = random.choice((0, -7, "", "a", "\ud800", 10**40))
    if random.random() < 0.2:
        message["resume"] = random.choice((True, False))
    if random.random() < 0.1:
        message |= {"type": "authenticate", "token": random.choice(("good", "bad"))}
    return json.dumps(message)


def _run(value: list[str]) -> tuple[list[list[bytes]], Client, Hub]:
    hub = plain_hub(lambda channel: State.LIVE, lambda channel: None)
    service = Service(
        hub=hub,
        access=Access(),
        heartbeat_interval=25.0,
        max_channels=CHANNELS,
        subscribe_rate=Rate(1.0, 20),
        max_errors=10,
        authenticate_timeout=10.0,
        clock=lambda: 0.0,
    )
    client = Client()

    def close(code: CloseCode, reason: str) -> None:
        client.closed.append(code)
        conversation.end()

    conversation = Conversation(
        service,
        identity=None,
        codec=native,
        outlet=client,
        close=close,
        set_alarm=lambda seconds: None,
    )
    conversation.open(())
    answers = []
    for text in value:
        client.chunks.clear()
        conversation.receive(text)
        answers.append(client.chunks.copy())
    conversation.end()
    return answers, client, hub


def _judge(value: list[str], outcome: tuple[list[list[bytes]], Client, Hub]) -> str:
    answers, client, hub = outcome
    assert (hub.subscriptions, hub.channels) == (0, 0), "the hub keeps something"
    assert client.closed in ([], [CloseCode.TOO_MANY_ERRORS]), client.closed
    errors = 0
    for text, answer in zip(value, answers, strict=True):
        if errors == 10:
            assert answer == [], f"{answer} after the end"
            continue
        message, *more = map(_message_in, answer)
        # Who had the channel before is told that nothing was kept.
        if message["type"] == "subscribed" and more:
            assert [gap["reason"] for gap in more] == ["not_kept"], more
        else:
            assert not more, f"{len(answer)} answers to {text[:200]!r}"
        if message["type"] != "error":
            assert message.get("id") == _said(json.loads(text).get("id"))
        elif "retry_delay" not in message:
            errors += 1
    assert (errors == 10) == bool(client.closed), f"{errors} errors, {client.closed}"
    return "sent away" if client.closed else "kept"


def _message_in(frame: bytes) -> dict[str, Any]:
    assert frame[0] == 0x81
    head = {126: 4, 127: 10}.get(frame[1], 2)
    message: dict[str, Any] = json.loads(frame[head:].decode())
    return message


def _said(id: Any) -> Any:
    """Return an id as UTF-8 can say it: half a surrogate becomes a mark."""
    return id.encode(errors="replace").decode() if isinstance(id, str) else id
