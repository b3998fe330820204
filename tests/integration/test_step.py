"""step() in real transactions: order, holes, fences, epochs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection
from support.postgres import OLD_BINARIES, Cluster, Database
from support.waiting import wait_until

from bridge.postgres.address import Address
from bridge.postgres.schema import install

ROOT = Path(__file__).parent.parent.parent

Connect = Callable[[], Connection]

MANY = "SELECT count(bridge.publish('a', n::text)) FROM generate_series(1, %s) AS n"

AT_ONCE = (
    "SELECT bridge.publish_many(array_agg('a'::text), array_agg(n::text ORDER BY n)) "
    "FROM generate_series(1, %s) AS n"
)


@pytest.fixture
def database(either_database: Database) -> Database:
    return either_database


@pytest.fixture
def connect(database: Database) -> Iterator[Connect]:
    """Opens sessions that are not in autocommit mode."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(database.connect(autocommit=False)))


def run(connection: Connection, query: str, *arguments: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, arguments or None)
        return cursor.fetchall() if cursor.description else None


def publish(connection: Connection, *payloads: str, channel: str = "a") -> None:
    for payload in payloads:
        run(connection, "SELECT bridge.publish(%s, %s)", channel, payload)


def step(database: Database) -> Any:
    [(steps,)] = database.execute("SELECT bridge.step()")
    return steps


def journal(database: Database) -> list[tuple[int, str]]:
    """Position and payload of each entry."""
    return database.execute(
        "SELECT j.pos, o.payload FROM bridge.journal j JOIN bridge.outbox o USING (id) "
        "ORDER BY j.pos"
    )


def state(database: Database, column: str) -> Any:
    return database.execute(f"SELECT {column} FROM bridge.state")[0][0]


def test_committed_events_get_positions_without_holes(
    database: Database, connect: Connect
) -> None:
    one, two = connect(), connect()
    publish(one, "a", "b")
    publish(two, "c")
    two.rollback()
    one.commit()

    assert step(database) == 2
    assert step(database) == 0
    assert journal(database) == [(1, "a"), (2, "b")]


def test_event_of_a_long_transaction_comes_when_it_commits(
    database: Database, connect: Connect
) -> None:
    slow, fast = connect(), connect()
    publish(slow, "slow")
    publish(fast, "fast")
    fast.commit()

    assert step(database) == 1
    publish(fast, "later")
    fast.commit()
    slow.commit()

    assert step(database) == 2
    assert journal(database) == [(1, "fast"), (2, "slow"), (3, "later")]


def test_event_published_after_a_commit_was_seen_comes_after_it(
    database: Database, connect: Connect
) -> None:
    first, second = connect(), connect()
    publish(second, "early id")  # its transaction is older than the other's
    publish(first, "cause")
    first.commit()
    publish(second, "effect")
    second.commit()

    step(database)

    payloads = [payload for _, payload in journal(database)]
    assert payloads.index("cause") < payloads.index("effect")


def test_rolled_back_savepoint_leaves_nothing(
    database: Database, connect: Connect
) -> None:
    writer = connect()
    publish(writer, "kept")
    run(writer, "SAVEPOINT s")
    publish(writer, "gone")
    run(writer, "ROLLBACK TO SAVEPOINT s")
    publish(writer, "kept too")
    writer.commit()

    assert step(database) == 2
    assert journal(database) == [(1, "kept"), (2, "kept too")]


def test_step_while_another_steps_is_not_zero(
    database: Database, connect: Connect
) -> None:
    holder, writer = connect(), connect()
    publish(writer, "x")
    writer.commit()
    run(holder, "SELECT FROM bridge.state FOR UPDATE")

    assert step(database) is None
    holder.rollback()
    assert step(database) == 1


def test_step_that_is_not_alone_is_refused(
    database: Database, connect: Connect
) -> None:
    writer = connect()
    run(writer, "SELECT pg_current_xact_id()")

    with pytest.raises(psycopg2.Error, match="alone in its transaction"):
        run(writer, "SELECT bridge.step()")


