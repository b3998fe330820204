"""How much one client, or one address, may ask for."""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from dataclasses import dataclass

__all__ = ["AddressRates", "Addresses", "Bucket", "Rate", "address_group"]

_FEW_ADDRESSES = 1000
"""Up to so many need no looking through."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second, after a burst.

    What is left to one client is kept as one number: the moment at which the
    whole burst will be there again. A client that was quiet needs none: any
    moment that is over will do, 0 too.

    Attributes:
        per_second: 0: no limit.
        burst: how many at once, after a quiet time.
    """

    per_second: float
    burst: int

    def left(self, full_at: float, now: float) -> float:
        """Return how many may be had at once; below 1: none yet."""
        if not self.per_second:
            return math.inf
        return self.burst - max(0.0, full_at - now) * self.per_second

    def spend(self, full_at: float, now: float, count: int) -> float:
        """Take so many, also more than are left; returns the new `full_at`."""
        if not self.per_second:
            return full_at
        return max(full_at, now) + count / self.per_second

    def wait(self, full_at: float, now: float) -> float:
        """Return the seconds until there is one to take, or 0."""
        if not self.per_second:
            return 0.0
        return max(0.0, (1 - self.left(full_at, now)) / self.per_second)


class Bucket:
    """What is left of a `Rate` to one client (a token bucket)."""

    __slots__ = ("_at", "_left")

    def __init__(self, rate: Rate, now: float) -> None:
        self._left = float(rate.burst)
        self._at = now

    def take(self, rate: Rate, now: float) -> float:
        """Take one; returns 0, or the seconds until there is one to take."""
        if not rate.per_second:
            return 0.0
        grown = self._left + (now - self._at) * rate.per_second
        self._left = min(float(rate.burst), grown)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / rate.per_second
        self._left -= 1
        return 0.0


def address_group(address: str) -> str:
    """Return what counts as one client address: an IPv4, or an IPv6 network.

    A home or a machine has a whole /64, so its single addresses mean nothing.
    An IPv4 address mapped into IPv6 counts as the IPv4 one.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))


class Addresses:
    """Open connections by address.

    Args:
        maximum: for one address; 0: no limit, and nothing is counted.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._open: Counter[str] = Counter()

    def full(self, address: str) -> bool:
        """Whether another connection of this address must be refused.

        A client without an address (a Unix socket without the header) is
        never refused: all of them would be one.
        """
        if not self._maximum or not address:
            return False
        return self._open[address_group(address)] >= self._maximum

    def add(self, address: str) -> None:
        """A connection was opened."""
        if self._maximum and address:
            self._open[address_group(address)] += 1

    def remove(self, address: str) -> None:
        """A connection has ended."""
        if self._maximum and address:
            group = address_group(address)
            self._open[group] -= 1
            if not self._open[group]:
                del self._open[group]


class AddressRates:
    """What is left of a `Rate` to each address.

    Args:
        rate: of one address.
        max_wait: seconds; what would have to wait for longer is not taken.
    """

    def __init__(self, rate: Rate, max_wait: float) -> None:
        self._rate = rate
        self._max_wait = max_wait
        #: By address; one that is not here has the whole burst.
        self._full_at: dict[str, float] = {}
        #: With so many addresses those that have the whole burst are forgotten.
        self._look_at = _FEW_ADDRESSES

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, address: str, now: float) -> float | None:
        """Take one; returns the seconds until its time, None: it is not taken."""
        group = address_group(address)
        full_at = self._full_at.get(group, 0.0)
        wait = self._rate.wait(full_at, now)
        if wait > self._max_wait:
            return None
        self._full_at[group] = self._rate.spend(full_at, now, 1)
        if len(self._full_at) > self._look_at:
            self._forget(now)
        return wait

    def _forget(self, now: float) -> None:
        self._full_at = {
            group: full_at for group, full_at in self._full_at.items() if full_at > now
        }
        self._look_at = max(_FEW_ADDRESSES, 2 * len(self._full_at))
