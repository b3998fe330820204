"""Schema ``bridge``: install, upgrade, remove; which version is there.

The migrations are numbered SQL files that ``psql -f`` runs as well. What they
create says what it is in comments; the version is in ``bridge.state``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from typing import Any

from bridge.postgres.address import Address
from bridge.postgres.session import Denied, Session, connect, execute
from bridge.values.channels import check_pattern
from bridge.values.errors import DatabaseError

__all__ = [
    "GRANT",
    "VERSION",
    "EmptyTable",
    "NoSchema",
    "check_presence",
    "check_version",
    "durable",
    "install",
    "migrations",
    "saying_who_grants",
    "status",
    "uninstall",
    "upgrade",
]


class NoSchema(DatabaseError):
    """There is no schema ``bridge`` of ours."""

    def __init__(self) -> None:
        super().__init__("there is no schema bridge: run  pgbridge install")


class EmptyTable(DatabaseError):
    """Somebody has emptied a table of the schema that always has a row."""

    def __init__(self) -> None:
        super().__init__(
            "somebody has emptied bridge.state, bridge.floor or bridge.tick: "
            "run  pgbridge upgrade"
        )


GRANT = "run  pgbridge install --worker-role ROLE  as the owner of schema bridge"
"""What helps a worker whose role may not read the journal."""


def migrations() -> list[tuple[str, str]]:
    """Return name and text of each migration, in order."""
    folder = files("bridge.sql") / "migrations"
    found = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted((file.name, file.read_text(encoding="utf-8")) for file in found)


VERSION = 3
"""The last migration; a test holds it against the files."""

_IS_OURS = """
SELECT obj_description(n.oid, 'pg_namespace') LIKE 'pgbridge%'
FROM pg_catalog.pg_namespace AS n
WHERE n.nspname = 'bridge'
"""

_MISSING = """
SELECT pg_catalog.to_regclass('bridge.state') IS NULL
"""


def check_presence(session: Session) -> None:
    """Check that something is installed.

    Raises:
        NoSchema: nothing is.
    """
    ours = session.execute(_IS_OURS)
    if not ours or not ours[0][0] or session.execute(_MISSING) == [(True,)]:
        raise NoSchema


@contextmanager
def saying_who_grants() -> Iterator[None]:
    """Have a `Denied` that is raised say what to run."""
    try:
        yield
    except Denied as exc:
        raise Denied(f"{exc}: {GRANT}") from exc


def check_version(session: Session) -> None:
    """Check that a worker can serve what is installed.

    Raises:
        DatabaseError: it is too old or too new.
        LockTimeout: somebody else holds a lock on it.
        Denied: the role may not read it.
    """
    with saying_who_grants():
        rows = session.execute("SELECT version FROM bridge.state")
    if not rows:
        raise EmptyTable
    [(version,)] = rows
    if version not in (VERSION - 1, VERSION):
        raise DatabaseError(
            f"schema bridge has version {version}, this pgbridge serves "
            f"{VERSION - 1} and {VERSION}: run  pgbridge upgrade"
        )


def install(address: Address, worker_role: str | None) -> int:
    """Install, or upgrade; safe to run twice. Returns the version.

    Args:
        worker_role: the role of the workers when it is not the owner.

    Raises:
        DatabaseError: PostgreSQL refuses, or the schema is not ours.
    """
    with closing(connect(address)) as connection:
        for _, migration in migrations():
            execute(connection, migration)
        if worker_role is not None:
            execute(
                connection,
                "SELECT bridge.grant_to_worker(quote_ident(%s)::regrole)",
                (worker_role,),
            )
        [(version,)] = execute(connection, "SELECT version FROM bridge.state")
        _tell_workers(connection, "schema")
    return int(version)


def upgrade(address: Address, worker_role: str | None) -> int:
    """Install where something is installed. Returns the version.

    Raises:
        NoSchema: nothing is installed.
        DatabaseError: PostgreSQL refuses.
    """
    with closing(connect(address)) as connection:
        _require(connection)
    return install(address, worker_role)


def uninstall(address: Address) -> None:
    """Drop the schema, and with it everything that is kept.

    Gives up soon when a transaction that has published is open: writers would
    have to wait for it as well.

    Raises:
        NoSchema: nothing is installed.
        DatabaseError: PostgreSQL refuses.
    """
    with closing(connect(address)) as connection:
        _require(connection)
        execute(connection, "SET lock_timeout = '3s'")
        try:
            execute(connection, "DROP SCHEMA bridge CASCADE")
        except DatabaseError as exc:
            raise DatabaseError(
                f"{exc}: is a transaction open that has published? Nothing was "
                "dropped, try again"
            ) from exc


def status(address: Address) -> dict[str, Any]:
    """Return the row of ``bridge.status`` by column.

    Raises:
        NoSchema: nothing is installed.
        DatabaseError: PostgreSQL refuses.
    """
    with closing(connect(address)) as connection:
        _require(connection)
        rows = execute(connection, "SELECT row_to_json(s) FROM bridge.status AS s")
    if not rows:
        raise EmptyTable
    [(found,)] = rows
    return dict(found)


def durable(address: Address, *, add: str | None, remove: str | None) -> list[str]:
    """Change the patterns of durable channels, and return them.

    Raises:
        NoSchema: nothing is installed.
        BadChannel: the pattern to add cannot be one.
        DatabaseError: PostgreSQL refuses, or there is no pattern to remove.
    """
    with closing(connect(address)) as connection:
        _require(connection)
        if add is not None:
            execute(
                connection,
                "INSERT INTO bridge.durable_channel VALUES (%s) ON CONFLICT DO NOTHING",
                (check_pattern(add),),
            )
        if remove is not None:
            query = "DELETE FROM bridge.durable_channel WHERE pattern = %s RETURNING 1"
            if not execute(connection, query, (remove,)):
                raise DatabaseError(f"pattern {remove!r} is not there to be removed")
        if add is not None or remove is not None:
            _tell_workers(connection, "patterns")
        return list(_patterns(connection))


def _tell_workers(connection: Any, what: str) -> None:
    """Have the workers look now, and not in some seconds."""
    execute(connection, "SELECT pg_catalog.pg_notify('bridge_journal', %s)", (what,))


def _patterns(connection: Any) -> Iterator[str]:
    query = "SELECT pattern FROM bridge.durable_channel ORDER BY pattern"
    for (pattern,) in execute(connection, query):
        yield pattern


def _require(connection: Any) -> None:
    ours = execute(connection, _IS_OURS)
    if not ours or not ours[0][0]:
        raise NoSchema