def test_step_needs_read_committed(database: Database, connect: Connect) -> None:
    writer = connect()
    run(writer, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    with pytest.raises(psycopg2.Error, match="READ COMMITTED"):
        run(writer, "SELECT bridge.step()")


def test_step_without_work_writes_nothing(database: Database) -> None:
    for _ in range(5):
        step(database)
    [before] = database.execute("SELECT pg_current_wal_insert_lsn()")

    for _ in range(5):
        step(database)

    # The background writer may log a snapshot of its own.
    [after] = database.execute("SELECT pg_current_wal_insert_lsn()")
    [(written,)] = database.execute(
        "SELECT pg_wal_lsn_diff(%s, %s)", after[0], before[0]
    )
    assert written <= 200


def test_published_and_ended_in_one_savepoint_each(
    database: Database, connect: Connect
) -> None:
    writer = connect()
    for number in range(100):  # more than a snapshot lists
        run(writer, f"SAVEPOINT s{number}")
        publish(writer, str(number))
    assert step(database) == 0
    writer.commit()

    assert step(database) == 100
    payloads = [payload for _, payload in journal(database)]
    assert payloads == [str(number) for number in range(100)]


# Publishing.


@pytest.mark.parametrize(
    ("channel", "problem"),
    [
        (None, "the channel is NULL"),
        ("", "it is empty"),
        ("x" * 256, "more than 255 bytes"),
        ("bridge_wake", "are reserved"),
    ],
)
def test_channel_that_is_not_valid_is_refused(
    database: Database, channel: str | None, problem: str
) -> None:
    with pytest.raises(psycopg2.Error, match=problem):
        database.execute("SELECT bridge.publish(%s, 'x')", channel)
    with pytest.raises(psycopg2.Error, match=problem):
        database.execute("SELECT bridge.publish_many(%s, %s)", ["a", channel], ["", ""])

    assert step(database) == 0


def test_triggers_of_the_page_publish_rows_in_order(database: Database) -> None:
    page = (ROOT / "docs" / "durable.md").read_text()
    row, statement = re.findall(r"```sql\n(CREATE FUNCTION .*?)```", page, re.S)
    database.execute("CREATE TABLE orders (customer_id int, item int)")
    database.execute(row)
    database.execute("INSERT INTO orders VALUES (7, 0)")
    database.execute("UPDATE orders SET item = 1")
    database.execute(statement)
    database.execute("INSERT INTO orders SELECT n, n FROM generate_series(2, 99) AS n")
    database.execute("UPDATE orders SET item = 100 WHERE customer_id = 7 AND item = 1")

    step(database)

    entries = database.execute(
        "SELECT j.channel, (o.payload::json->>'item')::int "
        "FROM bridge.journal j JOIN bridge.outbox o USING (id) ORDER BY j.pos"
    )
    assert entries == [
        ("orders_7", 0),
        ("orders_7", 1),
        *((f"orders_{n}", n) for n in range(2, 100)),
        ("orders_7", 100),
    ]


@pytest.mark.parametrize(
    ("payload", "written"),
    [
        ("'untyped'", "untyped"),
        ("'{}'", "{}"),
        ("NULL", ""),
        ("'text'::varchar", "text"),
        ("""'{"b":  1}'::json""", '{"b":  1}'),
        ("""'{"b":  1}'::jsonb""", '{"b": 1}'),
        ("row_to_json(row(1))", '{"f1":1}'),
        ("NULL::jsonb", ""),
    ],
)
def test_json_is_published_as_it_is(
    database: Database, payload: str, written: str
) -> None:
    database.execute(f"SELECT bridge.publish('a', {payload})")

    assert database.execute("SELECT payload FROM bridge.outbox") == [(written,)]


def test_parameter_without_a_type_is_text(database: Database) -> None:
    with closing(psycopg2.connect(database.url)) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("PREPARE p AS SELECT bridge.publish($1, $2)")
            cursor.execute("EXECUTE p ('a', 'no json')")

    assert database.execute("SELECT payload FROM bridge.outbox") == [("no json",)]


@pytest.mark.parametrize("nothing", [None, []])
def test_nothing_at_once_is_nothing(
    database: Database, nothing: list[str] | None
) -> None:
    database.execute(
        "SELECT bridge.publish_many(%s::text[], %s::text[])", nothing, nothing
    )

    assert step(database) == 0
    assert state(database, "dropped") == 0


def test_as_many_payloads_as_channels(database: Database) -> None:
    for channels, payloads in ((["a", "b"], ["x"]), (["a"], None), (None, ["x"])):
        with pytest.raises(psycopg2.Error, match=r"\d channels, \d payloads"):
            database.execute(
                "SELECT bridge.publish_many(%s::text[], %s::text[])", channels, payloads
            )


def test_payload_that_is_null_is_empty(database: Database) -> None:
    database.execute("SELECT bridge.publish('a', NULL)")

    step(database)
    assert journal(database) == [(1, "")]


def test_role_without_rights_publishes_and_can_do_nothing_else(
    database: Database, connect: Connect
) -> None:
    role = f"writer_{database.name}"
    database.execute(f"CREATE ROLE {role}")
    try:
        writer = connect()
        run(writer, f"SET ROLE {role}")
        publish(writer, "x")
        writer.commit()
        for query in (
            "SELECT bridge.step()",
            "SELECT bridge.prune()",
            "SELECT bridge.purge('a')",
            "SELECT bridge.check_epoch()",
            "SELECT bridge.start_epoch(0)",
            "SELECT * FROM bridge.outbox",
            "SELECT * FROM bridge.journal",
            "DELETE FROM bridge.durable_channel",
        ):
            run(writer, f"SET ROLE {role}")
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                run(writer, query)
            writer.rollback()
        run(writer, f"SET ROLE {role}")
        [(cursor,)] = run(writer, "SELECT bridge.cursor()")
        writer.rollback()
    finally:
        database.execute(f"DROP ROLE {role}")

    assert step(database) == 1
    assert cursor.endswith("-0")


def test_writers_do_not_wait_for_each_other(
    database: Database, connect: Connect
) -> None:
    one, two = connect(), connect()
    for writer in (one, two):
        run(writer, "SET lock_timeout = '1ms'")
        writer.commit()

    publish(one, "x")
    publish(two, "y")
    two.commit()
    one.commit()

    assert step(database) == 2


# The door.

SHUT = "SELECT pg_try_advisory_lock(bridge.lock_class(), 1)"


@pytest.mark.parametrize("query", [MANY, AT_ONCE], ids=["each", "at once"])
def test_writer_rings_only_while_the_door_is_shut(
    database: Database, connect: Connect, query: str
) -> None:
    listener, writer = database.connect(), connect()
    with closing(listener):
        run(listener, "LISTEN bridge_wake")
        run(writer, query, 2)
        assert run(listener, SHUT) == [(False,)]  # a silent writer is in flight
        writer.commit()
        assert run(listener, SHUT) == [(True,)]
        run(writer, query, 2)
        writer.commit()

        run(listener, "SELECT 1")
        assert [notify.channel for notify in listener.notifies] == ["bridge_wake"]


def test_writer_that_may_be_prepared_does_not_ring(
    database: Database, connect: Connect
) -> None:
    listener, writer = database.connect(), connect()
    with closing(listener):
        run(listener, "LISTEN bridge_wake")
        run(listener, SHUT)
        run(writer, "SET bridge.wake = off")
        publish(writer, "x")
        writer.commit()

        run(listener, "SELECT 1")
        assert listener.notifies == []
    assert step(database) == 1


# Retention.


def test_old_entries_are_forgotten_and_the_floor_moves(
    database: Database, connect: Connect
) -> None:
    writer = connect()
    publish(writer, *map(str, range(10)))
    writer.commit()
    step(database)
    database.execute(
        "UPDATE bridge.setting SET value = '4' WHERE name LIKE '%journal_rows'"
    )

    assert database.execute("SELECT bridge.prune(4)") == [(4,)]
    assert database.execute("SELECT bridge.prune(4)") == [(2,)]
    assert database.execute("SELECT bridge.prune(4)") == [(0,)]

    assert [pos for pos, _ in journal(database)] == [7, 8, 9, 10]
    assert database.execute("SELECT count(*) FROM bridge.outbox") == [(4,)]
    assert database.execute("SELECT pos, pruned FROM bridge.floor") == [(6, 6)]


def test_entries_are_forgotten_by_their_age(
    database: Database, connect: Connect
) -> None:
    writer = connect()
    publish(writer, "old")
    writer.commit()
    step(database)
    database.execute("UPDATE bridge.journal SET at = at - interval '25 hours'")
    publish(writer, "new")
    writer.commit()
    step(database)

    assert database.execute("SELECT bridge.prune()") == [(1,)]
    assert journal(database) == [(2, "new")]


def test_pruning_without_work_writes_nothing(database: Database) -> None:
    [(xid,)] = database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")

    assert database.execute("SELECT bridge.prune()") == [(0,)]

    assert database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == [
        (xid,)
    ]


def keep(database: Database, rows: int) -> None:
    database.execute(
        "UPDATE bridge.setting SET value = %s WHERE name = 'max_journal_rows'",
        str(rows),
    )


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_what_an_open_purge_holds_is_forgotten_later(
    database: Database, connect: Connect, ends: str
) -> None:
    writer, purger = connect(), connect()
    publish(writer, "0", "1", "2")
    publish(writer, "3", "4", channel="b")
    publish(writer, "5", "6")
    writer.commit()
    step(database)
    run(purger, "SELECT bridge.purge('b')")
    keep(database, 1)

    with closing(database.connect()) as session:
        run(session, "SET statement_timeout = '1s'")
        assert run(session, "SELECT bridge.prune()") == [(3,)]
        assert run(session, "SELECT bridge.prune()") == [(0,)]
    assert database.execute("SELECT pos, pruned FROM bridge.floor") == [(3, 3)]
    assert database.execute("SELECT rows FROM bridge.status") == [(4,)]
    assert [pos for pos, _ in journal(database)] == [4, 5, 6, 7]

    getattr(purger, ends)()
    assert database.execute("SELECT bridge.prune()") == [(3,)]
    assert journal(database) == [(7, "6")]
    assert database.execute("SELECT count(*) FROM bridge.outbox") == [(1,)]
    assert database.execute("SELECT pos, pruned FROM bridge.floor") == [(6, 6)]
    assert database.execute("SELECT rows FROM bridge.status") == [(1,)]


@pytest.mark.parametrize(
    "lock",
    [
        "LOCK TABLE bridge.journal IN SHARE MODE",
        "LOCK TABLE bridge.floor IN EXCLUSIVE MODE",
        "SELECT FROM bridge.floor FOR UPDATE",
        "SELECT FROM bridge.journal FOR UPDATE",
        "SELECT FROM bridge.outbox FOR KEY SHARE",
        "SELECT FROM bridge.tick FOR UPDATE",
    ],
)
def test_forgetting_waits_for_nobody(
    database: Database, connect: Connect, lock: str
) -> None:
    writer, holder = connect(), connect()
    publish(writer, "x", "y")
    writer.commit()
    step(database)
    keep(database, 1)
    run(holder, lock)

    with closing(database.connect()) as session:
        run(session, "SET statement_timeout = '1s'")
        [(rows,)] = run(session, "SELECT bridge.prune()")
    holder.rollback()

    forgotten = 1 if "tick" in lock else 0
    assert (rows or 0) == forgotten
    assert database.execute("SELECT bridge.prune()") == [(1 - forgotten,)]
    assert journal(database) == [(2, "y")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_journal_age", "-1 s"),
        ("max_journal_age", "soon"),
        ("max_journal_rows", "0"),
        ("unheard_of", "1"),
    ],
)
def test_setting_that_makes_no_sense_is_refused(
    database: Database, name: str, value: str
) -> None:
    with pytest.raises(psycopg2.Error):
        database.execute(
            "INSERT INTO bridge.setting VALUES (%s, %s) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name,
            value,
        )


