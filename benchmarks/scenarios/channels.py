"""Ten thousand channels with one subscriber each, on one worker.

How many sessions LISTEN, how long it takes until everybody is subscribed, and
how late a notification to a random one of the channels arrives.
"""

from __future__ import annotations

import random
import time
from contextlib import closing

import psycopg2
from harness import Bench, Scenario, finish

__all__ = ["SCENARIOS"]

PAUSE = 0.005
"""Seconds between two notifications."""

SEED = 1


def measure(bench: Bench) -> None:
    """pgbridge; the rivals have no budget of sessions to look at."""
    count, deliveries = bench.scale.channels, bench.scale.random_deliveries
    for run, system in bench.rounds("pgbridge"):
        with bench.attempt(system, run, "channels") as attempt:
            server = attempt.start(clients=count, channels=count)
            load = attempt.load(server, channels=count, sample=1)
            opened = attempt.subscribe(load, count, timeout=300)
            sessions = _sessions(bench.url)
            # Each channel counts its own notifications.
            numbers = dict.fromkeys(range(count), 0)
            chooser = random.Random(SEED + run)
            load.expect(deliveries, 0, deliveries * 0.1 + 30)
            for _ in range(deliveries):
                channel = chooser.randrange(count)
                bench.publisher.publish(numbers[channel], channel)
                numbers[channel] += 1
                time.sleep(PAUSE)
            done, faults = finish(load)
            if done["notifications"] != deliveries:
                faults.append(f"{done['notifications']} of {deliveries} arrived")
            attempt.record(
                "channels",
                {"channels": count, "deliveries": deliveries},
                {
                    "sessions": sessions,
                    "subscribed_seconds": opened["subscribed_seconds"],
                    "upgraded_seconds": opened["upgraded_seconds"],
                    "latency_p50": done["latency"].get("p50"),
                    "latency_p99": done["latency"].get("p99"),
                },
                faults,
            )


def _sessions(url: str) -> int:
    """Count pgbridge's sessions on the database."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbridge'"
        )
        ((count,),) = cursor.fetchall()
        return int(count)


SCENARIOS = (Scenario("channels", measure),)
