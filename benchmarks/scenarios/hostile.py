"""What hostile clients cost those who came to listen.

`hostile`: 100 subscribers receive 100 notifications a second; first in peace,
then with 2,000 connections that send nothing, 200 that send garbage and 100
that open and close as fast as they can. `flood`: 200 subscribers, and two
clients that send pings, and subscribes and unsubscribes, as fast as they are
taken. Who means no good is a process of its own.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from harness import Bench, Scenario, finish
from load import Load
from processes import cpu_seconds
from support.crowd import Crowd
from support.flood import PINGS, SUBSCRIBES, Flooder, FloodSocket
from support.gunicorn import Gunicorn

__all__ = ["SCENARIOS"]

PER_SECOND = 100
AUDIENCE = 100
SILENT, GARBAGE, HURRIED = 2000, 200, 100
LISTENERS = 200
FLOODS = (PINGS, SUBSCRIBES)
"""What each of the flooders sends."""


def measure(bench: Bench) -> None:
    """In peace, then with the crowd at the door."""
    for run, system in bench.rounds("pgbridge"):
        with bench.attempt(system, run, "hostile") as attempt:
            server = attempt.start(clients=AUDIENCE)
            load = attempt.load(server, sample=1)
            attempt.subscribe(load, AUDIENCE)
            attempt.warm_up(load, AUDIENCE)
            peace, faults = _listen(bench, load, AUDIENCE)
            with _beside(_crowd, server.gunicorn, run) as crowd:
                hostile, more = _listen(bench, load, AUDIENCE)
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


def measure_flood(bench: Bench) -> None:
    """In peace, then with two clients that send as much as they can."""
    for run, system in bench.rounds("pgbridge"):
        with bench.attempt(system, run, "flood") as attempt:
            server = attempt.start(clients=LISTENERS)
            load = attempt.load(server, sample=1)
            attempt.subscribe(load, LISTENERS)
            attempt.warm_up(load, LISTENERS)
            workers = server.gunicorn.workers
            began = cpu_seconds(workers)
            peace, faults = _listen(bench, load, LISTENERS)
            between = cpu_seconds(workers)
            with _beside(_flood, server.gunicorn) as flooders:
                flood, more = _listen(bench, load, LISTENERS)
                after = cpu_seconds(workers)
                flooders.send("stop")
                answers, ended = flooders.recv()
            in_peace, in_flood = between - began, after - between
            attempt.record(
                "flood",
                {"subscribers": LISTENERS, "flooders": len(FLOODS)},
                {
                    "peace_p50": peace["p50"],
                    "peace_p99": peace["p99"],
                    "flood_p50": flood["p50"],
                    "flood_p99": flood["p99"],
                    "ratio_p50": flood["p50"] / peace["p50"],
                    "ratio_p99": flood["p99"] / peace["p99"],
                    "share": (in_flood - in_peace) / bench.scale.hostile_seconds,
                    "answers_per_second": answers / bench.scale.hostile_seconds,
                },
                faults + more + ended,
            )


def _listen(
    bench: Bench, load: Load, audience: int
) -> tuple[dict[str, float], list[str]]:
    """Let the audience listen for a while; returns latencies and faults."""
    count = bench.scale.hostile_seconds * PER_SECOND
    load.expect(audience * count, count, bench.scale.hostile_seconds + 30)
    bench.publisher.paced(count, PER_SECOND)
    done, faults = finish(load)
    return done["latency"], faults


@contextmanager
def _beside(run: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """Run something in a process of its own; yields the pipe to it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=run, args=(*arguments, theirs))
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def _crowd(server: Gunicorn, seed: int, pipe: Connection) -> None:
    crowd = Crowd(server, seed)
    crowd.be_silent(SILENT)
    crowd.send_garbage(GARBAGE)
    crowd.come_and_go(HURRIED)
    pipe.recv()
    pipe.send(crowd.connects)
    crowd.stop()


def _flood(server: Gunicorn, pipe: Connection) -> None:
    """Flood; then tell how many frames came back, and who was closed."""
    with ExitStack() as stack:
        flooders = [
            stack.enter_context(Flooder(FloodSocket(server), messages))
            for messages in FLOODS
        ]
        pipe.recv()
        ended = [f"a flooder was closed: {one.error}" for one in flooders if one.error]
        pipe.send((sum(len(one.opcodes) for one in flooders), ended))


SCENARIOS = (Scenario("hostile", measure), Scenario("flood", measure_flood))
