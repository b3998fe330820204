"""Durable events: how late they are, and what the journal does at rest.

Idle: one event at a time, after the sequencer has fallen asleep. Steady:
1,000 a second from four sessions. At rest: what PostgreSQL logs and writes
while nobody publishes.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

from harness import Bench, Publisher, Scenario, faults_of, finish
from support.postgres import Cluster, Database

from scenarios.durable import database, postgres

__all__ = ["SCENARIOS"]

PAUSE = (0.09, 0.13)
"""Seconds between two events; the sequencer falls asleep after 15 ms."""

WRITERS = 4

SEED = 1

LOGGED = ("LOG:  statement: ", "LOG:  execute ")
"""What PostgreSQL writes for a statement; psycopg2 sends the first kind."""


def measure_idle(bench: Bench) -> None:
    """One subscriber, one event at a time."""
    count = bench.scale.durable_idle
    for run, system in bench.rounds("pgbridge"):
        with (
            database(bench.url) as made,
            bench.attempt(system, run, "durable_idle") as attempt,
            closing(Publisher(made.url, "bridge.publish")) as publisher,
        ):
            load = attempt.load(attempt.start(made.url, clients=1), sample=1)
            attempt.subscribe(load, 1)
            _publish_slowly(publisher, max(5, count // 10), run)
            load.expect(count, count, count * 0.2 + 30)
            committed = _publish_slowly(publisher, count, run)
            _, faults = finish(load)
            samples = load.samples()
            after = [received - committed[n] for n, _, received in samples]
            whole = [received - published for _, published, received in samples]
            attempt.record(
                "durable_idle",
                {"events": count},
                {
                    "commit_p50": statistics.median(after),
                    "commit_p99": _p99(after),
                    "publish_p50": statistics.median(whole),
                    "publish_p99": _p99(whole),
                },
                faults,
            )


def _publish_slowly(publisher: Publisher, count: int, run: int) -> list[float]:
    """Commit one at a time; returns when each commit had returned."""
    pauses = random.Random(SEED + run)
    committed = []
    for n in range(count):
        publisher.publish(n)
        committed.append(time.monotonic())
        time.sleep(pauses.uniform(*PAUSE))
    return committed


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def measure_steady(bench: Bench) -> None:
    """Several sessions; each has its channel, which has one subscriber."""
    rate, seconds = bench.scale.durable_rate, bench.scale.durable_seconds
    each = int(rate * seconds / WRITERS)
    for run, system in bench.rounds("pgbridge"):
        with (
            database(bench.url) as made,
            bench.attempt(system, run, "durable_steady") as attempt,
            ExitStack() as stack,
        ):
            publishers = [
                stack.enter_context(closing(Publisher(made.url, "bridge.publish")))
                for _ in range(WRITERS)
            ]
            server = attempt.start(made.url, clients=WRITERS, channels=WRITERS)
            load = attempt.load(server, channels=WRITERS, sample=1)
            attempt.subscribe(load, WRITERS)
            _publish_together(publishers, each // 10, rate / WRITERS)
            time.sleep(0.5)
            load.expect(WRITERS * each, each, seconds + 30)
            took = _publish_together(publishers, each, rate / WRITERS)
            done, faults = finish(load)
            attempt.record(
                "durable_steady",
                {"rate": rate, "events": WRITERS * each},
                {
                    "per_second": WRITERS * each / took,
                    "latency_p50": done["latency"].get("p50"),
                    "latency_p99": done["latency"].get("p99"),
                    "latency_max": done["latency"].get("max"),
                },
                faults,
            )


def _publish_together(publishers: list[Publisher], count: int, rate: float) -> float:
    """Commit `rate` a second in each session; returns the seconds."""
    began = time.monotonic()

    def run(channel: int) -> None:
        # One after the other, not all at the same moments.
        offset = channel / rate / len(publishers)
        for n in range(count):
            due = began + offset + n / rate
            time.sleep(max(0.0, due - time.monotonic()))
            publishers[channel].publish(n, channel)

    threads = [
        threading.Thread(target=run, args=(channel,), daemon=True)
        for channel in range(len(publishers))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


def measure_rest(bench: Bench) -> None:
    """One worker, one subscriber, and nobody publishes."""
    seconds = bench.scale.rest_seconds
    for run, system in bench.rounds("pgbridge"):
        with (
            postgres(autovacuum="off", log_statement="all") as server,
            database(server.url) as made,
            bench.attempt(system, run, "durable_rest") as attempt,
        ):
            load = attempt.load(attempt.start(made.url, clients=1))
            attempt.subscribe(load, 1)
            made.publish("bench_0", '{"n":0}')
            time.sleep(bench.scale.settle_seconds)
            before = _wal(made)
            log = _log(server)
            begin = log.stat().st_size
            time.sleep(seconds)
            statements = _statements(log, begin)
            told = load.report()
            attempt.record(
                "durable_rest",
                {"seconds": seconds},
                {
                    "statements_per_second": len(statements) / seconds,
                    "wal_bytes": _wal(made) - before,
                },
                faults_of(told, told),
            )


def _wal(made: Database) -> int:
    [(position,)] = made.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")
    return int(position)


def _log(server: Cluster) -> Path:
    return server.folder / "log"


def _statements(log: Path, begin: int) -> list[bytes]:
    """Return the statements that were logged after `begin`."""
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().splitlines()
    return [line for line in lines if any(mark.encode() in line for mark in LOGGED)]


SCENARIOS = (
    Scenario("durable_idle", measure_idle),
    Scenario("durable_steady", measure_steady),
    Scenario("durable_rest", measure_rest),
)
