"""Fan-out: a burst, a steady pace, and the matrix of channels and payloads.

Burst: 500 commits from one session as fast as it can, 1,000 subscribers of one
channel. Paced: 50 commits a second. Both in the same server, burst first.
"""

from __future__ import annotations

import time

from harness import (
    AFTERWARDS,
    DELIVERY_TIMEOUT,
    Attempt,
    Bench,
    Scenario,
    faults_of,
    finish,
)
from load import Load
from processes import Server, cpu_seconds

__all__ = ["SCENARIOS"]

MATRIX_SYSTEMS = ("pgbridge", "naive", "bare_batch")


def measure_fanout(bench: Bench) -> None:
    """Burst and paced, every system."""
    clients = bench.scale.subscribers
    for run, system in bench.rounds():
        with bench.attempt(system, run, "burst", "paced") as attempt:
            server = attempt.start(clients=clients)
            load = attempt.load(server)
            attempt.subscribe(load, clients)
            attempt.warm_up(load, clients)
            _burst(bench, attempt, server, load)
            _paced(bench, attempt, server, load)


def _burst(bench: Bench, attempt: Attempt, server: Server, load: Load) -> None:
    clients, commits = bench.scale.subscribers, bench.scale.burst
    load.expect(clients * commits, commits, DELIVERY_TIMEOUT)
    cpu = cpu_seconds(server.pids())
    began = time.monotonic()
    publishing = bench.publisher.burst(commits)
    done, faults = finish(load)
    cpu = cpu_seconds(server.pids()) - cpu
    first, last = done["first"]["monotonic"], done["last"]["monotonic"]
    arrived = done["notifications"]
    attempt.record(
        "burst",
        {"subscribers": clients, "commits": commits},
        {
            "per_second": rate(arrived, last - began),
            "per_second_first_to_last": rate(arrived, last - first),
            "publishing_seconds": publishing,
            "seconds": last - began,
            "cpu_seconds": cpu,
            "client_cpu_seconds": done["cpu_seconds"],
            "client_reads": done["reads"],
        },
        faults,
    )


def _paced(bench: Bench, attempt: Attempt, server: Server, load: Load) -> None:
    scale = bench.scale
    commits = int(scale.rate * scale.paced_seconds)
    load.expect(scale.subscribers * commits, commits, scale.paced_seconds + 30)
    cpu = cpu_seconds(server.pids())
    bench.publisher.paced(commits, scale.rate)
    done = load.done()
    cpu = cpu_seconds(server.pids()) - cpu
    time.sleep(AFTERWARDS)
    faults = faults_of(done, load.report())
    attempt.record(
        "paced",
        {"subscribers": scale.subscribers, "commits": commits, "rate": scale.rate},
        {
            "cpu_seconds": cpu,
            "client_cpu_seconds": done["cpu_seconds"],
            "latency_p50": done["latency"].get("p50"),
            "latency_p99": done["latency"].get("p99"),
        },
        faults,
    )


def measure_matrix(bench: Bench) -> None:
    """Channels by payload: the same number of subscribers over all."""
    scale = bench.scale
    for channels in scale.matrix_channels:
        for run, system in bench.rounds(*MATRIX_SYSTEMS):
            with bench.attempt(system, run, "matrix") as attempt:
                clients = scale.subscribers
                channels = min(channels, clients)
                server = attempt.start(clients=clients, channels=channels)
                load = attempt.load(server, channels=channels)
                attempt.subscribe(load, clients)
                for size in scale.payloads:
                    _cell(bench, attempt, load, channels, size)


def _cell(bench: Bench, attempt: Attempt, load: Load, channels: int, size: int) -> None:
    scale = bench.scale
    each = max(2, min(scale.burst, scale.burst_bytes // size) // channels)
    commits = each * channels
    total = scale.subscribers * each
    load.expect(total, each, DELIVERY_TIMEOUT)
    began = time.monotonic()
    publishing = bench.publisher.burst(commits, channels, size)
    done, faults = finish(load)
    attempt.record(
        "matrix",
        {"channels": channels, "payload_bytes": size, "commits": commits},
        {
            "per_second": rate(
                done["notifications"], done["last"]["monotonic"] - began
            ),
            "commits_per_second": rate(commits, publishing),
            "latency_p50": done["latency"].get("p50"),
            "latency_p99": done["latency"].get("p99"),
        },
        faults,
    )


def rate(count: int, seconds: float) -> float:
    """Return how many a second; 0 when nothing came."""
    return count / seconds if count and seconds > 0 else 0.0


SCENARIOS = (
    Scenario("fanout", measure_fanout),
    Scenario("matrix", measure_matrix),
)
