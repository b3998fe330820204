"""A plain blocking session: what the command line needs, without gevent."""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import psycopg2
from psycopg2.extensions import connection as PgConnection
from psycopg2.extensions import encodings

from bridge.cursor import Cursor
from bridge.errors import DatabaseError
from bridge.postgres.address import Address
from bridge.postgres.quoting import quote_channel

__all__ = ["connect", "execute", "follow", "listen", "publish"]

CONNECT_TIMEOUT = "10"
"""Seconds, unless the URL says otherwise."""

POLL_INTERVAL = 1.0
"""Seconds between two looks at the journal when nobody says that it moved."""

FOLLOW_ENTRIES = 500
"""Entries of the journal that are read at a time."""


MAX_NOTIFY_BYTES = 7999
"""Of a payload (PostgreSQL, NOTIFY)."""

_NO_PUBLISH = "SELECT to_regproc('bridge.publish') IS NULL"


def connect(address: Address) -> PgConnection:
    """Open a session in autocommit mode.

    Raises:
        DatabaseError: it cannot be had.
    """
    try:
        connection = psycopg2.connect(address.dsn(connect_timeout=CONNECT_TIMEOUT))
    except psycopg2.Error as exc:
        raise DatabaseError(f"cannot connect to {address}: {exc}".strip()) from exc
    connection.autocommit = True
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


def listen(address: Address, channels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield `channel`, `payload` and `pid` of each notification, for ever.

    Raises:
        DatabaseError: PostgreSQL is away, or goes away.
    """
    with closing(connect(address)) as connection:
        for channel in channels:
            quoted = quote_channel(channel, encodings[connection.encoding])
            execute(connection, f"LISTEN {quoted}")
        while True:
            for notify in connection.notifies:
                yield {
                    "channel": notify.channel,
                    "payload": notify.payload,
                    "pid": notify.pid,
                }
            connection.notifies.clear()
            _wait(connection, None)


def follow(
    address: Address, channels: Sequence[str], after: Cursor
) -> Iterator[dict[str, Any]]:
    """Yield `channel`, `payload` and `cursor` of each kept entry, for ever.

    Args:
        after: where to begin.

    Raises:
        DatabaseError: PostgreSQL is away or goes away, or what comes next is
            not kept any more.
    """
    with closing(connect(address)) as connection:
        _require_journal(connection)
        execute(connection, "LISTEN bridge_journal")
        position = after.position
        while True:
            rows = execute(
                connection,
                """
                SELECT s.epoch, f.pos, t.pos, j.pos, j.channel, o.payload
                FROM bridge.state AS s
                CROSS JOIN bridge.floor AS f
                CROSS JOIN (
                    SELECT pos FROM bridge.tick ORDER BY pos DESC LIMIT 1
                ) AS t
                LEFT JOIN LATERAL (
                    SELECT * FROM bridge.journal
                    WHERE pos > %s AND pos <= t.pos AND channel = ANY (%s)
                    ORDER BY pos
                    LIMIT %s
                ) AS j ON true
                LEFT JOIN bridge.outbox AS o ON o.id = j.id
                ORDER BY j.pos
                """,
                (position, list(channels), FOLLOW_ENTRIES),
            )
            epoch, floor, newest = rows[0][:3]
            if epoch != after.epoch:
                raise DatabaseError(
                    f"cursor {str(after)!r} is of another epoch than {epoch!r}"
                )
            if position > newest:
                raise DatabaseError(
                    f"cursor {str(after)!r} is ahead of the journal, "
                    f"which is at {newest}"
                )
            if position < floor:
                raise DatabaseError("what comes next is not kept any more")
            entries = [row[3:] for row in rows if row[3] is not None]
            for at, channel, payload in entries:
                cursor = str(Cursor(epoch, at))
                yield {"channel": channel, "payload": payload, "cursor": cursor}
            if len(entries) < FOLLOW_ENTRIES:
                position = newest
                connection.notifies.clear()
                _wait(connection, POLL_INTERVAL)
            else:
                position = entries[-1][0]


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


def _wait(connection: PgConnection, timeout: float | None) -> None:
    """Wait for notifications, and read them."""
    select.select([connection], [], [], timeout)
    try:
        connection.poll()
    except psycopg2.Error as exc:
        raise DatabaseError(f"the connection is lost: {exc}".strip()) from exc
