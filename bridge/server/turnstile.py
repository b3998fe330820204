"""One request a turn of the event loop, after everything else of that turn.

A request costs as much as writing to a hundred subscribers. When many come at
once the loop would handle all of them before it looks at PostgreSQL again, and
every subscriber would wait for a crowd at the door.

Who calls this: the greenlets of HTTP connections.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import gevent
from gevent.hub import Waiter

__all__ = ["Turnstile"]


_LAST = -2
"""libev's EV_MINPRI."""


class Turnstile:
    """Lets those who wait pass in the order they came, one a turn."""

    def __init__(self) -> None:
        self._waiting: deque[Waiter[None]] = deque()
        loop = gevent.get_hub().loop
        # Due at once: it fires in the next turn, behind all with more priority.
        self._timer: Any = loop.timer(0, priority=_LAST)

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> None:
        """Wait for a turn; an exception thrown meanwhile gives the place up."""
        waiter: Waiter[None] = Waiter()
        self._waiting.append(waiter)
        self._start()
        try:
            waiter.get()
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            raise

    def _start(self) -> None:
        if self._waiting and not self._timer.active:
            self._timer.start(self._next)

    def _next(self) -> None:
        if self._waiting:
            self._waiting.popleft().switch(None)
        self._start()
