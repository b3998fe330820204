"""What an application or an administrator leaves open holds nothing for long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from psycopg2.extensions import connection as Connection
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.waiting import wait_until

from bridge.postgres import schema
from bridge.postgres.address import Address

LATE = 2.0
"""Seconds; much less than a lock is waited for again and again."""

MakeGunicorn = Callable[..., Gunicorn]

INTERRUPTED = {
    "type": "interrupted",
    "channel": "kept_a",
    "reason": "journal_lost",
}


@contextmanager
def left_open(database: Database, query: str) -> Iterator[Connection]:
    """Run a query in a transaction that stays open meanwhile."""
    with (
        closing(database.connect(autocommit=False)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query)
        yield connection


def started(gunicorn: MakeGunicorn, database: Database, workers: int) -> Gunicorn:
    server = gunicorn(database.url, workers=workers).start()
    wait_until(lambda: "sequencer elected" in server.log)
    return server


@pytest.mark.measures
@pytest.mark.parametrize("workers", [1, 2])
def test_open_purge_delays_nothing(
    gunicorn: MakeGunicorn, durable_database: Database, workers: int
) -> None:
    database = durable_database
    database.publish("kept_b", *map(str, range(5)))
    database.publish("kept_old", *map(str, range(5)))
    database.execute(
        "UPDATE bridge.setting SET value = '1' WHERE name = 'max_journal_rows'"
    )
    server = started(gunicorn, database, workers)
    wait_until(lambda: database.positions() == 10)
    worst, number = 0.0, 0

    def floor_after_an_event() -> int:
        nonlocal worst, number
        number += 1
        began = time.monotonic()
        database.publish("kept_a", str(number))
        assert page.receive(timeout=60)["text"] == str(number)
        worst = max(worst, time.monotonic() - began)
        [(floor,)] = database.execute("SELECT pos FROM bridge.floor")
        return int(floor)

    with Client(server, "kept_a") as page:
        page.receive()
        with left_open(database, "SELECT bridge.purge('kept_old')") as purger:
            # Only what comes before what the purge holds is forgotten.
            wait_until(lambda: floor_after_an_event() == 5, timeout=60)
            purger.commit()
        wait_until(lambda: floor_after_an_event() > 10, timeout=60)
    assert worst < LATE
    assert database.execute(
        "SELECT count(*) FROM bridge.outbox o "
        "WHERE NOT EXISTS (SELECT FROM bridge.journal j WHERE j.id = o.id)"
    ) == [(0,)]
    assert "nothing can be given" not in server.log


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("LOCK TABLE bridge.outbox", "bridge.outbox"),
        ("LOCK TABLE bridge.tick", "bridge.tick"),
        ("LOCK TABLE bridge.floor", "bridge.floor"),
        ("LOCK TABLE bridge.state IN EXCLUSIVE MODE", "bridge.state"),
        ("CREATE INDEX ON bridge.journal (at)", "bridge.journal"),
        ("ALTER TABLE bridge.journal ADD extra int", "bridge.journal"),
        ("SELECT FROM bridge.state FOR UPDATE", "bridge.state"),
    ],
)
def test_lock_is_said_and_all_goes_on_when_it_is_gone(
    gunicorn: MakeGunicorn,
    durable_database: Database,
    workers: int,
    query: str,
    table: str,
) -> None:
    server = started(gunicorn, durable_database, workers)
    with Client(server, "kept_a") as page:
        page.receive()
        with left_open(durable_database, query) as holder:
            pid = holder.info.backend_pid
            if "outbox" not in query:  # there the site waits as well
                durable_database.publish("kept_a", "waits")
            assert page.receive() == INTERRUPTED
            wait_until(lambda: f"backend {pid} (" in server.log)
        found = [page.receive(timeout=8)]
        assert found == [{"type": "restored", "channel": "kept_a"}]
        durable_database.publish("kept_a", "after")
        expected = ["waits", "after"] if "outbox" not in query else ["after"]
        assert page.payloads(len(expected)) == expected

    said = re.findall(rf"backend {pid} \(\S+ idle in transaction\) .*", server.log)
    assert said
    assert all(f"lock on {table}: end its transaction" in line for line in said)
    assert "Traceback" not in server.log


def test_who_waits_for_a_lock_is_not_named_but_who_makes_it_wait(
    gunicorn: MakeGunicorn, durable_database: Database
) -> None:
    server = started(gunicorn, durable_database, 1)
    with (
        Client(server, "kept_a") as page,
        left_open(durable_database, "SELECT bridge.publish('kept_a', 'x')") as holder,
        ThreadPoolExecutor(1) as executor,
    ):
        page.receive()
        pid = holder.info.backend_pid
        vacuum = executor.submit(durable_database.execute, "VACUUM FULL bridge.outbox")
        try:
            assert page.receive() == INTERRUPTED
            wait_until(lambda: f"backend {pid} (" in server.log)
        finally:
            holder.commit()
        vacuum.result(30)
        assert page.receive() == {"type": "restored", "channel": "kept_a"}
        assert page.payloads(1) == ["x"]


@pytest.mark.parametrize("table", ["tick", "state", "floor"])
def test_emptied_table_is_said_once_and_mended_by_an_upgrade(
    gunicorn: MakeGunicorn, durable_database: Database, table: str
) -> None:
    server = started(gunicorn, durable_database, 1)
    with Client(server, "kept_a") as page:
        page.receive()
        durable_database.publish("kept_a", "before")
        assert page.payloads(1) == ["before"]
        durable_database.execute(f"TRUNCATE bridge.{table}")
        durable_database.publish("kept_a", "waits")
        assert page.receive() == INTERRUPTED
        wait_until(lambda: f"emptied bridge.{table}" in server.log)

        schema.upgrade(Address(durable_database.url), None)

        found = [page.receive()]
        while found[-1].get("text") != "waits":
            found.append(page.receive())
        reset = [] if table == "floor" else [{"epoch_changed"}]
        assert [{one["reason"]} for one in found if one["type"] == "gap"] == reset
        durable_database.publish("kept_a", "after")
        assert page.payloads(1) == ["after"]
    assert "Traceback" not in server.log
    assert len(re.findall("emptied", server.log)) <= 4