def test_purged_payloads_are_gone_and_the_positions_stay(
    database: Database, connect: Connect
) -> None:
    writer = connect()
    publish(writer, "secret", "secret too")
    publish(writer, "other", channel="b")
    writer.commit()
    step(database)

    assert database.execute("SELECT bridge.purge('a')") == [(2,)]

    assert journal(database) == [(3, "other")]
    assert database.execute("SELECT count(*) FROM bridge.journal") == [(3,)]


# Epochs.


def test_new_timeline_is_a_new_epoch_and_nothing_waiting_is_lost(
    database: Database, connect: Connect
) -> None:
    writer = connect()
    publish(writer, "told")
    writer.commit()
    step(database)
    before = state(database, "epoch")
    publish(writer, "waiting")
    writer.commit()
    database.execute("UPDATE bridge.state SET timeline = 'another'")

    assert step(database) == 1

    assert state(database, "epoch") != before
    assert journal(database) == [(1, "told"), (2, "waiting")]
    assert database.execute("SELECT pos FROM bridge.floor") == [(1,)]


def test_restored_dump_is_a_new_epoch_with_empty_tables(
    database: Database, connect: Connect
) -> None:
    writer = connect()
    publish(writer, "of another life")
    writer.commit()
    step(database)
    before = state(database, "epoch")
    # The snapshot says that far more transactions have been than have.
    database.execute(
        "UPDATE bridge.tick SET snap = '900000000:900000000:' WHERE pos = 1"
    )
    in_flight = connect()
    publish(in_flight, "in flight")

    step(database)
    in_flight.commit()

    assert step(database) == 1
    assert state(database, "epoch") != before
    assert journal(database) == [(3, "in flight")]
    assert database.execute("SELECT pos, pruned FROM bridge.floor") == [(2, 2)]


