"""What runs queries; and the plain blocking session, without gevent, that the
command line uses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any, Protocol

import psycopg2
from psycopg2.extensions import connection as PgConnection

from bridge.postgres.address import Address
from bridge.postgres.texts import Texts, client_encoding, knows_no_codec
from bridge.values.errors import DatabaseError

__all__ = [
    "BlockingSession",
    "Denied",
    "LockTimeout",
    "Session",
    "connect",
    "execute",
    "publish",
]

CONNECT_TIMEOUT = "10"
"""Seconds, unless the URL says otherwise."""

MAX_NOTIFY_BYTES = 7999
"""Of a payload (PostgreSQL, NOTIFY)."""

_NO_PUBLISH = "SELECT to_regprocedure('bridge.publish(text, text)') IS NULL"


class LockTimeout(DatabaseError):
    """Somebody else held a lock for longer than is waited for."""


class Denied(DatabaseError):
    """The session's role may not do that."""


def connect(address: Address) -> PgConnection:
    """Open a session in autocommit mode.

    Raises:
        DatabaseError: it cannot be had.
    """
    dsn = address.dsn(connect_timeout=CONNECT_TIMEOUT)
    try:
        try:
            connection = psycopg2.connect(dsn)
        except psycopg2.Error as exc:
            if not knows_no_codec(exc):
                raise
            connection = psycopg2.connect(f"{dsn} client_encoding=SQL_ASCII")
    except psycopg2.Error as exc:
        raise DatabaseError(f"cannot connect to {address}: {exc}".strip()) from exc
    connection.autocommit = True
    # A site's role may be read-only unless somebody asks for more.
    execute(connection, "SET default_transaction_read_only = off")
    return connection


def execute(
    connection: PgConnection, query: str, arguments: Sequence[Any] | None = None
) -> list[Any]:
    """Run a query string and return its rows, the last statement's.

    Raises:
        DatabaseError: PostgreSQL refuses.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, arguments)
            return cursor.fetchall() if cursor.description else []
    except (psycopg2.Error, ValueError) as exc:  # ValueError: NUL, encoding
        raise DatabaseError(str(exc).strip()) from exc


class Session(Protocol):
    """What runs a query and waits for its rows, in whichever way."""

    def execute(self, query: str, arguments: Sequence[object] = ()) -> list[Any]:
        """Run a query string and return its rows, the last statement's."""


class BlockingSession:
    """A `Session` that makes the whole process wait, in the server's encoding."""

    def __init__(self, connection: PgConnection) -> None:
        server = connection.get_parameter_status("server_encoding") or "UTF8"
        connection.set_client_encoding(client_encoding(server))
        self._connection = connection
        self.texts = Texts(connection)

    def execute(self, query: str, arguments: Sequence[object] = ()) -> list[Any]:
        """Run a query string and return its rows, the last statement's."""
        query, arguments = self.texts.statement(query, arguments)
        rows = execute(self._connection, query, arguments or None)
        return self.texts.rows(rows)


def publish(address: Address, channel: str, payload: str, *, durable: bool) -> None:
    """Publish one notification.

    Args:
        durable: through the journal.

    Raises:
        DatabaseError: PostgreSQL is away or refuses, or would refuse the
            payload: 8,000 bytes or more that are not durable, no text.
    """
    _check_payload(payload, durable)
    function = "bridge.publish" if durable else "pg_catalog.pg_notify"
    with closing(connect(address)) as connection:
        if durable:
            _require_journal(connection)
        execute(connection, f"SELECT {function}(%s, %s)", (channel, payload))


def _check_payload(payload: str, durable: bool) -> None:
    try:
        size = len(payload.encode())
    except UnicodeEncodeError:
        raise DatabaseError("the payload is not UTF-8") from None
    if "\0" in payload:
        raise DatabaseError("the payload has a NUL character, which no text may have")
    if size > MAX_NOTIFY_BYTES and not durable:
        raise DatabaseError(
            f"the payload has {size:,} bytes: pg_notify takes {MAX_NOTIFY_BYTES:,}, "
            "a durable channel more (--durable)"
        )


def _require_journal(connection: PgConnection) -> None:
    if execute(connection, _NO_PUBLISH) == [(True,)]:
        raise DatabaseError("there is no schema bridge: run  pgbridge install")
