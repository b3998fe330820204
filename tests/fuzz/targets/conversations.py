"""Whole conversations: many messages to one client's end of the server.

Law: every message has exactly one answer, with its id, until the client is sent
away; on `subscribed` follows a `gap`, or exactly the journal's entries after the
cursor given, or nothing; nothing of the client is left in the hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from unit.doubles import make_hub

from bridge.core.conversation import Conversation
from bridge.core.entries import Page
from bridge.core.hub import Hub
from bridge.core.service import Service
from bridge.core.subscription import State, Subscription
from bridge.values.channels import Patterns
from bridge.values.errors import CloseCode, TokenInvalid, Unavailable
from bridge.values.identity import Identity
from bridge.values.limits import Rate
from bridge.wire import native
from fuzz.inputs import mutate, some_text
from fuzz.run import Target
from fuzz.targets import messages

__all__ = ["target"]

CHANNELS = 5
"""Of one client; few, so that the limit is reached."""

EPOCH = "e1"
FLOOR, TAIL, NEWEST = 5, 15, 18
"""Of the journal: what is kept, where this worker is, and where it ends."""

JOURNAL = {position: f"k{position % 3}" for position in range(FLOOR + 1, NEWEST + 1)}
"""The channel of each position; channels that begin with k are durable."""


@dataclass
class Client:
    """The other end: what it was told, and whether it was sent away."""

    chunks: list[bytes] = field(default_factory=list)
    closed: list[CloseCode] = field(default_factory=list)

    def write(
        self, chunk: bytes, owner: Subscription | None = None, before: int | None = None
    ) -> None:
        self.chunks.append(chunk)

    @property
    def idle(self) -> bool:
        return True

    def when_idle(self, call: Callable[[], None]) -> None:
        call()


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


_WAITS = {"type": "subscribe", "channel": "k0", "cursor": f"{EPOCH}-{FLOOR}"}


def target() -> Target[list[str]]:
    return Target(_make, _run, _judge)


def _make(random: Random) -> list[str]:
    told = [_message(random) for _ in range(random.randrange(1, 30))]
    return random.choices(told, k=random.randrange(1, 40))


def _message(random: Random) -> str:
    if random.random() < 0.1:
        return messages.text(random)
    channel = random.choice(("a", "b", "c", "d", "e", "f", "g", "x", "*", ""))
    if random.random() < 0.4:
        channel = random.choice(("k0", "k1", "k2", "k3", "k" * 255, "k" * 256))
    kind = random.choice(("subscribe", "subscribe", "unsubscribe", "ping"))
    message: dict[str, Any] = {"type": kind, "channel": channel}
    if random.random() < 0.7:
        message["id"] = random.choice((0, -7, "", "a", "\ud800", 10**40))
    if random.random() < 0.2:
        message["resume"] = random.choice((True, False))
    if random.random() < 0.4:
        message["cursor"] = _cursor(random)
    if random.random() < 0.1:
        message |= {"type": "authenticate", "token": random.choice(("good", "bad"))}
    return json.dumps(message)


def _cursor(random: Random) -> str:
    """Make a cursor: good, old, of a future, of another epoch, or none at all."""
    epoch = EPOCH if random.random() < 0.8 else random.choice(("e2", "0", "f" * 32))
    position = random.choice((0, 2**63 - 1, *range(FLOOR - 2, NEWEST + 3)))
    cursor = f"{epoch}-{position}"
    kind = random.random()
    if kind < 0.75:
        return cursor
    if kind < 0.8:
        return f"{epoch}-0{position}"
    if kind < 0.9:
        return mutate(random, cursor, ("-", "0", "9" * 20, "F", "\u0663", " ", "\n"))
    return some_text(random, 30)


Outcome = tuple[list[list[bytes]], list[CloseCode], Hub]
"""The answers to each message, why it was sent away, and where it was."""


def _run(value: list[str]) -> Outcome:
    hub = make_hub(lambda channel: State.LIVE, lambda channel: None, patterns=None)
    hub.feed.opened(EPOCH, FLOOR, TAIL)
    hub.know(Patterns(["k*"]))
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
        _read_journal(hub)
        answers.append(client.chunks.copy())
    closed = client.closed.copy()
    # The end comes while it waits for the journal; or this is one too many.
    conversation.receive(json.dumps(_WAITS))
    conversation.end()
    return answers, closed, hub


def _read_journal(hub: Hub) -> None:
    """Bring those who are behind to the tail, two entries at a time."""
    for _ in range(100):
        need = hub.feed.work()
        if need is None:
            return
        found = _entries(need.channel, need.after, need.upto)
        upto = found[1] if len(found) > 2 else need.upto
        entries = [(position, f"text {position}") for position in found[:2]]
        hub.feed.replayed(need, Page(entries, upto, EPOCH, FLOOR, NEWEST))
    raise AssertionError("those who are behind do not come forward")


def _entries(channel: str, after: int, upto: int = TAIL) -> list[int]:
    """Return the positions of a channel."""
    return [
        position
        for position, name in JOURNAL.items()
        if name == channel and after < position <= upto
    ]


def _judge(value: list[str], outcome: Outcome) -> str:
    answers, closed, hub = outcome
    assert (hub.subscriptions, hub.channels) == (0, 0), "the hub keeps something"
    feed = hub.feed
    assert (feed.subscriptions, feed.behind) == (0, 0), "the feed keeps something"
    assert closed in ([], [CloseCode.TOO_MANY_ERRORS]), closed
    errors = 0
    have: set[str] = set()
    for text, answer in zip(value, answers, strict=True):
        if errors == 10:
            assert answer == [], f"{answer} after the end"
            continue
        message, *more = [one for chunk in answer for one in _messages_in(chunk)]
        if message["type"] == "subscribed":
            _judge_subscribed(json.loads(text), message, more, have)
            have.add(message["channel"])
        else:
            assert not more, f"{1 + len(more)} answers to {text[:200]!r}"
        if message["type"] == "unsubscribed":
            have.discard(message["channel"])
        if message["type"] != "error":
            assert message.get("id") == _said(json.loads(text).get("id"))
        elif "retry_delay" not in message:
            errors += 1
        if message.get("code") == "bad_cursor":
            request = json.loads(text)
            assert _position(request["cursor"]) is None, request
            assert request["channel"] not in have, request
    assert (errors == 10) == bool(closed), f"{errors} errors, {closed}"
    return "sent away" if closed else "kept"


def _judge_subscribed(
    request: dict[str, Any],
    message: dict[str, Any],
    more: list[dict[str, Any]],
    have: set[str],
) -> None:
    """Tell whether it is the right answer to a subscribe, with all that follows."""
    channel, cursor = request["channel"], request.get("cursor")
    durable = channel.startswith("k")
    expected: tuple[bool, list[object]] = False, []
    if channel in have:
        pass
    elif cursor is None or not durable:
        # Who had the channel before is told that nothing was kept.
        if cursor is not None or request.get("resume"):
            expected = False, ["not_kept"]
    else:
        position = _position(cursor)
        assert position is not None, f"{cursor!r} was taken for a cursor"
        if not cursor.startswith(f"{EPOCH}-") or position > NEWEST:
            expected = False, ["epoch_changed"]
        elif position < FLOOR:
            expected = False, ["expired"]
        else:
            entries = _entries(channel, position)
            expected = True, [f"{EPOCH}-{position}" for position in entries]
    kinds = [one["reason" if one["type"] == "gap" else "cursor"] for one in more]
    assert (message["resumed"], kinds) == expected, (request, message, more)
    assert (message["durable"], "cursor" in message) == (durable, durable), message


def _position(cursor: str) -> int | None:
    """Return the position of what may be a cursor; None: it is none."""
    epoch, dash, digits = cursor.partition("-")
    if not (dash and epoch and len(epoch) <= 32 and set(epoch) <= set(_HEX)):
        return None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        return None
    position = int(digits)
    return position if str(position) == digits and position < 2**63 else None


_HEX = "0123456789abcdef"


def _messages_in(chunk: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while chunk:
        assert chunk[0] == 0x81
        size, head = chunk[1], {126: 4, 127: 10}.get(chunk[1], 2)
        if head > 2:
            size = int.from_bytes(chunk[2:head], "big")
        found.append(json.loads(chunk[head : head + size].decode()))
        chunk = chunk[head + size :]
    return found


def _said(id: Any) -> Any:
    """Return an id as UTF-8 can say it: half a surrogate becomes a mark."""
    return id.encode(errors="replace").decode() if isinstance(id, str) else id
