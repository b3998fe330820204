"""One cooperative connection: psycopg2 in asynchronous mode under gevent.

An asynchronous connection of psycopg2 is always in autocommit mode and never
blocks; this module waits for it with gevent, under a deadline.
(psycopg2's process-wide wait callback is not used: it belongs to the
application, and it ignores connect_timeout.)

Who calls this: one greenlet at a time, the one that owns the connection.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
import psycopg2
from gevent import socket
from gevent.hub import Waiter
from psycopg2.extensions import POLL_OK, POLL_READ, Notify
from psycopg2.extensions import connection as PgConnection

from bridge.postgres.address import Address
from bridge.postgres.session import Denied, LockTimeout
from bridge.postgres.texts import Texts, client_encoding, knows_no_codec
from bridge.values.errors import DatabaseError

__all__ = ["Connection", "Late"]

SESSION_SETTINGS = {
    # A listener is idle by design.
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    # Sequencing compares snapshots, one a statement.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    # The server's side of noticing a dead peer. A worker that is frozen stops
    # reading; its session would pin the notification queue of the cluster.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""Set where the server knows them; idle_session_timeout came with 14."""

MAX_READ_ROUNDS = 16
"""Polls in one `read`, so that a flood of notifications is handed on in time."""

LOCK_NOT_AVAILABLE = "55P03"
"""The error of a lock_timeout."""

INSUFFICIENT_PRIVILEGE = "42501"

_READABLE, _WRITABLE = 1, 2
"""libev's EV_READ and EV_WRITE."""

_FIRST = 2
"""libev's EV_MAXPRI: before whatever clients want in the same turn."""


class Late(DatabaseError):
    """PostgreSQL did not answer before the deadline."""


class _NoCodec(DatabaseError):
    """Python cannot read the database's encoding."""