def test_database_that_was_copied_is_a_new_epoch(database: Database) -> None:
    before = state(database, "epoch")
    database.execute("UPDATE bridge.state SET identity = 'another cluster'")

    [(epoch,)] = database.execute("SELECT bridge.check_epoch()")

    assert epoch == state(database, "epoch") != before


def test_tail_ahead_of_the_journal_is_a_new_epoch(database: Database) -> None:
    before = state(database, "epoch")

    [(same,)] = database.execute("SELECT bridge.check_epoch(%s, 0)", before)
    [(other,)] = database.execute("SELECT bridge.check_epoch(%s, 1)", before)
    [(again,)] = database.execute("SELECT bridge.check_epoch(%s, 1)", before)

    assert same == before
    assert other == again == state(database, "epoch") != before


# Nobody sequences.


@pytest.mark.parametrize("query", [MANY, AT_ONCE], ids=["each", "at once"])
def test_outbox_is_bounded_and_the_loss_is_a_new_epoch(
    database: Database, connect: Connect, query: str
) -> None:
    database.execute(
        "UPDATE bridge.setting SET value = '1500' WHERE name = 'max_outbox_rows'"
    )
    before = state(database, "epoch")
    writer = connect()
    for _ in range(3):
        run(writer, query, 1000)
        writer.commit()

    [(rows,)] = database.execute("SELECT count(*) FROM bridge.outbox")
    assert rows == 2000
    assert database.execute("SELECT is_called FROM bridge.dropped") == [(True,)]
    assert database.execute("SELECT overflow FROM bridge.status") == [(True,)]

    assert step(database) == 2000
    assert state(database, "epoch") != before
    publish(writer, "goes on")
    writer.commit()
    assert step(database) == 1
    assert state(database, "barrier") is None


