"""The frames one client sends: read, decoded and handed on, at a bounded rate.

An idle connection keeps no greenlet. A watcher of the event loop reads and
decodes what arrives; pings and pongs are handled there. Only for a message
a greenlet is spawned, which ends when it has handled what was decoded; while
it runs, and it may wait for the policy, the watcher is stopped: that is the
back-pressure.

The same holds back a client that sends too much. What it has sent beyond its
rate is left undecoded, and nothing more is read, until a timer says so: its
messages wait in its own socket. Nothing is lost, nothing is refused, and no
other client notices.

Invariants: at most one read waits undecoded; a turn of the event loop decodes
at most `FRAMES_PER_TURN`; a connection within its rate has no timer.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import gevent
from gevent.monkey import get_original

from bridge.clients.connection import Connection, ConnectionOptions
from bridge.clients.outlet import ClientSocket
from bridge.values.identity import Identity
from bridge.values.limits import Rate
from bridge.wire import frames

__all__ = ["FrameReader"]

READ_BYTES = 16 * 1024

FRAMES_PER_TURN = 50
"""About a millisecond: what comes from PostgreSQL does not wait for longer."""

MIN_PAUSE, MAX_PAUSE = 0.1, 1.0
"""Seconds: a timer for each message would cost more than the message; and
whether the client is still there is looked at after each pause."""

_NO_LIMIT = Rate(per_second=0, burst=0)

_RDHUP = getattr(select, "POLLRDHUP", 0)
"""The peer has ended its direction; Linux only."""

_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)

_poll = get_original("select", "poll")


class FrameReader(Connection):
    """A connection whose client sends WebSocket frames.

    (An object of its own would make an idle connection a tenth larger.)
    """

    __slots__ = ("_decoder", "_full_at", "_reading", "_silent")

    def __init__(
        self,
        options: ConnectionOptions,
        client: ClientSocket,
        identity: Identity | None,
        address: str,
    ) -> None:
        super().__init__(options, client, identity, address)
        self._reading = options.reading
        #: When its burst is whole again, see `Rate`.
        self._full_at = 0.0
        self._decoder = frames.Decoder(self._reading.max_message_bytes)
        #: Heartbeats since the peer was last heard.
        self._silent = 0

    @abstractmethod
    def _handle(self, event: frames.Event) -> None:
        """Handle what came; may block when it is a `Text`."""

    def _read(self, early: bytes = b"") -> None:
        self._take(*self._decode(early))

    @property
    def _is_read(self) -> bool:
        """Whether what the peer sends is read now; else it cannot be heard."""
        return not self._ended and bool(self._watcher.active)

    def _lift_limit(self) -> None:
        """Read on at once: only the peer's Close is waited for now."""
        self._reading = replace(self._reading, rate=_NO_LIMIT)
        if self in self._reading.pauses:
            self._begin_pause(0.0)

    def _stop_reading(self) -> None:
        self._end_pause()
        super()._stop_reading()

    # Called by the event loop: nothing in here may block.

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            data = None  # A TLS record with nothing for us in it.
        except OSError:
            data = b""
        if data == b"":
            self._end()
            return
        self._silent = 0
        # A read costs as much as a message, also one that completes no frame:
        # a client may send its bytes one by one.
        self._advance(data or b"", at_least=1)

    def _advance(self, data: bytes, at_least: int = 0) -> None:
        events, more = self._decode(data, at_least)
        if any(type(event) is frames.Text for event in events):
            self._watcher.stop()
            gevent.spawn_raw(self._take, events, more)
        else:
            self._take(events, more)

    def _resume(self) -> None:
        """A pause is over."""
        self._end_pause()
        self._advance(b"")

    def _resume_in_debt(self) -> None:
        """The same for a client that sends too much: is it still there?"""
        if _has_hung_up(self._socket):
            self._end()
        else:
            self._resume()

    # Called there or in the client's greenlet.

    def _decode(
        self, data: bytes, at_least: int = 0
    ) -> tuple[Sequence[frames.Event], bool]:
        """Decode as much as may be now, and tell whether more may be left.

        Args:
            at_least: what it costs if no frame is complete.
        """
        rate, now = self._reading.rate, time.monotonic()
        most = int(min(FRAMES_PER_TURN, rate.left(self._full_at, now)))
        events = self._decoder.feed(data, most)
        cost = max(self._decoder.frames, at_least)
        if cost:
            self._full_at = rate.spend(self._full_at, now, cost)
        return events, cost >= most

    def _take(self, events: Sequence[frames.Event], more: bool) -> None:
        """Handle what was decoded, then go on; blocks if there is a `Text`."""
        for event in events:
            self._handle(event)
        if self._ended:
            return
        if more:
            self._watcher.stop()
            rate = self._reading.rate
            self._begin_pause(rate.wait(self._full_at, time.monotonic()))
        elif not self._watcher.active:
            self._watcher.start(self._readable)

    def _begin_pause(self, wait: float) -> None:
        """Go on after `wait` seconds; 0: in the next turn of the event loop."""
        self._end_pause()
        resume = self._resume
        if wait:
            wait = min(MAX_PAUSE, max(MIN_PAUSE, wait))
            resume = self._resume_in_debt
            self._notice_death()
        timer = gevent.get_hub().loop.timer(wait)
        timer.start(resume, update=True)
        self._reading.pauses[self] = timer

    def _end_pause(self) -> None:
        timer = self._reading.pauses.pop(self, None)
        if timer is not None:
            timer.stop()
            timer.close()

    def _notice_death(self) -> None:
        """Have the kernel end a connection whose peer has vanished.

        Only what it sends would tell otherwise, and that is not read.
        """
        if _USER_TIMEOUT is not None:
            milliseconds = int(self._reading.dead_after * 1000)
            with contextlib.suppress(OSError):  # a Unix socket
                self._socket.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, milliseconds)


def _has_hung_up(client: ClientSocket) -> bool:
    """Tell whether the peer's end is there, behind what is not read yet."""
    poll = _poll()
    poll.register(client.fileno(), _RDHUP)
    return bool(poll.poll(0))
