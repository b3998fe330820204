"""check_seen() in real transactions: what was seen, and what is there."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg2.extensions import make_dsn
from support.postgres import Database

from bridge.postgres.address import Address
from bridge.postgres.schema import install, migrations


@pytest.fixture
def database(either_database: Database) -> Database:
    return either_database


Entry = tuple[int, int, int]
"""Position, outbox id and moment of an entry."""


def check(
    database: Database, epochs: list[str] | None, *entry: int | None
) -> tuple[str, Any]:
    """Return the epoch and the last entry that are there after it was checked."""
    position, id, moment = entry or (None, None, None)
    [(_, epoch, *found)] = database.execute(
        "SELECT * FROM bridge.check_seen(%s::text[], %s, %s, %s)",
        epochs,
        position,
        id,
        moment,
    )
    return epoch, tuple(found)


def entries(database: Database, count: int) -> tuple[str, Entry]:
    """Give so many events a position; returns epoch and the last entry."""
    database.publish("a", *map(str, range(count)))
    database.execute("SELECT bridge.step()")
    epoch, entry = check(database, None)
    return epoch, entry


def set_back(database: Database) -> None:
    """Put an earlier moment in place: the last entry and its numbers are gone."""
    database.execute(
        "WITH gone AS (DELETE FROM bridge.journal "
        "WHERE pos = (SELECT max(pos) FROM bridge.journal) RETURNING id) "
        "DELETE FROM bridge.outbox WHERE id IN (SELECT id FROM gone)"
    )
    database.execute(
        "UPDATE bridge.tick SET pos = pos - 1 "
        "WHERE pos = (SELECT max(pos) FROM bridge.tick)"
    )
    database.execute(
        "SELECT setval('bridge.outbox_id_seq', (SELECT max(id) FROM bridge.outbox))"
    )


def test_what_was_seen_and_is_there_changes_nothing(database: Database) -> None:
    epoch, entry = entries(database, 3)

    assert entry[0] == 3
    assert check(database, [epoch], *entry) == (epoch, entry)
    assert check(database, ["older", epoch], *entry) == (epoch, entry)
    assert check(database, [epoch], 2, None, None) == (epoch, entry)
    assert check(database, ["unheard of"], 9, 9, 9) == (epoch, entry)
    assert database.execute("SELECT pos FROM bridge.floor") == [(0,)]


def test_position_that_is_not_there_yet_begins_an_epoch(database: Database) -> None:
    epoch, entry = entries(database, 3)
    set_back(database)

    other, last = check(database, [epoch], *entry)

    assert other != epoch
    assert last[0] == 2
    assert database.execute("SELECT pos FROM bridge.floor") == [(2,)]


@pytest.mark.parametrize("more", [1, 2])
def test_position_that_was_given_again_begins_an_epoch(
    database: Database, more: int
) -> None:
    epoch, entry = entries(database, 3)
    set_back(database)
    same, last = entries(database, more)
    assert same == epoch

    other, _ = check(database, [epoch], *entry)

    if more == 1:
        assert last[:2] == entry[:2]  # only its moment tells it
    assert other != epoch


def test_epoch_that_is_over_begins_another(database: Database) -> None:
    epoch, entry = entries(database, 3)

    other, _ = check(database, [epoch, "later"], 9, 9, 9)

    assert other != epoch
    assert check(database, [epoch, "later", other], *entry)[0] == other


def test_entry_that_is_forgotten_tells_nothing(database: Database) -> None:
    epoch, entry = entries(database, 3)
    entries(database, 2)
    database.execute(
        "UPDATE bridge.setting SET value = '1' WHERE name = 'max_journal_rows'"
    )
    database.execute("SELECT bridge.prune()")

    assert check(database, [epoch], *entry)[0] == epoch


@pytest.mark.parametrize("column", ["identity", "timeline"])
def test_another_database_and_another_timeline_begin_an_epoch(
    database: Database, column: str
) -> None:
    epoch, entry = entries(database, 3)
    database.execute(f"UPDATE bridge.state SET {column} = 'another'")

    other, _ = check(database, [epoch], *entry)

    assert other != epoch
    assert database.execute(
        "SELECT identity = bridge.identity() AND timeline = bridge.timeline(), "
        "EXISTS (SELECT FROM bridge.journal) FROM bridge.state"
    ) == [(True, column == "timeline")]


def test_new_epoch_can_be_asked_for(database: Database) -> None:
    epoch, entry = entries(database, 3)

    [(other,)] = database.execute("SELECT bridge.begin_epoch()")

    assert other != epoch
    assert check(database, [epoch], *entry) == (other, entry)
    assert database.execute("SELECT pos FROM bridge.floor") == [(3,)]


def test_role_of_the_workers_may_ask_after_an_upgrade_that_does_not_name_it(
    database: Database,
) -> None:
    role = f"worker_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN")
    try:
        install(Address(database.url), role)
        database.execute(
            "DROP FUNCTION bridge.check_seen(text[], bigint, bigint, bigint)"
        )

        install(Address(database.url), None)

        theirs = Database.of(make_dsn(database.url, user=role))
        assert check(theirs, None)[1] == (0, None, None)
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_migrations_leave_nothing_undone_between(database: Database) -> None:
    """Writers and workers go on while one file after another is run."""
    for _, migration in migrations():
        database.execute(migration)
        database.publish("a", "x")
        assert database.execute("SELECT bridge.step()") == [(1,)]
