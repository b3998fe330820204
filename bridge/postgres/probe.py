"""Can this session listen? Asked at each connect, because much lies.

A pooler in transaction mode accepts LISTEN and delivers nothing: the page is
"connected, but nothing comes". So a notification is sent and waited for. A
session that is its own server process can send it itself. One behind a pooler
(whose process number is not the one that PostgreSQL says) could be sent its own
answer on a borrowed server process; there another session sends it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import closing

from bridge.postgres.connection import Connection
from bridge.values.errors import DatabaseError

__all__ = ["probe"]

POOLER = (
    "LISTEN is accepted and nothing is delivered: a pooler in transaction mode is "
    "between pgbridge and PostgreSQL; give pgbridge the server's own address, or "
    "a pool in session mode"
)


def probe(
    connection: Connection, connect: Callable[[], Connection], timeout: float
) -> None:
    """Send a notification and see it come back.

    Args:
        connect: opens another session the same way.
        timeout: seconds until it counts as lost.

    Raises:
        DatabaseError: it does not come, or LISTEN is refused; says what to do.
    """
    channel = f"bridge_probe_{secrets.token_hex(8)}"
    try:
        connection.execute(f"LISTEN {channel}")
    except DatabaseError as exc:
        if "recovery" in str(exc):
            raise DatabaseError(
                "this server is a standby, where nobody can listen: give pgbridge "
                "the primary, or all hosts and target_session_attrs=read-write"
            ) from exc
        raise
    notify = f"SELECT pg_catalog.pg_notify('{channel}', '')"
    if connection.execute("SELECT pg_catalog.pg_backend_pid()") == [(connection.pid,)]:
        connection.execute(notify)
    else:
        with closing(connect()) as other:
            other.execute(notify)
    until = time.monotonic() + timeout
    while not any(n.channel == channel for n in connection.notifications()):
        left = until - time.monotonic()
        if left <= 0:
            raise DatabaseError(POOLER)
        connection.select(left)
        connection.read()
    connection.execute(f"UNLISTEN {channel}")
