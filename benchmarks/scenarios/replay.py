"""Resume: a client that was away for long, and a crowd that comes back.

The journal is filled before the worker starts, so that nothing is in its
memory: all of it is read from the table.
"""

from __future__ import annotations

import time
from pathlib import Path

from harness import DELIVERY_TIMEOUT, Attempt, Bench, Scenario, finish
from processes import Server, rss_bytes
from support.postgres import Database

from scenarios.durable import cursor_of, database, fill
from scenarios.fanout import rate

__all__ = ["SCENARIOS"]

CALM = 2.0
"""Seconds after the last event until memory is looked at again."""


def measure_one(bench: Bench) -> None:
    """One client, one channel."""
    count = bench.scale.replay
    for run, system in bench.rounds("pgbridge"):
        with (
            database(bench.url) as made,
            bench.attempt(system, run, "replay") as attempt,
        ):
            fill(made, count)
            server = _start(attempt, made, 1)
            values, faults = _resume(attempt, server, 1, count)
            attempt.record("replay", {"events": count}, values, faults)


def measure_crowd(bench: Bench) -> None:
    """Many clients at once, of one channel and of many."""
    clients, each = bench.scale.replay_clients, bench.scale.replay_events
    for channels in bench.scale.replay_channels:
        for run, system in bench.rounds("pgbridge"):
            with (
                database(bench.url) as made,
                bench.attempt(system, run, "replay_crowd") as attempt,
            ):
                fill(made, channels * each, channels)
                server = _start(attempt, made, clients)
                values, faults = _resume(attempt, server, clients, each, channels)
                attempt.record(
                    "replay_crowd",
                    {"clients": clients, "events": each, "channels": channels},
                    values,
                    faults,
                )


def _start(attempt: Attempt, made: Database, clients: int) -> Server:
    server = attempt.start(made.url, clients=clients)
    server.path += f"&cursor={cursor_of(made, 0)}"
    return server


def _resume(
    attempt: Attempt, server: Server, clients: int, each: int, channels: int = 1
) -> tuple[dict[str, float], list[str]]:
    """Have clients come at once, each with a cursor before `each` events."""
    pids = server.pids()
    load = attempt.load(server, channels=channels, sample=clients, concurrency=clients)
    before = rss_bytes(pids)
    _forget_peak(pids)
    load.expect(clients * each, each, 2 * DELIVERY_TIMEOUT)
    began = time.monotonic()
    attempt.subscribe(load, clients, DELIVERY_TIMEOUT)
    done, faults = finish(load)
    took = done["last"]["monotonic"] - began
    time.sleep(CALM)
    values = {
        "seconds": took,
        "per_second": rate(done["notifications"], took),
        "client_cpu_seconds": done["cpu_seconds"],
        "rss_before": before,
        "rss_peak": _peak_bytes(pids),
        "rss_after": rss_bytes(pids),
    }
    return values, faults


def _forget_peak(pids: list[int]) -> None:
    """Begin the peak of memory anew (proc(5), clear_refs)."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_bytes(pids: list[int]) -> int:
    """Return the most resident memory that the processes had."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) * 1024
    return total


SCENARIOS = (
    Scenario("replay", measure_one),
    Scenario("replay_crowd", measure_crowd),
)
