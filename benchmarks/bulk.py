"""What a trigger costs one INSERT of many rows.

    python benchmarks/bulk.py [--quick] [--runs N]

Nobody listens. The sequencer's door is open, as while it works, or held shut
by a session, as while it sleeps: then each row rings.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, closing

from durable import REAL, database, postgres
from harness import Bench, Scenario, interleaved
from program import main
from support.postgres import Database
from writers import NONE, NOTIFY, PUBLISH, Trigger

__all__ = ["SCENARIOS"]

ASLEEP = Trigger("asleep", "bridge.publish, sequencer asleep", "bridge.publish")

SHUT = "SELECT pg_advisory_lock(bridge.lock_class(), 1)"
"""The door, as a sequencer that sleeps has it."""


def measure_bulk(bench: Bench) -> None:
    """The statement with its commit."""
    if not bench.systems("pgbridge"):
        return
    rows = bench.scale.bulk_rows
    triggers = (NONE, NOTIFY, PUBLISH, ASLEEP)
    with postgres(**REAL) as server:
        for run, trigger in interleaved(bench.runs, triggers):
            with (
                database(server.url, trigger.durable) as made,
                bench.attempt(trigger, run, "bulk") as attempt,
                ExitStack() as stack,
            ):
                trigger.install(made)
                if trigger is ASLEEP:
                    door = stack.enter_context(closing(made.connect()))
                    door.cursor().execute(SHUT)
                made.execute("CHECKPOINT")
                seconds = _insert(made, rows)
                attempt.record("bulk", {"rows": rows}, {"a_row": seconds / rows})


def _insert(made: Database, rows: int) -> float:
    query = (
        "INSERT INTO item (name, amount) "
        "SELECT 'a small row', 42 FROM generate_series(1, %s)"
    )
    with closing(made.connect()) as connection, connection.cursor() as cursor:
        began = time.monotonic()
        cursor.execute(query, (rows,))
        return time.monotonic() - began


SCENARIOS = (Scenario("bulk", measure_bulk),)

if __name__ == "__main__":
    sys.exit(main(SCENARIOS))
