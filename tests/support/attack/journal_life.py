"""What may happen to the journal under the pages' feet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress

import psycopg2

from bridge.postgres import schema
from bridge.postgres.address import Address
from bridge.values.errors import DatabaseError
from support.attack import chronicle
from support.postgres import Database, make_durable
from support.waiting import wait_until

__all__ = ["begin_epoch", "install_anew", "keep_little", "prune"]


def keep_little(database: Database, rows: int) -> None:
    """Let retention leave so many entries."""
    database.execute(
        "UPDATE bridge.setting SET value = %s WHERE name = 'max_journal_rows'",
        str(rows),
    )


def prune(database: Database) -> None:
    """Forget now what the sequencer would within ten seconds."""
    database.execute("SELECT bridge.prune()")


def begin_epoch(database: Database) -> None:
    """Begin a new epoch, as after a failover."""
    with closing(database.connect(autocommit=False)) as session:
        with session.cursor() as cursor:
            # Who steps holds this lock.
            cursor.execute("SELECT FROM bridge.state WHERE one FOR UPDATE")
            cursor.execute("SELECT bridge.start_epoch(max(pos)) FROM bridge.tick")
        session.commit()


def install_anew(database: Database) -> None:
    """Remove schema bridge and install it again, whatever is killed meanwhile."""
    wait_until(lambda: _works(lambda: _uninstall(Address(database.url))))
    wait_until(lambda: _works(lambda: make_durable(database)))
    wait_until(lambda: _works(lambda: chronicle.attach(database)))


def _uninstall(address: Address) -> None:
    with suppress(schema.NoSchema):
        schema.uninstall(address)


def _works(do: Callable[[], None]) -> bool:
    """Whether it could be done: the database, or a lock, may be in the way."""
    try:
        do()
    except psycopg2.errors.DuplicateObject:
        return True  # it had been done, and nobody could say so
    except (psycopg2.Error, DatabaseError):
        return False
    return True
