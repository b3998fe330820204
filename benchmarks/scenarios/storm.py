"""A storm of handshakes, and how evenly the workers share connections."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness import Bench, Scenario
from processes import cpu_seconds, socket_count

__all__ = ["SCENARIOS"]

CONCURRENCY = 256
"""Handshakes under way at a time."""

SETTLE_TIMEOUT = 10.0
"""Seconds that the workers have to finish their start."""


def measure_storm(bench: Bench) -> None:
    """Handshakes a second, every system, one worker."""
    clients = bench.scale.storm
    for run, system in bench.rounds():
        with bench.attempt(system, run, "storm") as attempt:
            server = attempt.start(clients=clients)
            load = attempt.load(server, concurrency=CONCURRENCY)
            cpu = cpu_seconds(server.pids())
            opened = attempt.subscribe(load, clients)
            attempt.record(
                "storm",
                {"handshakes": clients, "concurrency": CONCURRENCY},
                {
                    "per_second": clients / opened["upgraded_seconds"],
                    "subscribed_per_second": clients / opened["subscribed_seconds"],
                    "handshake_p50": opened["handshake"]["p50"],
                    "handshake_p99": opened["handshake"]["p99"],
                    "cpu_seconds": cpu_seconds(server.pids()) - cpu,
                },
            )


def measure_spread(bench: Bench) -> None:
    """Connections of the fullest worker over those of the emptiest."""
    workers, clients = bench.scale.spread_workers, bench.scale.spread
    for concurrency in (1, CONCURRENCY):
        for run, system in bench.rounds("pgbridge", "naive"):
            with bench.attempt(system, run, "spread") as attempt:
                server = attempt.start(clients=clients, workers=workers)
                pids = _settled(server.pids, workers)
                before = [socket_count(pid) for pid in pids]
                load = attempt.load(server, concurrency=concurrency)
                attempt.subscribe(load, clients)
                counts = [
                    socket_count(pid) - already
                    for pid, already in zip(pids, before, strict=True)
                ]
                attempt.record(
                    "spread",
                    {"connections": clients, "concurrency": concurrency},
                    {"counts": counts, "ratio": max(counts) / max(1, min(counts))},
                )


def _settled(pids_of: Callable[[], list[int]], count: int) -> list[int]:
    """Wait until all workers are there and have nothing to do."""
    until = time.monotonic() + SETTLE_TIMEOUT
    spent = -1.0
    while time.monotonic() < until:
        pids = pids_of()
        now = cpu_seconds(pids)
        if len(pids) == count and now == spent:
            return pids
        spent = now
        time.sleep(0.3)
    raise AssertionError(f"{count} workers did not come to rest")


SCENARIOS = (
    Scenario("storm", measure_storm),
    Scenario("spread", measure_spread),
)
