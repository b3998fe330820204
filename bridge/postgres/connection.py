"""One cooperative connection: psycopg2 in asynchronous mode under gevent.

An asynchronous connection of psycopg2 is always in autocommit mode and never
blocks; this module waits for it with gevent's `select`, under a deadline.
(psycopg2's process-wide wait callback is not used: it belongs to the
application, and it ignores connect_timeout.)

Who calls this: one greenlet at a time, the one that owns the connection.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gevent
import psycopg2
from gevent import select, socket
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE
from psycopg2.extensions import connection as PgConnection

from bridge.errors import DatabaseError
from bridge.postgres.address import Address

__all__ = ["Connection", "Late"]

SESSION_SETTINGS = {
    # A listener is idle by design.
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
    # The server's side of noticing a dead peer. A worker that is frozen stops
    # reading; its session would pin the notification queue of the cluster.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""Set where the server knows them; idle_session_timeout came with 14."""

MAX_READ_ROUNDS = 16
"""Reads in one `poll`, so that a flood of notifications is handed on in time."""


class Late(DatabaseError):
    """PostgreSQL did not answer before the deadline."""


class Connection:
    """A session on the database.

    Args:
        address: where to connect; read anew here.
        timeout: seconds for connecting, and for each statement by default.
        application_name: what ``pg_stat_activity`` shows.

    Raises:
        DatabaseError: the connection could not be made; `Late` when it took
            too long.
    """

    def __init__(
        self, address: Address, *, timeout: float, application_name: str
    ) -> None:
        self._timeout = timeout
        options = {
            "fallback_application_name": application_name,
            # libpq would talk to the Kerberos libraries, which block.
            "gssencmode": "disable",
        }
        dsn = address.dsn(_resolver(timeout), **options)
        self._pg = self._open(dsn)
        encoding = self._pg.get_parameter_status("server_encoding") or "UTF8"
        if self._pg.get_parameter_status("client_encoding") != encoding:
            # PGCLIENTENCODING or the role ask for a conversion; one character
            # that it cannot make would end the session of every listener.
            self.close()
            self._pg = self._open(f"{dsn} client_encoding={encoding}")
        try:
            names = ", ".join(f"('{k}', '{v}')" for k, v in SESSION_SETTINGS.items())
            self.execute(
                "SELECT set_config(name, value, false) "
                f"FROM (VALUES {names}) AS wanted (name, value) "
                "JOIN pg_catalog.pg_settings USING (name)"
            )
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """The socket's number, for `select`."""
        return self._pg.fileno()

    @property
    def pid(self) -> int:
        """The process number of the session's backend."""
        return self._pg.get_backend_pid()

    @property
    def raw(self) -> PgConnection:
        """psycopg2's object, for quoting."""
        return self._pg

    def execute(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """Run one query string and return its rows.

        Notifications that arrive meanwhile are kept for `notifications`.

        Raises:
            DatabaseError: PostgreSQL refused or the connection is lost.
            Late: no answer within the timeout.
        """
        try:
            cursor = self._pg.cursor()
            cursor.execute(query, arguments or None)
            self._wait(self._timeout)
            return cursor.fetchall() if cursor.description else []
        except psycopg2.Error as exc:
            raise _translated(exc) from exc

    def read(self) -> None:
        """Take what has arrived, without waiting.

        Raises:
            DatabaseError: the connection is lost.
        """
        try:
            seen = -1
            for _ in range(MAX_READ_ROUNDS):
                # One poll reads what the socket holds and parses a part of it.
                if len(self._pg.notifies) == seen:
                    return
                seen = len(self._pg.notifies)
                self._pg.poll()
        except psycopg2.Error as exc:
            raise _translated(exc) from exc

    def notifications(self) -> list[tuple[str, str]]:
        """Hand over the (channel, payload) pairs that arrived, oldest first."""
        found = [(notify.channel, notify.payload) for notify in self._pg.notifies]
        del self._pg.notifies[:]
        return found

    def close(self) -> None:
        """End the session. Safe to call twice."""
        self._pg.close()

    def _open(self, dsn: str) -> PgConnection:
        try:
            self._pg = psycopg2.connect(dsn, async_=1)
        except psycopg2.Error as exc:
            raise _translated(exc) from exc
        try:
            self._wait(self._timeout)
        except psycopg2.Error as exc:
            self.close()
            raise _translated(exc) from exc
        except BaseException:
            self.close()
            raise
        return self._pg

    def _wait(self, timeout: float) -> None:
        """Poll until psycopg2 is done, at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        extended = False
        while True:
            state = self._pg.poll()
            if state == POLL_OK:
                return
            reading = [self._pg] if state == POLL_READ else []
            writing = [self._pg] if state == POLL_WRITE else []
            left = max(0.0, deadline - time.monotonic())
            ready = select.select(reading, writing, [], left)
            if ready[0] or ready[1] or time.monotonic() < deadline:
                continue
            if not extended and time.monotonic() - deadline > 1.0:
                # This process itself was late; the answer may be there.
                deadline, extended = time.monotonic() + timeout, True
                continue
            raise Late(f"PostgreSQL did not answer within {timeout:g} s")


def _resolver(timeout: float) -> Any:
    def resolve(host: str) -> list[str]:
        with gevent.Timeout(timeout, OSError(f"no answer within {timeout:g} s")):
            found = socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    return resolve


def _translated(exc: psycopg2.Error) -> DatabaseError:
    text = " ".join(str(exc).split())
    return DatabaseError(text or type(exc).__name__)
