"""A feed with its journal's reader, a clock and subscribers, for its tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.core.entries import Entry, Need, Page
from bridge.core.feed import Feed
from bridge.core.subscription import Place, State, Subscription
from bridge.values.cursor import Cursor
from bridge.values.message import Batch, Gap
from bridge.wire import native
from unit.doubles import SlowOutlet, Time

MANY = 200
"""Subscriptions of a fan-out that is long enough to pause."""


class Guest:
    """A subscription of the journal, and what it was told."""

    def __init__(self, feed: Feed, channel: str, codec: Any, **options: Any) -> None:
        self.outlet = SlowOutlet()
        self.subscription = Subscription(
            channel, codec=codec, outlet=self.outlet, **options
        )
        self._feed = feed

    def leave(self) -> None:
        self.subscription.end()
        self._feed.unsubscribe(self.subscription)

    def told(self) -> list[dict[str, Any]]:
        """Return what it was told since the last call."""
        return self.outlet.take()

    @property
    def live(self) -> bool:
        live = self.subscription.place is Place.LIVE
        return live and self._feed.state is State.LIVE


class House:
    """A feed with its journal's reader, a clock and subscribers.

    Args:
        position: the journal's end when it is opened; None: it is not yet.
    """

    def __init__(
        self, position: int | None = 5, *, floor: int = 0, recent: int = 1_000_000
    ) -> None:
        self.time = Time()
        self.wakes = 0
        self.feed = Feed(
            self.time.fan_out(),
            max_recent_bytes=recent,
            # Its own number for each, to tell who was counted.
            reload_window=lambda told: told / 10,
            wake=self._wake,
        )
        #: Batches for those who do not follow the journal.
        self.others: list[Batch] = []
        if position is not None:
            self.feed.opened("e1", floor, position)
            self.wakes = 0

    def _wake(self) -> None:
        self.wakes += 1

    def new(
        self,
        cursor: int | None = None,
        *,
        channel: str = "a",
        epoch: str = "e1",
        **more: Any,
    ) -> Guest:
        """Subscribe somebody; what it is told at once is kept."""
        given = None if cursor is None else Cursor(epoch, cursor)
        guest = Guest(
            self.feed, channel, more.pop("codec", native), cursor=given, **more
        )
        self.feed.subscribe(guest.subscription)
        return guest

    def live(self, channel: str = "a") -> Guest:
        """Subscribe somebody, and forget what it was told."""
        guest = self.new(channel=channel)
        guest.told()
        return guest

    def slow(self, channel: str = "a") -> Guest:
        """Subscribe somebody whose socket takes nothing any more."""
        guest = self.live(channel)
        guest.outlet.stuck = True
        return guest

    def publish(self, *payloads: str | Gap | None, channel: str = "a") -> None:
        """Let the tail bring so many entries."""
        self.bring(*((channel, payload) for payload in payloads))

    def bring(self, *entries: tuple[str, str | Gap | None]) -> None:
        first = self.feed.position + 1
        numbered = [
            Entry(position, channel, payload)
            for position, (channel, payload) in enumerate(entries, first)
        ]
        self.feed.advance(numbered, first + len(entries) - 1, self.others.append)

    def page(
        self,
        need: Need | None,
        entries: Sequence[tuple[int, str | Gap]] = (),
        **changes: Any,
    ) -> None:
        """Answer a need; by default with all that there is."""
        assert need is not None
        values: dict[str, Any] = {
            "upto": need.upto,
            "epoch": self.feed.epoch,
            "floor": self.feed.floor,
            "newest": self.feed.position,
        }
        self.feed.replayed(need, Page(entries, **{**values, **changes}))


def subscribed(
    cursor: str, channel: str = "a", resumed: bool = False
) -> dict[str, Any]:
    return {
        "type": "subscribed",
        "channel": channel,
        "durable": True,
        "resumed": resumed,
        "cursor": cursor,
    }


def resumed(cursor: str) -> dict[str, Any]:
    return subscribed(cursor, resumed=True)


def entry(position: int, text: str, channel: str = "a") -> dict[str, Any]:
    return {
        "type": "notification",
        "channel": channel,
        "cursor": f"e1-{position}",
        "text": text,
    }


def gap(
    reason: str, cursor: str, channel: str = "a", reload_window: float = 0.1
) -> dict[str, Any]:
    return {
        "type": "gap",
        "channel": channel,
        "reason": reason,
        "reload_window": reload_window,
        "cursor": cursor,
    }


def interrupted(channel: str = "a") -> dict[str, Any]:
    return {"type": "interrupted", "channel": channel, "reason": "journal_lost"}


def restored(channel: str = "a") -> dict[str, Any]:
    return {"type": "restored", "channel": channel}
