"""Latency on an idle system: one subscriber, one notification at a time.

From the moment when the writer's commit has returned, and from the moment
before it was sent, to the moment when the subscriber's read returned. Beside
it a loop of 20 lines that prints. PostgreSQL signals its listeners before it
answers the writer, so the first may be below zero.
"""

from __future__ import annotations

import statistics
import time

from harness import Attempt, Bench, Scenario, finish
from load import PREFIX
from rivals.systems import SelectLoop

__all__ = ["SCENARIOS"]

PAUSE = 0.01
"""Seconds between two notifications."""


def measure(bench: Bench) -> None:
    """Every system, and the loop."""
    for run in range(bench.runs):
        contestants = [SelectLoop, *bench.systems()]
        turn = run % len(contestants)
        for contestant in contestants[turn:] + contestants[:turn]:
            with bench.attempt(contestant, run, "idle") as attempt:
                if contestant is SelectLoop:
                    _measure_loop(bench, attempt)
                else:
                    _measure_system(bench, attempt)


def _measure_system(bench: Bench, attempt: Attempt) -> None:
    load = attempt.load(attempt.start(clients=1), sample=1)
    attempt.subscribe(load, 1)
    attempt.warm_up(load, 1)
    count = bench.scale.idle
    load.expect(count, count, count * 0.1 + 30)
    committed = _publish(bench, count)
    _, faults = finish(load)
    samples = load.samples()
    sent = {n: published for n, published, _ in samples}
    received = {n: at for n, _, at in samples}
    _record(attempt, sent, committed, received, faults)


def _measure_loop(bench: Bench, attempt: Attempt) -> None:
    loop = SelectLoop(bench.url, f"{PREFIX}0")
    try:
        count = bench.scale.idle
        _publish(bench, count // 10)
        loop.read(count // 10)
        sent: dict[int, float] = {}
        committed = _publish(bench, count, sent)
        received = dict(loop.read(count))
    finally:
        loop.end()
    _record(attempt, sent, committed, received, [])


def _publish(
    bench: Bench, count: int, sent: dict[int, float] | None = None
) -> dict[int, float]:
    """Commit one at a time; returns when each commit had returned."""
    committed = {}
    for n in range(count):
        if sent is not None:
            sent[n] = time.monotonic()
        bench.publisher.publish(n)
        committed[n] = time.monotonic()
        time.sleep(PAUSE)
    return committed


def _record(
    attempt: Attempt,
    sent: dict[int, float],
    committed: dict[int, float],
    received: dict[int, float],
    faults: list[str],
) -> None:
    after_commit = [received[n] - committed[n] for n in received]
    whole = [received[n] - sent[n] for n in received]
    attempt.record(
        "idle",
        {"notifications": len(committed)},
        {
            "commit_p50": statistics.median(after_commit),
            "commit_p99": _p99(after_commit),
            "publish_p50": statistics.median(whole),
            "publish_p99": _p99(whole),
        },
        faults,
    )


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


SCENARIOS = (Scenario("idle", measure),)