class Connection:
    """A session on the database.

    Args:
        address: where to connect; read anew here.
        timeout: seconds for connecting, and for each statement by default.
        application_name: what ``pg_stat_activity`` shows.
        options: further libpq parameters; those of the address win.

    Raises:
        DatabaseError: the connection could not be made; `Late` when it took
            too long.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout: float,
        application_name: str,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._timeout = timeout
        #: Watches the socket for `select`; None while there is no session.
        self._watcher: Any = None
        #: What ends the `select` under way; None when there is none.
        self._waiter: Waiter[bool] | None = None
        #: `wake` was called since the last `select`.
        self._woken = False
        parameters = {
            **(options or {}),
            "fallback_application_name": application_name,
            # libpq would talk to the Kerberos libraries, which block.
            "gssencmode": "disable",
        }
        self._pg = self._open_in_its_encoding(
            address.dsn(_resolver(timeout), **parameters)
        )
        try:
            self._texts = Texts(self._pg)
            names = ", ".join(f"('{k}', '{v}')" for k, v in SESSION_SETTINGS.items())
            self.execute(
                "SELECT set_config(name, value, false) "
                f"FROM (VALUES {names}) AS wanted (name, value) "
                "JOIN pg_catalog.pg_settings USING (name)"
            )
        except BaseException:
            self.close()
            raise
        self._watcher = self._watch(_READABLE)

    @property
    def is_sql_ascii(self) -> bool:
        """Whether the server stores bytes and knows no encoding."""
        return self._texts.is_sql_ascii

    @property
    def pid(self) -> int:
        """The process number of the session's backend."""
        return self._pg.get_backend_pid()

    def quote(self, channel: str) -> str:
        """Quote a channel for LISTEN and UNLISTEN.

        Args:
            channel: without NUL (`bridge.values.channels.check_channel`).

        Raises:
            UnicodeEncodeError: the database's encoding cannot write it.
        """
        return self._texts.quote(channel)

    def can_encode(self, text: str) -> bool:
        """Tell whether the database's encoding has all of a text's characters."""
        return self._texts.can_encode(text)

    def execute(
        self, query: str, arguments: Sequence[Any] = (), timeout: float | None = None
    ) -> list[Any]:
        """Run one query string and return its rows, the last statement's.

        Notifications that arrive meanwhile are kept for `notifications`.

        Args:
            timeout: seconds; None: the connection's.

        Raises:
            DatabaseError: PostgreSQL refused or the connection is lost.
            Late: no answer within the timeout.
            LockTimeout: the session's lock_timeout is over.
            Denied: the session's role may not do that.
        """
        try:
            cursor = self._pg.cursor()
            query, arguments = self._texts.statement(query, arguments)
            cursor.execute(query, arguments or None)
            self._wait(timeout or self._timeout)
            return self._texts.rows(cursor.fetchall()) if cursor.description else []
        except psycopg2.Error as exc:
            raise _translated(exc) from exc

    def select(self, timeout: float) -> None:
        """Wait until something has arrived, `wake` is called or time is over.

        gevent's own `select` makes its watchers anew at each call and needs
        another turn of the loop when one fires: a third of the time that an
        idle worker takes to pass a notification on. And it calls the C
        function, which refuses descriptors from 1,024 on.

        Args:
            timeout: seconds.
        """
        if not self._woken:
            self._waiter = Waiter()
            try:
                _wait_for(self._watcher, self._waiter, timeout)
            finally:
                self._waiter = None
        self._woken = False

    def wake(self) -> None:
        """End the `select` under way, or else the next one at once."""
        self._woken = True
        if self._waiter is not None:
            # A waiter is switched to by the hub alone.
            gevent.get_hub().loop.run_callback(self._waiter.switch, False)

    def read(self) -> None:
        """Take what has arrived, without waiting.

        One notification that comes alone is not kept until another poll has
        shown that there are no more: call it again before `select`.

        Raises:
            DatabaseError: the connection is lost.
        """
        notifies = self._pg.notifies
        try:
            for _ in range(MAX_READ_ROUNDS):
                seen = len(notifies)
                # It reads what the socket holds and parses a part of it.
                self._pg.poll()
                if len(notifies) <= seen + 1:
                    return
        except psycopg2.Error as exc:
            raise _translated(exc) from exc

    def notifications(self) -> list[Notify]:
        """Hand over the notifications that arrived, oldest first."""
        found = self._texts.notifications(list(self._pg.notifies))
        del self._pg.notifies[:]
        return found

    def close(self) -> None:
        """End the session. Safe to call twice."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        self._pg.close()

    def _open_in_its_encoding(self, dsn: str) -> PgConnection:
        try:
            connection = self._open(dsn)
        except _NoCodec:
            connection = self._open(f"{dsn} client_encoding=SQL_ASCII")
        wanted = client_encoding(
            connection.get_parameter_status("server_encoding") or "UTF8"
        )
        if connection.get_parameter_status("client_encoding") == wanted:
            return connection
        # PGCLIENTENCODING or the role ask for another one.
        self.close()
        return self._open(f"{dsn} client_encoding={wanted}")

    def _open(self, dsn: str) -> PgConnection:
        try:
            self._pg = psycopg2.connect(dsn, async_=1)
        except psycopg2.Error as exc:
            raise _translated(exc) from exc
        try:
            self._wait(self._timeout)
        except psycopg2.Error as exc:
            self.close()
            error = _NoCodec if knows_no_codec(exc) else DatabaseError
            raise _translated(exc, error) from exc
        except BaseException:
            self.close()
            raise
        return self._pg

    def _watch(self, events: int) -> Any:
        """Make a watcher of the socket as it is now."""
        loop = gevent.get_hub().loop
        return loop.io(self._pg.fileno(), events, priority=_FIRST)

    def _wait(self, timeout: float) -> None:
        """Poll until psycopg2 is done, at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        extended = False
        while True:
            state = self._pg.poll()
            if state == POLL_OK:
                return
            # Anew each time: libpq may go on to the next address.
            watcher = self._watch(_READABLE if state == POLL_READ else _WRITABLE)
            try:
                left = max(0.0, deadline - time.monotonic())
                ready = _wait_for(watcher, Waiter(), left)
            finally:
                watcher.close()
            if ready or time.monotonic() < deadline:
                continue
            if not extended and time.monotonic() - deadline > 1.0:
                # This process itself was late; the answer may be there.
                deadline, extended = time.monotonic() + timeout, True
                continue
            raise Late(f"PostgreSQL did not answer within {timeout:g} s")


def _wait_for(watcher: Any, waiter: Waiter[bool], timeout: float) -> bool:
    """Wait for a watcher, at most `timeout` seconds; tell whether it has fired.

    Also ends, with False, when `waiter` is switched to.
    """
    timer = gevent.get_hub().loop.timer(timeout)
    watcher.start(waiter.switch, True)
    timer.start(waiter.switch, False, update=True)
    try:
        return waiter.get()
    finally:
        watcher.stop()
        timer.stop()
        timer.close()


def _resolver(timeout: float) -> Any:
    def resolve(host: str) -> list[str]:
        with gevent.Timeout(timeout, OSError(f"no answer within {timeout:g} s")):
            found = socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    return resolve


def _translated(
    exc: psycopg2.Error, error: type[DatabaseError] = DatabaseError
) -> DatabaseError:
    # Only message and hint: the rest of the text repeats the statement.
    said = exc.diag.message_primary or str(exc)
    hint = f" ({exc.diag.message_hint})" if exc.diag.message_hint else ""
    text = " ".join((said + hint).split())
    if exc.pgcode == LOCK_NOT_AVAILABLE:
        return LockTimeout(text)
    if exc.pgcode == INSUFFICIENT_PRIVILEGE:
        return Denied(text)
    return error(text or type(exc).__name__)
