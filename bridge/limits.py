"""How much one client, or one address, may ask for."""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass

__all__ = ["Addresses", "Bucket", "Rate", "address_group"]


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second, after a burst.

    Attributes:
        per_second: 0: no limit.
        burst: how many at once, after a quiet time.
    """

    per_second: float
    burst: int


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