def test_outbox_that_was_full_for_a_moment_has_room_again(
    database: Database, connect: Connect
) -> None:
    database.execute(
        "UPDATE bridge.setting SET value = '1500' WHERE name = 'max_outbox_rows'"
    )
    before = state(database, "epoch")
    database.execute(AT_ONCE, 2000)

    assert step(database) == 2000
    assert database.execute("SELECT overflow FROM bridge.status") == [(False,)]
    database.execute("SELECT bridge.publish('a', 'goes on')")
    assert step(database) == 1
    assert (state(database, "epoch"), state(database, "dropped")) == (before, 0)

    database.execute("INSERT INTO bridge.overflow VALUES (now())")
    assert step(database) == 0
    assert database.execute("SELECT overflow FROM bridge.status") == [(False,)]


def test_loss_of_a_transaction_still_in_flight_is_told_when_it_has_ended(
    database: Database, connect: Connect
) -> None:
    writer = connect()
    database.execute("INSERT INTO bridge.overflow VALUES (now())")
    publish(writer, "dropped")
    step(database)
    first = state(database, "epoch")

    step(database)
    assert state(database, "epoch") == first
    writer.commit()
    step(database)

    assert state(database, "epoch") != first
    assert state(database, "barrier") is None
    last = state(database, "epoch")
    step(database)
    assert state(database, "epoch") == last


