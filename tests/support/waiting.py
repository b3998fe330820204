"""Wait for something to become true, instead of for some time."""

from __future__ import annotations

import itertools
import os
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


PORTS_EACH = 1500
"""Ports of each process that runs tests, below those that the kernel gives out:
it, or another process, would take one before it is used."""

_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw8").removeprefix("gw"))
_ports = itertools.cycle(
    range(10_000 + _process * PORTS_EACH, 10_000 + (_process + 1) * PORTS_EACH)
)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses now."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable")
