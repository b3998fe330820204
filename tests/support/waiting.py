"""Wait for something to become true, instead of for some time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TIMEOUT = 20.0
"""Seconds; generous, since nothing waits longer than it must."""


def wait_until(predicate: Callable[[], T], timeout: float = TIMEOUT) -> T:
    """Call `predicate` until it is true; return what it returned."""
    until = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not true within {timeout} s: {predicate}")
        time.sleep(0.01)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