def bound(database: Database, rows: int) -> None:
    database.execute(
        "UPDATE bridge.setting SET value = %s WHERE name = 'max_outbox_rows'", str(rows)
    )


@pytest.mark.parametrize("query", [MANY, AT_ONCE], ids=["each", "at once"])
def test_numbers_that_were_burnt_do_not_count_as_waiting(
    database: Database, connect: Connect, query: str
) -> None:
    bound(database, 5000)
    before = state(database, "epoch")
    early, writer = connect(), connect()
    publish(early, "commits much later")
    for _ in range(3):
        run(writer, query, 4000)
        writer.rollback()
    early.commit()
    assert step(database) == 1  # the journal ends with a low number

    for _ in range(12):
        run(writer, query, 1000)
        writer.commit()
        assert step(database) == 1000
    assert (state(database, "epoch"), state(database, "dropped")) == (before, 0)


@pytest.mark.parametrize("query", [MANY, AT_ONCE], ids=["each", "at once"])
def test_what_waits_counts_after_numbers_were_burnt(
    database: Database, connect: Connect, query: str
) -> None:
    bound(database, 5000)
    writer = connect()
    run(writer, query, 9000)
    writer.rollback()

    for _ in range(20):
        run(writer, query, 1000)
        writer.commit()

    assert database.execute("SELECT count(*) FROM bridge.outbox") == [(6000,)]
    assert database.execute("SELECT overflow FROM bridge.status") == [(True,)]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER SEQUENCE bridge.outbox_id_seq RESTART",
        "UPDATE bridge.setting SET value = '2000' WHERE name = 'max_outbox_rows'",
    ],
)
def test_bound_is_kept_when_numbers_begin_again_or_it_is_lowered(
    database: Database, change: str
) -> None:
    database.execute(MANY, 1_000)  # the next count is due at millions
    step(database)
    database.execute("TRUNCATE bridge.outbox, bridge.journal")
    bound(database, 2000)
    database.execute(change)

    for _ in range(8):
        database.execute(MANY, 1000)

    assert database.execute("SELECT count(*) FROM bridge.outbox") == [(3000,)]


def test_loss_of_a_transaction_younger_than_the_step_is_told_when_it_has_ended(
    database: Database, connect: Connect
) -> None:
    holder, late = connect(), connect()
    database.execute("SELECT bridge.publish('a', 'waits')")
    database.execute("INSERT INTO bridge.overflow VALUES (now())")
    run(holder, "LOCK TABLE bridge.journal IN SHARE MODE")
    with ThreadPoolExecutor(1) as executor, closing(holder):
        stepping = executor.submit(step, database)
        wait_until(
            lambda: database.execute(
                "SELECT 1 FROM pg_locks "
                "WHERE relation = 'bridge.journal'::regclass AND NOT granted"
            )
        )
        publish(late, "dropped")
        holder.rollback()
        assert stepping.result() == 1
    step(database)
    step(database)
    between = state(database, "epoch")

    late.commit()
    step(database)

    assert state(database, "epoch") != between
    assert state(database, "barrier") is None


