"""How fast committed events get their positions: bridge.step() alone.

One session publishes and one steps, in turn; nobody serves. Only the steps
are timed. Then the same while a transaction that has published stays open,
and another one holds an old snapshot, as a dump does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

from harness import Bench, Scenario
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from support.postgres import Database

from scenarios.durable import BATCH, REAL, database, postgres, publish, step

__all__ = ["SCENARIOS"]

HELD_BATCH = 100
"""Events of one step while old transactions are open."""


def measure_speed(bench: Bench) -> None:
    """Step after each batch; then once, after nobody has for long."""
    if not bench.systems("pgbridge"):
        return
    count = bench.scale.sequenced
    with postgres(**REAL) as server:
        for run, system in bench.rounds("pgbridge"):
            with (
                database(server.url) as made,
                bench.attempt(system, run, "sequencing") as attempt,
                ExitStack() as stack,
            ):
                writer, stepper = (_session(made, stack) for _ in range(2))
                took = [
                    _timed(writer, stepper, first, BATCH)
                    for first in range(0, count, BATCH)
                ]
                backlog = _backlog(writer, stepper, count)
                attempt.record(
                    "sequencing",
                    {"events": count, "batch": BATCH},
                    {
                        "per_second": len(took) * BATCH / sum(took),
                        "step_p50": statistics.median(took),
                        "step_p99": _p99(took),
                        "backlog_per_second": count / backlog,
                    },
                    _positions(made, len(took) * BATCH + count),
                )


def _backlog(writer: Any, stepper: Any, count: int) -> float:
    """Publish in batches, then step once; returns its seconds."""
    for first in range(0, count, BATCH):
        publish(writer, first, min(BATCH, count - first))
    began = time.monotonic()
    _expect(step(stepper), count)
    return time.monotonic() - began


def measure_held(bench: Bench) -> None:
    """While one transaction has published and stays open, one reads for long."""
    with postgres(**REAL) as server:
        for run, system in bench.rounds("pgbridge"):
            with (
                database(server.url) as made,
                bench.attempt(system, run, "held") as attempt,
                ExitStack() as stack,
            ):
                writer, stepper = (_session(made, stack) for _ in range(2))
                before = _steps(writer, stepper, bench.scale.held_events // 10)
                held = _hold(made, stack)
                took = _steps(writer, stepper, bench.scale.held_events)
                for connection in held:
                    connection.commit()
                _expect(step(stepper), 1)
                quarter = len(took) // 4
                first, last = took[:quarter], took[-quarter:]
                attempt.record(
                    "held",
                    {"events": bench.scale.held_events, "batch": HELD_BATCH},
                    {
                        "before_p50": statistics.median(before),
                        "before_p99": _p99(before),
                        "step_p50": statistics.median(took),
                        "step_p99": _p99(took),
                        "step_max": max(took),
                        "first_p50": statistics.median(first),
                        "first_p99": _p99(first),
                        "last_p50": statistics.median(last),
                        "last_p99": _p99(last),
                        "last_first": statistics.median(last)
                        / statistics.median(first),
                    },
                    _positions(made, (len(before) + len(took)) * HELD_BATCH + 1),
                )


def _hold(made: Database, stack: ExitStack) -> list[Any]:
    """Begin a transaction that has published, and one with a snapshot."""
    writer, reader = (
        stack.enter_context(closing(made.connect(autocommit=False))) for _ in range(2)
    )
    writer.cursor().execute("SELECT bridge.publish('bench_0', 'open for long')")
    reader.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ)
    reader.cursor().execute("SELECT count(*) FROM bridge.tick")
    return [writer, reader]


def _steps(writer: Any, stepper: Any, count: int) -> list[float]:
    """Publish and step in turn; returns the seconds of each step."""
    return [
        _timed(writer, stepper, first, HELD_BATCH)
        for first in range(0, count, HELD_BATCH)
    ]


def _timed(writer: Any, stepper: Any, first: int, count: int) -> float:
    publish(writer, first, count)
    began = time.monotonic()
    steps = step(stepper)
    took = time.monotonic() - began
    _expect(steps, count)
    return took


def _expect(steps: int, count: int) -> None:
    if steps != count:
        raise AssertionError(f"a step gave {steps:,} positions, not {count:,}")


def _session(made: Database, stack: ExitStack) -> Any:
    return stack.enter_context(closing(made.connect())).cursor()


def _positions(made: Database, count: int) -> list[str]:
    """Say what is wrong with the journal: it should have 1, 2, 3 … once each."""
    query = (
        "SELECT count(*), min(pos), max(pos), count(DISTINCT id) FROM bridge.journal"
    )
    [found] = made.execute(query)
    return [] if found == (count, 1, count, count) else [f"positions: {found}"]


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


SCENARIOS = (
    Scenario("sequencing", measure_speed),
    Scenario("held", measure_held),
)
