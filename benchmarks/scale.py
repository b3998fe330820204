"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Scale"]


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        subscribers: of the fan-out scenarios.
        burst: commits as fast as one session can.
        rate, paced_seconds: commits a second, and for how long.
        idle: notifications one at a time, a pause between two.
        memory: connections before and after; the slope is between them.
        memory_idle: seconds of quiet before each look.
        crowd: connections on one worker.
        channels: with a subscriber each.
        random_deliveries: to one of those channels at a time.
        storm: handshakes.
        spread: connections over the workers.
        matrix_channels, payloads: the matrix; bytes.
        hostile_seconds: with hostile clients, and as many before them.
        burst_bytes: per subscriber in the matrix; below a backlog.
        writers_seconds, writers_clients: of pgbench.
        listening_workers: that listen meanwhile.
        bulk_rows: of one INSERT.
        durable_idle: durable events, one at a time.
        durable_rate, durable_seconds: events a second, and for how long.
        settle_seconds, rest_seconds: of quiet, before it is looked at, and
            while.
        sequenced: events that get their positions.
        held_events: the same while old transactions are open.
        replay: events that one client resumes.
        replay_clients, replay_events: clients, and what each resumes.
        replay_channels: over which they are.
    """

    subscribers: int = 1000
    burst: int = 500
    rate: int = 50
    paced_seconds: float = 5.0
    idle: int = 300
    memory: tuple[int, int] = (1000, 5000)
    memory_idle: float = 60.0
    crowd: int = 15_000
    channels: int = 10_000
    random_deliveries: int = 500
    storm: int = 5000
    spread: int = 2000
    spread_workers: int = 4
    matrix_channels: tuple[int, ...] = (1, 10, 100, 1000)
    payloads: tuple[int, ...] = (100, 2000, 7900)
    hostile_seconds: int = 10
    burst_bytes: int = 1_000_000
    writers_seconds: int = 4
    writers_clients: tuple[int, ...] = (8, 16)
    listening_workers: tuple[int, ...] = (1, 4, 16)
    bulk_rows: int = 100_000
    durable_idle: int = 200
    durable_rate: int = 1000
    durable_seconds: float = 5.0
    settle_seconds: float = 20.0
    rest_seconds: float = 10.0
    sequenced: int = 200_000
    held_events: int = 500_000
    replay: int = 100_000
    replay_clients: int = 1000
    replay_events: int = 1000
    replay_channels: tuple[int, ...] = (1, 100)


FULL = Scale()
QUICK = Scale(
    subscribers=200,
    burst=200,
    paced_seconds=1.0,
    idle=50,
    memory=(200, 1000),
    memory_idle=2.0,
    crowd=1500,
    channels=1000,
    random_deliveries=50,
    storm=500,
    spread=400,
    matrix_channels=(1, 100),
    payloads=(100, 7900),
    hostile_seconds=2,
    writers_seconds=1,
    writers_clients=(8,),
    listening_workers=(1, 2),
    bulk_rows=5000,
    durable_idle=20,
    durable_seconds=1.0,
    settle_seconds=3.0,
    rest_seconds=2.0,
    sequenced=10_000,
    held_events=10_000,
    replay=5000,
    replay_clients=100,
    replay_events=100,
    replay_channels=(1, 10),
)
"""Shows in some three minutes that everything runs; its figures mean little."""
