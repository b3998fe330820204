"""Chunks to one socket, without blocking and in order.

A write goes straight to the kernel from the greenlet that publishes: no queue,
no switch, no copy. Only what the kernel does not take is kept, and written by
an event watcher when the socket can take more; a slow client costs a watcher
and a timer, and no greenlet.

Invariants: one writer at a time; a chunk that has begun is always finished;
what waits behind it is bounded by `max_backlog_bytes`, or is one chunk. When
that is full, notifications are dropped and their subscriptions' gaps stand
where the last of them stood. What nobody may drop does not fit either: the
client is too slow, and the outlet fails.

Who calls this: any greenlet, and the event loop. Nothing here blocks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import gevent

from bridge.core.subscription import Before, Subscription
from bridge.values.errors import CloseCode

__all__ = ["ClientSocket", "Outlet", "OutletOptions", "write_all"]

Send = Callable[[bytes | memoryview], int]

_WRITABLE = 2
"""libev's EV_WRITE."""

_MAX_CHUNKS_PER_TURN = 64
"""Chunks that one watcher call writes before other events get their turn."""


class ClientSocket(Protocol):
    """A connected stream socket in non-blocking mode."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Hand bytes to the kernel; BlockingIOError when it takes none.

        After a BlockingIOError the next bytes must be the same ones: TLS may
        have encrypted them already.
        """

    def recv(self, size: int, /) -> bytes:
        """Take what has arrived; BlockingIOError when there is nothing."""

    def fileno(self) -> int:
        """The file descriptor's number."""

    def setsockopt(self, level: int, name: int, value: int, /) -> None:
        """Set a socket option."""

    def shutdown(self, how: int, /) -> None:
        """End one direction."""

    def close(self) -> None:
        """Give the socket back."""


@dataclass(frozen=True, slots=True)
class OutletOptions:
    """What all outlets of a worker share.

    Attributes:
        max_backlog_bytes: what is kept for a client that does not keep up.
        write_timeout: seconds without a byte taken, after which it is given up.
    """

    max_backlog_bytes: int
    write_timeout: float


@dataclass(slots=True)
class _Entry:
    """A chunk of the backlog.

    Attributes:
        owner: whose notifications these are; None: must not be dropped.
        before: what the owner has without it.
    """

    chunk: bytes
    owner: Subscription | None
    before: Before


class _Backlog:
    """What waits for the socket; there is one only while something waits."""

    __slots__ = ("entries", "offset", "size", "timer", "watcher")

    def __init__(self, watcher: Any, timer: Any) -> None:
        self.entries: deque[_Entry] = deque()
        #: Bytes of the first entry, the head, that are written.
        self.offset = 0
        #: Bytes behind the head.
        self.size = 0
        self.watcher = watcher
        self.timer = timer

    def add(self, entry: _Entry) -> None:
        if self.entries:
            self.size += len(entry.chunk)
        self.entries.append(entry)

    def next(self) -> bool:
        """The head is written; returns whether there is another."""
        self.entries.popleft()
        self.offset = 0
        if not self.entries:
            return False
        self.size -= len(self.entries[0].chunk)
        return True

    def drop(self) -> None:
        """Drop every notification not begun; leave a gap for each owner."""
        # The head may be begun even when no byte of it is counted: TLS keeps
        # what it has encrypted, and takes nothing else before that.
        head = self.entries.popleft()
        before_each: dict[Subscription, list[Before]] = {}
        last: dict[Subscription, int] = {}
        for index, entry in enumerate(self.entries):
            if entry.owner is not None:
                before_each.setdefault(entry.owner, []).append(entry.before)
                last[entry.owner] = index
        kept: list[_Entry] = []
        for index, entry in enumerate(self.entries):
            owner = entry.owner
            if owner is None:
                kept.append(entry)
            elif last[owner] == index and owner.active:
                gap = owner.dropped(before_each[owner])
                if gap:
                    kept.append(_Entry(gap, owner, before_each[owner][0]))
        self.entries = deque([head, *kept])
        self.size = sum(len(entry.chunk) for entry in kept)

    def close(self) -> None:
        self.watcher.stop()
        self.watcher.close()
        self.timer.stop()
        self.timer.close()


def write_all(
    subscriptions: Sequence[Subscription], chunk: bytes, before: Before
) -> None:
    """Write a chunk of notifications to every subscription that follows.

    What `Outlet.write` does for one, without a call for each: the inner loop
    of the fan-out, where a call is a tenth of the time that is not the
    kernel's.
    """
    size = len(chunk)
    for subscription in subscriptions:
        if not subscription.follows:
            continue
        outlet = cast(Outlet, subscription.outlet)
        send = outlet.direct
        if send is None:
            outlet.write(chunk, subscription, before)
            continue
        try:
            sent = send(chunk)
        except OSError:
            # It finds the same out, and knows what to do.
            outlet.write(chunk, subscription, before)
            continue
        if sent != size:
            outlet.keep_rest(chunk, subscription, before, sent)


