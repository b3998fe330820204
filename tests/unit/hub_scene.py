"""A hub with its subscribers, for its tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.core.hub import Hub
from bridge.core.subscription import State, Subscription
from bridge.values.message import Batch
from bridge.wire import native
from unit.doubles import (
    Demand,
    SlowOutlet,
    Time,
    durable_hub,
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


def keeping(state: State = State.LIVE, **options: Any) -> House:
    """A house with a journal, whose position is 5."""
    return House(state, durable_hub, **options)


def slow_gap(channel: str = "kept") -> dict[str, Any]:
    return {"type": "gap", "channel": channel, "reason": "slow", "reload_window": 1.0}
