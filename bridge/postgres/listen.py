"""What is published to some channels, as a shell wants to see it.

Of plain channels what NOTIFY sends; where one is durable the journal as well.
"""

from __future__ import annotations

import selectors
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import psycopg2
from psycopg2.extensions import connection as PgConnection

from bridge.postgres.address import Address
from bridge.postgres.journal_reader import TAIL_ENTRIES, JournalReader, Tail
from bridge.postgres.schema import EmptyTable, check_presence, check_version
from bridge.postgres.session import BlockingSession, connect
from bridge.values.channels import (
    MAX_CHANNEL_BYTES,
    MAX_LISTEN_BYTES,
    Patterns,
    check_channel,
    not_encodable,
)
from bridge.values.cursor import Cursor, parse_cursor
from bridge.values.errors import DatabaseError
from bridge.values.message import Gap

__all__ = ["listen"]

POLL_INTERVAL = 1.0
"""Seconds between two looks at the journal when nobody says that it moved."""

MAX_PAYLOAD_BYTES = 1 << 30
"""What PostgreSQL can store."""

_NO_PATTERNS = "SELECT to_regclass('bridge.durable_channel') IS NULL"


def listen(
    address: Address, channels: Sequence[str], after: Cursor | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what is published, for ever.

    A notification has `channel`, `payload` and `pid`; an entry of the journal
    `channel`, `payload` (None: it was purged) and `cursor`.

    Args:
        after: entries of the journal after this one, and those to come. None:
            those to come, if one of the channels is durable.

    Raises:
        BadChannel: there can be no such channel.
        DatabaseError: PostgreSQL is away or goes away, or what comes next in
            the journal is not kept any more, or this role may not read it.
    """
    with closing(connect(address)) as connection:
        session = BlockingSession(connection)
        kept = after is not None or _some_are_durable(session, channels)
        for channel in channels:
            check_channel(channel, MAX_CHANNEL_BYTES if kept else MAX_LISTEN_BYTES)
            if not session.texts.can_encode(channel):
                raise not_encodable(channel)
            if len(channel.encode()) <= MAX_LISTEN_BYTES:
                session.execute(f"LISTEN {session.texts.quote(channel)}")
        journal = _Journal(session, channels, after) if kept else None
        while True:
            yield from _notifications(connection, session, channels)
            if journal is not None:
                yield from journal.read()
            if not connection.notifies:
                _wait(connection, POLL_INTERVAL if kept else None)


class _Journal:
    """The journal from a position on; the session listens to its hints."""

    def __init__(
        self, session: BlockingSession, channels: Sequence[str], after: Cursor | None
    ) -> None:
        check_presence(session)
        check_version(session)
        session.execute("LISTEN bridge_journal")
        self._reader = JournalReader(session, MAX_PAYLOAD_BYTES, _missing)
        self._wanted = frozenset(channels).__contains__
        if after is None:
            [(now,)] = session.execute("SELECT bridge.cursor()")
            if now is None:
                raise EmptyTable
            after = parse_cursor(now)
        self._after = after
        self._position = after.position

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield what has come."""
        more = True
        while more:
            tail = self._reader.tail(self._position)
            self._check(tail)
            for entries in self._reader.entries(tail.rows, self._wanted):
                for entry in entries:
                    if self._wanted(entry.channel):
                        payload = entry.payload
                        yield {
                            "channel": entry.channel,
                            "payload": payload if isinstance(payload, str) else None,
                            "cursor": str(Cursor(tail.epoch, entry.position)),
                        }
                self._position = entries[-1].position
            more = len(tail.rows) == TAIL_ENTRIES

    def _check(self, tail: Tail) -> None:
        after = str(self._after)
        if tail.epoch != self._after.epoch:
            raise DatabaseError(
                f"cursor {after!r} is of another epoch than {tail.epoch!r}"
            )
        if self._position > tail.newest:
            raise DatabaseError(
                f"cursor {after!r} is ahead of the journal, which is at {tail.newest}"
            )
        if self._position < tail.floor:
            raise DatabaseError("what comes next is not kept any more")


def _missing(channel: str, position: int, reason: str) -> Gap:
    return Gap(channel, reason, 0.0)


def _some_are_durable(session: BlockingSession, channels: Sequence[str]) -> bool:
    if session.execute(_NO_PATTERNS) == [(True,)]:
        return False
    rows = session.execute("SELECT pattern FROM bridge.durable_channel")
    patterns = Patterns([pattern for (pattern,) in rows])
    return any(map(patterns.match, channels))


def _notifications(
    connection: PgConnection, session: BlockingSession, channels: Sequence[str]
) -> Iterator[dict[str, Any]]:
    found, connection.notifies = connection.notifies, []
    for notify in session.texts.notifications(found):
        if notify.channel in channels:
            yield {
                "channel": notify.channel,
                "payload": notify.payload,
                "pid": notify.pid,
            }


def _wait(connection: PgConnection, timeout: float | None) -> None:
    """Wait for notifications, and read them."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.select(timeout)
    try:
        connection.poll()
    except psycopg2.Error as exc:
        raise DatabaseError(f"the connection is lost: {exc}".strip()) from exc