class Outlet:
    """The writing half of one client's socket.

    Args:
        failed: called once when the client cannot be written to any more: with
            a close code when it was too slow, None when it is gone.
    """

    __slots__ = (
        "_backlog",
        "_failed",
        "_options",
        "_send",
        "_socket",
        "_when_idle",
        "direct",
    )

    def __init__(
        self,
        client: ClientSocket,
        options: OutletOptions,
        failed: Callable[[CloseCode | None], None],
    ) -> None:
        self._socket = client
        #: None once nothing is to be written any more.
        self._send: Send | None = client.send
        #: The same while nothing waits, else None: for `write_all`.
        self.direct: Send | None = client.send
        self._options = options
        self._failed = failed
        self._backlog: _Backlog | None = None
        #: Called once when nothing waits any more; None: nobody asked.
        self._when_idle: list[Callable[[], None]] | None = None

    def write(
        self,
        chunk: bytes,
        owner: Subscription | None = None,
        before: Before = None,
    ) -> None:
        """Write a chunk of whole messages, now or later. Never raises."""
        send = self._send
        if send is None:
            return
        if self._backlog is None:
            try:
                sent = send(chunk)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._fail(None)
                return
            if sent < len(chunk):
                self.keep_rest(chunk, owner, before, sent)
            return
        self._keep(self._backlog, _Entry(chunk, owner, before))

    def keep_rest(
        self,
        chunk: bytes,
        owner: Subscription | None,
        before: Before,
        sent: int,
    ) -> None:
        """Keep what the kernel did not take of a chunk; nothing waited before."""
        loop = gevent.get_hub().loop
        watcher = loop.io(self._socket.fileno(), _WRITABLE)
        timeout = self._options.write_timeout
        timer = loop.timer(timeout, timeout)
        self._backlog = backlog = _Backlog(watcher, timer)
        self.direct = None
        backlog.add(_Entry(chunk, owner, before))
        backlog.offset = sent
        watcher.start(self._flush)
        timer.start(self._fail, CloseCode.SLOW, update=True)

    @property
    def idle(self) -> bool:
        """Whether all that was written is with the kernel."""
        return self._backlog is None

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call once, now or later, when all that was written is with the kernel."""
        if self._backlog is None:
            call()
        elif self._when_idle is None:
            self._when_idle = [call]
        else:
            self._when_idle.append(call)

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait for the socket."""
        backlog = self._backlog
        if backlog is None:
            return 0
        return len(backlog.entries[0].chunk) - backlog.offset + backlog.size

    def stop(self) -> None:
        """Write nothing more; what waits is forgotten. Safe to call twice."""
        self._send = self.direct = None
        if self._backlog is not None:
            self._backlog.close()
            self._backlog = None

    def _keep(self, backlog: _Backlog, entry: _Entry) -> None:
        room = self._options.max_backlog_bytes - len(entry.chunk)
        if backlog.size and backlog.size > room:
            backlog.drop()
            if entry.owner is not None and not entry.owner.follows:
                return  # It reads this again, with what was dropped.
            if backlog.size and backlog.size > room:
                if entry.owner is None:
                    self._fail(CloseCode.SLOW)
                    return
                # Dropped at once, as those before it: its owner's gap covers it.
                backlog.add(entry)
                backlog.drop()
                return
        backlog.add(entry)

    def _flush(self) -> None:
        """Write what waits; called by the event loop when the socket can take it."""
        backlog, send = self._backlog, self._send
        assert backlog is not None and send is not None  # `stop` stops the watcher
        try:
            for _ in range(_MAX_CHUNKS_PER_TURN):
                chunk = backlog.entries[0].chunk
                sent = send(memoryview(chunk)[backlog.offset :])
                backlog.timer.again(self._fail, CloseCode.SLOW)
                backlog.offset += sent
                if backlog.offset == len(chunk) and not backlog.next():
                    backlog.close()
                    self._backlog = None
                    self.direct = send
                    calls, self._when_idle = self._when_idle, None
                    for call in calls or ():
                        call()
                    return
        except BlockingIOError:
            pass
        except OSError:
            self._fail(None)

    def _fail(self, code: CloseCode | None) -> None:
        self.stop()
        self._failed(code)
