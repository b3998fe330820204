"""Let gevent's loop run until something is true."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent

TIMEOUT = 10.0
"""Seconds; generous, since nothing waits longer than it must."""


def run_until(predicate: Callable[[], object], timeout: float = TIMEOUT) -> None:
    """Run the loop until `predicate` is true."""
    until = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < until, f"not true within {timeout} s: {predicate}"
        gevent.sleep(0.001)
