"""Do something to the database again and again, while others work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg2

from bridge.values.errors import DatabaseError


class Repeatedly:
    """A thread, until `stop`.

    Args:
        do: may fail while the database is away.
        pause: seconds between two times.
    """

    def __init__(self, do: Callable[[], object], pause: float) -> None:
        self._do = do
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Let what has begun end. Safe to call twice."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            with suppress(psycopg2.Error, DatabaseError):
                self._do()
