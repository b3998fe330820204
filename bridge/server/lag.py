"""How late the worker's event loop is, and who holds it up.

One loop serves every client of a worker, so whatever blocks in it stops
everybody. A timer that should fire at a known moment shows how late the loop
is. A signal that comes when it did not fire for too long interrupts whoever
blocks, and its stack goes to the log.

Who calls this: the worker, in its main thread.
"""

from __future__ import annotations

import logging
import signal
import time
import traceback
from types import FrameType
from typing import Any

import gevent

from bridge.values.counters import COUNTERS

__all__ = ["LagWatch"]

log = logging.getLogger(__name__)

INTERVAL = 0.25
"""Seconds between two looks."""

BLOCKED_AFTER = 1.0
"""Seconds without a turn after which the log says who blocks."""

MAX_FRAMES = 15


class LagWatch:
    """Watches the event loop of this process.

    Attributes:
        seconds: how late the loop was at the last look.
        worst: the most since `take_worst` was called.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.worst = 0.0
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def start(self) -> None:
        """Start watching."""
        signal.signal(signal.SIGALRM, self._blocked)
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Stop watching."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            signal.setitimer(signal.ITIMER_REAL, 0)

    def take_worst(self) -> float:
        """Return how late the loop was at most since the last call."""
        worst, self.worst = self.worst, self.seconds
        return worst

    def _run(self) -> None:
        while True:
            signal.setitimer(signal.ITIMER_REAL, INTERVAL + BLOCKED_AFTER)
            due = time.monotonic() + INTERVAL
            gevent.sleep(INTERVAL)
            self.seconds = max(0.0, time.monotonic() - due)
            self.worst = max(self.worst, self.seconds)

    def _blocked(self, number: int, frame: FrameType | None) -> Any:
        """Called in the middle of whatever blocks: Python code, or after it."""
        COUNTERS.blocked += 1
        stack = traceback.format_stack(frame)[-MAX_FRAMES:]
        log.warning(
            "the event loop stands still for more than %g s, and every client with "
            "it; it is here:\n%s",
            BLOCKED_AFTER,
            "".join(stack).rstrip(),
            extra={"action": "loop_blocked"},
        )
