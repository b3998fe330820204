"""The requests of one address, handshakes among them, at a pace.

Whose a request is, is known when its head has been read; until its time has
come its greenlet waits, and its connection is not read. Others are on other
connections, also behind a proxy: one that keeps connections open opens a new
one while all of them wait.

Who calls this: the greenlets of HTTP connections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from gevent.event import Event

from bridge.values.limits import AddressRates, Rate

__all__ = ["Admission"]

MAX_WAIT = 10.0
"""Seconds; a request that would have to wait for longer is refused, or those
that wait would take all the room there is."""


class Admission:
    """Lets requests in.

    Args:
        rate: of one address.
        address_of: finds the client's address in a request's environ; "" when
            nobody said: such a request never waits.
    """

    def __init__(
        self, rate: Rate, address_of: Callable[[Mapping[str, Any]], str]
    ) -> None:
        self._rates = AddressRates(rate, MAX_WAIT) if rate.per_second else None
        self._address_of = address_of
        self._ended = Event()

    def wait(self, environ: Mapping[str, Any]) -> bool:
        """Wait for the request's time; False: it would be too long."""
        if self._rates is None:
            return True
        address = self._address_of(environ)
        if not address:
            return True
        seconds = self._rates.take(address, time.monotonic())
        if seconds is None:
            return False
        if seconds:
            self._ended.wait(seconds)
        return True

    def end(self) -> None:
        """A drain has begun: nobody waits any more."""
        self._ended.set()