@pytest.mark.parametrize("binaries", [None, OLD_BINARIES], ids=["embedded", "15"])
def test_crash_is_no_loss(binaries: Path | None) -> None:
    cluster = Cluster(binaries)
    try:
        cluster.start()
        database = Database(cluster.url)
        install(Address(database.url), None)
        database.execute("CHECKPOINT")
        database.execute("INSERT INTO bridge.overflow VALUES (now())")
        database.execute("SELECT bridge.publish('a', 'dropped')")
        while state(database, "barrier") is not None or not state(database, "dropped"):
            step(database)
        before = state(database, "epoch")

        cluster.stop("immediate")
        cluster.start()

        step(database)
        assert state(database, "epoch") == before
    finally:
        cluster.delete()


# An administrator.


@pytest.mark.parametrize("table", ["tick", "state", "floor"])
def test_emptied_table_is_named_and_installing_mends_it(
    database: Database, connect: Connect, table: str
) -> None:
    writer = connect()
    publish(writer, "1", "2", "3")
    writer.commit()
    step(database)
    keep(database, 2)
    database.execute("SELECT bridge.prune()")
    before = state(database, "epoch")
    publish(writer, "waits")
    writer.commit()
    database.execute(f"TRUNCATE bridge.{table}")

    for query in ("SELECT bridge.step()", "SELECT bridge.check_epoch()"):
        if table == "floor" and "step" in query:
            continue  # it does not need it
        with pytest.raises(psycopg2.Error, match=f"emptied bridge.{table}") as raised:
            database.execute(query)
        assert "pgbridge upgrade" in str(raised.value)

    install(Address(database.url), None)
    step(database)

    entries = [(1, "1"), (2, "2"), (3, "3"), (4, "waits")]
    kept = entries[-1:] if table == "tick" else entries[1:]
    assert journal(database) == kept
    assert (state(database, "epoch") == before) is (table == "floor")
    assert database.execute("SELECT pos, pruned FROM bridge.floor") == [
        (3, 3) if table == "tick" else (1, 1)
    ]
    assert database.execute("SELECT count(*) FROM bridge.outbox") == [(len(kept),)]


# The plan.


def test_step_is_quick_whatever_waits_in_flight(
    database: Database, connect: Connect
) -> None:
    bulk, writer = connect(), connect()
    run(bulk, MANY, 50_000)
    database.execute("ANALYZE")
    publish(writer, "x")
    writer.commit()

    with closing(database.connect()) as session:
        run(session, "SELECT bridge.step()")
        pages = _pages_read(session, "SELECT bridge.step()")

    # A sequential scan would read hundreds.
    assert pages < 60


def _pages_read(session: Connection, query: str) -> int:
    [(plan,)] = run(session, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}")
    found = plan[0]["Plan"]
    return int(found["Shared Hit Blocks"] + found["Shared Read Blocks"])


def test_prepared_transaction_publishes_when_it_commits() -> None:
    cluster = Cluster(max_prepared_transactions="5")
    try:
        cluster.start()
        database = Database(cluster.url)
        install(Address(database.url), None)
        with closing(database.connect(autocommit=False)) as writer:
            run(writer, SHUT)
            writer.commit()
            publish(writer, "prepared")
            run(writer, "PREPARE TRANSACTION 'p'")
            writer.commit()
        assert step(database) == 0

        database.execute("COMMIT PREPARED 'p'")

        assert step(database) == 1
        assert journal(database) == [(1, "prepared")]
    finally:
        cluster.delete()
