"""A plain blocking session: what the command line needs, without gevent."""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import psycopg2
from psycopg2.extensions import connection as PgConnection

from bridge.errors import DatabaseError
from bridge.postgres.address import Address
from bridge.postgres.quoting import quote_channel

__all__ = ["listen", "publish"]

CONNECT_TIMEOUT = "10"
"""Seconds, unless the URL says otherwise."""


def publish(address: Address, channel: str, payload: str) -> None:
    """Publish one notification.

    Raises:
        DatabaseError: PostgreSQL is away or refuses, for example a payload of
            8,000 bytes or more.
    """
    with closing(_connect(address)) as connection:
        _execute(connection, "SELECT pg_catalog.pg_notify(%s, %s)", (channel, payload))


def listen(address: Address, channels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield `channel`, `payload` and `pid` of each notification, for ever.

    Raises:
        DatabaseError: PostgreSQL is away, or goes away.
    """
    with closing(_connect(address)) as connection:
        for channel in channels:
            _execute(connection, f"LISTEN {quote_channel(connection, channel)}")
        while True:
            for notify in connection.notifies:
                yield {
                    "channel": notify.channel,
                    "payload": notify.payload,
                    "pid": notify.pid,
                }
            connection.notifies.clear()
            select.select([connection], [], [])
            try:
                connection.poll()
            except psycopg2.Error as exc:
                raise DatabaseError(f"the connection is lost: {exc}".strip()) from exc


def _connect(address: Address) -> PgConnection:
    try:
        connection = psycopg2.connect(address.dsn(connect_timeout=CONNECT_TIMEOUT))
    except psycopg2.Error as exc:
        raise DatabaseError(f"cannot connect to {address}: {exc}".strip()) from exc
    connection.autocommit = True
    return connection


def _execute(
    connection: PgConnection,
    query: str,
    arguments: Sequence[str] | None = None,
) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, arguments)
    except (psycopg2.Error, ValueError) as exc:  # ValueError: NUL, encoding
        raise DatabaseError(str(exc).strip()) from exc
