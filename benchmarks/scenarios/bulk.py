"""What triggers cost one INSERT of many rows.

Nobody listens. The sequencer's door is open, as while it works, or held shut
by a session, as while it sleeps: then each row rings.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing

from harness import Bench, Scenario, interleaved
from load import PREFIX
from support.postgres import Database

from scenarios.durable import REAL, database, postgres
from scenarios.writers import CHANNELS, NONE, NOTIFY, PUBLISH, TABLE, Trigger

__all__ = ["SCENARIOS"]

AT_ONCE = f"""
CREATE FUNCTION tell_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bridge.publish_many(
        array_agg('{PREFIX}' || fresh.n % {CHANNELS}),
        array_agg(row_to_json(fresh)::text)
    ) FROM fresh;
    RETURN NULL;
END $$;
CREATE TRIGGER tell_all AFTER INSERT ON item REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION tell_all();
"""


class StatementTrigger(Trigger):
    """A trigger that hands all rows over in one call."""

    def install(self, made: Database) -> None:
        """Create the table and the trigger."""
        made.execute(TABLE)
        made.execute(AT_ONCE)


ASLEEP = Trigger("asleep", "bridge.publish, sequencer asleep", "bridge.publish")
MANY = StatementTrigger("many", "bridge.publish_many", "bridge.publish_many")

SHUT = "SELECT pg_advisory_lock(bridge.lock_class(), 1)"
"""The door, as a sequencer that sleeps has it."""


def measure_bulk(bench: Bench) -> None:
    """The statement with its commit."""
    if not bench.systems("pgbridge"):
        return
    rows = bench.scale.bulk_rows
    triggers = (NONE, NOTIFY, PUBLISH, ASLEEP, MANY)
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
