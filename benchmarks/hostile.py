"""What a hostile crowd costs those who came to listen.

    python benchmarks/hostile.py [--quick] [--runs N]

100 subscribers receive 100 notifications a second; first in peace, then with
2,000 connections that send nothing, 200 that send garbage and 100 that open
and close as fast as they can. The crowd is a process of its own.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from harness import Attempt, Bench, Scenario, finish
from load import Load
from program import main
from support.crowd import Crowd
from support.gunicorn import Gunicorn

__all__ = ["SCENARIOS"]

PER_SECOND = 100
AUDIENCE = 100
SILENT, GARBAGE, HURRIED = 2000, 200, 100


def measure(bench: Bench) -> None:
    """In peace, then with the crowd at the door."""
    for run, system in bench.rounds("pgbridge"):
        with bench.attempt(system, run, "hostile") as attempt:
            server = attempt.start(clients=AUDIENCE)
            load = attempt.load(server, sample=1)
            attempt.subscribe(load, AUDIENCE)
            attempt.warm_up(load, AUDIENCE)
            peace, faults = _listen(bench, load)
            with _crowd(attempt, server.gunicorn, run) as crowd:
                hostile, more = _listen(bench, load)
                crowd.send("stop")
                connects = crowd.recv()
            attempt.record(
                "hostile",
                {"silent": SILENT, "garbage": GARBAGE, "hurried": HURRIED},
                {
                    "peace_p50": peace["p50"],
                    "peace_p99": peace["p99"],
                    "hostile_p50": hostile["p50"],
                    "hostile_p99": hostile["p99"],
                    "ratio_p50": hostile["p50"] / peace["p50"],
                    "ratio_p99": hostile["p99"] / peace["p99"],
                    "connects_per_second": connects / bench.scale.hostile_seconds,
                },
                faults + more,
            )


def _listen(bench: Bench, load: Load) -> tuple[dict[str, float], list[str]]:
    """Let the audience listen for a while; returns latencies and faults."""
    count = bench.scale.hostile_seconds * PER_SECOND
    load.expect(AUDIENCE * count, count, bench.scale.hostile_seconds + 30)
    bench.publisher.paced(count, PER_SECOND)
    done, faults = finish(load)
    return done["latency"], faults


@contextmanager
def _crowd(attempt: Attempt, server: Gunicorn, seed: int) -> Iterator[Any]:
    """Let the crowd loose; yields the pipe to its process."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_run, args=(server, seed, theirs))
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def _run(server: Gunicorn, seed: int, pipe: Connection) -> None:
    crowd = Crowd(server, seed)
    crowd.be_silent(SILENT)
    crowd.send_garbage(GARBAGE)
    crowd.come_and_go(HURRIED)
    pipe.recv()
    pipe.send(crowd.connects)
    crowd.stop()


SCENARIOS = (Scenario("hostile", measure),)

if __name__ == "__main__":
    sys.exit(main(SCENARIOS))
