"""What a worker has done so far: plain numbers, counted where it happens.

Counting must cost nothing in the fan-out, so these are attributes of one
object for the whole process, and what they are called outside is the business
of `bridge.operations.metrics`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["COUNTERS", "Counters", "Histogram"]

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds: the upper ends of the histogram's buckets."""


class Histogram:
    """How often something took how long.

    Args:
        bounds: upper ends of the buckets, seconds; there is one more.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


@dataclass
class Counters:
    """Totals since the worker started.

    Attributes:
        opened, closed: client connections.
        notifications: what came from PostgreSQL, by source.
        deliveries: notifications written to a client's socket, or kept for it.
        delivered_bytes: of those.
        gaps, interruptions: told to clients, by reason.
        strays: notifications that went past the journal.
        reconnects: sessions on PostgreSQL that were lost, by part.
        refused_checks: questions to the policy that were answered
            `unavailable`.
        blocked: times that something held the event loop up.
        latency: of durable events, from publish to socket.
    """

    opened: int = 0
    closed: int = 0
    notifications: Counter[str] = field(default_factory=Counter)
    deliveries: int = 0
    delivered_bytes: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    interruptions: Counter[str] = field(default_factory=Counter)
    strays: int = 0
    reconnects: Counter[str] = field(default_factory=Counter)
    refused_checks: int = 0
    blocked: int = 0
    latency: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS))


COUNTERS = Counters()
"""Of this process."""
