"""Which channels a session should listen to, and which it does.

Pure book-keeping: the listener asks what to do next and says what it did; the
clock is a callable. Nothing here is called while another call is under way.

Invariants: a channel is unknown, pending (wanted, its LISTEN not in force) or
listening. One that is given up is forgotten *before* its UNLISTEN is sent, so
that a client that asks for it meanwhile makes it pending again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import takewhile

__all__ = ["Demand"]


class Demand:
    """The channels of one listener.

    Args:
        delay: seconds from `release` until a channel is given up.
        clock: monotonic seconds.
    """

    def __init__(self, delay: float, clock: Callable[[], float]) -> None:
        self._delay = delay
        self._clock = clock
        self._pending: dict[str, None] = {}
        self._listening: dict[str, None] = {}
        #: When each channel without subscribers is given up, soonest first.
        self._leaving: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._pending) + len(self._listening)

    def add(self, channel: str) -> bool:
        """Want a channel; returns whether it is listened to already."""
        self._leaving.pop(channel, None)
        if channel in self._listening:
            return True
        self._pending[channel] = None
        return False

    def listens_to(self, channel: str) -> bool:
        """Tell whether a channel's LISTEN is in force, and wanted."""
        return channel in self._listening

    def release(self, channel: str) -> None:
        """Give a channel up after the delay, unless it is wanted again."""
        self._leaving.pop(channel, None)  # a new turn stands at the end
        self._leaving[channel] = self._clock() + self._delay

    def pending(self) -> list[str]:
        """Return the channels that need a LISTEN, in the order they came."""
        return list(self._pending)

    def in_force(self, channels: Iterable[str]) -> None:
        """The LISTENs of pending channels are in force."""
        for channel in channels:
            del self._pending[channel]
            self._listening[channel] = None

    def lost(self) -> list[str]:
        """The session is gone: every channel is pending. Returns them."""
        self._pending = {**self._listening, **self._pending}
        self._listening = {}
        return list(self._pending)

    def forget(self, channels: Iterable[str]) -> list[str]:
        """Drop channels; returns those that were listened to."""
        found = []
        for channel in channels:
            self._leaving.pop(channel, None)
            self._pending.pop(channel, None)
            if channel in self._listening:
                del self._listening[channel]
                found.append(channel)
        return found

    def overdue(self) -> list[str]:
        """Return the channels whose delay is over."""
        now = self._clock()
        return list(takewhile(lambda name: self._leaving[name] <= now, self._leaving))

    def next_due(self) -> float | None:
        """Return when the next channel's delay is over; None: there is none."""
        return next(iter(self._leaving.values()), None)
