"""Memory of a quiet connection, and a crowd on one worker.

Slope: resident memory between 1,000 and 5,000 connections, each subscribed and
having received 10 notifications, after 60 s of quiet. The systems of a run are
measured side by side: memory does not mind. Crowd: 15,000 connections.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness import (
    DELIVERY_TIMEOUT,
    FAILURES,
    Attempt,
    Bench,
    Scenario,
    faults_of,
    finish,
    one_line,
)
from load import Load
from processes import Server, rss_bytes
from rivals.systems import SPARE_FILES
from support.files import raise_file_limit

__all__ = ["SCENARIOS"]

NOTIFICATIONS = 10


@dataclass
class _Candidate:
    """One system whose memory is looked at."""

    attempt: Attempt
    server: Server
    load: Load
    sizes: list[int]
    faults: list[str]


def measure_slope(bench: Bench) -> None:
    """Every system, side by side in each run."""
    for run in range(bench.runs):
        attempts = [
            Attempt(bench, system, run, ("memory",)) for system in bench.systems()
        ]
        try:
            _measure_slope_once(bench, attempts)
        finally:
            for attempt in attempts:
                attempt.end()


def _measure_slope_once(bench: Bench, attempts: list[Attempt]) -> None:
    few, many = bench.scale.memory
    candidates: list[_Candidate] = []

    def start(attempt: Attempt) -> None:
        server = attempt.start(clients=many)
        load = attempt.load(server, concurrency=64)
        candidates.append(_Candidate(attempt, server, load, [], []))

    _each(attempts, lambda attempt: attempt, start)
    for more, total in ((few, few), (many - few, many)):

        def connect(one: _Candidate, more: int = more, total: int = total) -> None:
            one.attempt.subscribe(one.load, more)
            one.load.expect(total * NOTIFICATIONS, NOTIFICATIONS, DELIVERY_TIMEOUT)

        _each(candidates, _attempt_of, connect)
        bench.publisher.paced(NOTIFICATIONS, 10)
        _each(candidates, _attempt_of, _finish)
        time.sleep(bench.scale.memory_idle)
        _each(candidates, _attempt_of, _look)
    for one in candidates:
        before, after = one.sizes
        one.attempt.record(
            "memory",
            {"connections": [few, many], "idle_seconds": bench.scale.memory_idle},
            {
                "bytes_per_connection": (after - before) / (many - few),
                "rss_few": before,
                "rss_many": after,
            },
            one.faults,
        )


def _attempt_of(one: _Candidate) -> Attempt:
    return one.attempt


def _finish(one: _Candidate) -> None:
    _, wrong = finish(one.load)
    one.faults += wrong


def _look(one: _Candidate) -> None:
    lost = one.load.report()["lost"]
    if lost:
        one.faults.append(f"{lost:,} connections lost while quiet")
    one.sizes.append(rss_bytes(one.server.pids()))


def _each(
    items: list[Any], attempt_of: Callable[..., Attempt], do: Callable[..., object]
) -> None:
    """Do something with each; one that fails is recorded and left out."""
    for item in list(items):
        try:
            do(item)
        except FAILURES as exc:
            attempt_of(item).fail(one_line(exc))
            items.remove(item)


def measure_crowd(bench: Bench) -> None:
    """As many connections as one worker of pgbridge should carry."""
    clients = bench.scale.crowd
    for run, system in bench.rounds("pgbridge"):
        with bench.attempt(system, run, "crowd") as attempt:
            limit = raise_file_limit()
            if limit < clients + SPARE_FILES:
                raise OSError(
                    f"{clients + SPARE_FILES} open files are needed, {limit} allowed"
                )
            server = attempt.start(clients=clients)
            empty = rss_bytes(server.pids())
            load = attempt.load(server, sample=1)
            opened = attempt.subscribe(load, clients, timeout=300)
            load.expect(clients * NOTIFICATIONS, NOTIFICATIONS, DELIVERY_TIMEOUT)
            bench.publisher.paced(NOTIFICATIONS, 2)
            done = load.done()
            time.sleep(bench.scale.memory_idle / 4)
            attempt.record(
                "crowd",
                {"connections": clients},
                {
                    "subscribed_seconds": opened["subscribed_seconds"],
                    "bytes_per_connection": (rss_bytes(server.pids()) - empty)
                    / clients,
                    "latency_p50": done["latency"].get("p50"),
                    "latency_p99": done["latency"].get("p99"),
                    "latency_max": done["latency"].get("max"),
                },
                faults_of(done, load.report()),
            )


SCENARIOS = (
    Scenario("memory", measure_slope),
    Scenario("crowd", measure_crowd),
)
