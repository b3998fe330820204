"""The newest entries of the journal, kept in memory within a bound.

Clients come back in crowds, after a deploy or a lost network, and most of them
were away for seconds: what they missed is here, read and decoded once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from operator import itemgetter
from sys import getsizeof

from bridge.values.message import Gap

__all__ = ["Recent"]

_ENTRY_BYTES = 150
"""What an entry takes beside its payload: objects, a place in two deques."""

Payload = str | Gap


class _Channel:
    """What is kept of one channel."""

    __slots__ = ("entries", "unknown_until")

    def __init__(self) -> None:
        self.entries: deque[tuple[int, Payload]] = deque()
        #: The last position whose payload was not read; 0: all are here.
        self.unknown_until = 0


class Recent:
    """Entries after `begin`, of all channels.

    Args:
        max_bytes: of payloads, and what it takes to keep them.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._channels: dict[str, _Channel] = {}
        #: Position, channel and size of each entry, oldest first.
        self._order: deque[tuple[int, str, int]] = deque()
        self.bytes = 0
        #: Entries up to this position are gone.
        self.begin = 0
        #: The last entry that was added.
        self._end = 0

    def start(self, position: int) -> None:
        """Forget everything; what comes next is after `position`."""
        self._end = position
        self.forget()

    def forget(self) -> None:
        """Forget what was added so far."""
        self._channels.clear()
        self._order.clear()
        self.bytes = 0
        self.begin = self._end

    def add(self, position: int, channel: str, payload: Payload | None) -> None:
        """Take the next entry.

        Args:
            payload: None: nobody here wanted it when it was read.
        """
        self._end = position
        kept = self._channels.get(channel)
        if kept is None:
            kept = self._channels[channel] = _Channel()
        size = _ENTRY_BYTES
        if payload is None:
            kept.unknown_until = position
        else:
            kept.entries.append((position, payload))
            if type(payload) is str:
                size += getsizeof(payload)
        self._order.append((position, channel, size))
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._forget_oldest()

    def covers(self, channel: str, position: int) -> bool:
        """Tell whether all of a channel's entries after a position are here."""
        kept = self._channels.get(channel)
        return position >= self.begin and (
            kept is None or position >= kept.unknown_until
        )

    def after(self, channel: str, position: int) -> list[tuple[int, Payload]] | None:
        """Return the channel's entries after a position, oldest first.

        Returns:
            None when they are not all here.
        """
        if not self.covers(channel, position):
            return None
        kept = self._channels.get(channel)
        found = [] if kept is None else list(kept.entries)
        return found[bisect_right(found, position, key=itemgetter(0)) :]

    def _forget_oldest(self) -> None:
        position, channel, size = self._order.popleft()
        self.bytes -= size
        self.begin = position
        kept = self._channels[channel]
        if kept.entries and kept.entries[0][0] == position:
            kept.entries.popleft()
        if not kept.entries and kept.unknown_until <= position:
            del self._channels[channel]
