"""How long to wait before the next try: full jitter, twice as long each time."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["BackOff"]

MIN_BOUND, MAX_BOUND = 0.1, 10.0
"""Seconds: the wait is random below a bound that doubles."""

STABLE_AFTER = 1.0
"""Seconds after which a session was a good one."""


class BackOff:
    """Waits of one session that is tried for again and again.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bound = MIN_BOUND
        #: When the last session was there; None: since then it was lost.
        self._there_at: float | None = None

    def there(self) -> None:
        """The session is there."""
        self._there_at = self._clock()

    def delay(self) -> float:
        """Return the seconds to wait before the next try.

        Never 0: a server that accepts and fails at once would be hammered.
        The bound goes on growing while sessions do not last.
        """
        if self._there_at is not None and self._clock() - self._there_at > STABLE_AFTER:
            self._bound = MIN_BOUND
        self._there_at = None
        delay = MIN_BOUND / 2 + random.uniform(0, self._bound)
        self._bound = min(MAX_BOUND, self._bound * 2)
        return delay
