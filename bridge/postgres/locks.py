"""Locks on schema bridge: our own two, and whose locks are in the way.

Nothing that an application leaves open may hold up sequencing for long, so the
sessions on the journal wait for a lock for two seconds. What cannot be helped
while somebody holds one is said, with who it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bridge.postgres.connection import Connection
from bridge.postgres.session import LockTimeout
from bridge.values.errors import DatabaseError

__all__ = [
    "DOOR",
    "LEADER",
    "end_leader",
    "fence_holders",
    "naming_blockers",
    "try_lock",
    "unlock",
]

DOOR, LEADER = 1, 2
"""The second key of the advisory locks; the first is ``bridge.lock_class()``."""

SILENT_AFTER = 2.0
"""Seconds without a statement after which a sequencer is frozen: one that is
awake steps many times a second, one that sleeps looks once a second."""

_TABLE_LOCKS = """
WITH strong AS (
    SELECT l.pid, l.granted, c.relname
    FROM pg_catalog.pg_locks AS l
    JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
    WHERE l.locktype = 'relation'
    AND l.database = (SELECT oid FROM pg_catalog.pg_database
        WHERE datname = pg_catalog.current_database())
    AND c.relnamespace = 'bridge'::pg_catalog.regnamespace
    AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
        'AccessExclusiveLock')
),
-- Who only waits for such a lock has everybody else wait behind it.
holder AS (
    SELECT pid, relname FROM strong WHERE granted
    UNION
    SELECT pg_catalog.unnest(pg_catalog.pg_blocking_pids(pid)), relname
    FROM strong WHERE NOT granted
)
SELECT h.pid, 'bridge.' || pg_catalog.min(h.relname), a.usename, a.state
FROM holder AS h
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = h.pid
WHERE h.pid <> pg_catalog.pg_backend_pid()
GROUP BY h.pid, a.usename, a.state
ORDER BY h.pid
"""

_ROW_LOCKS = """
SELECT a.pid, t.name, a.usename, a.state
FROM (
    SELECT xmax, 'bridge.state' AS name FROM bridge.state
    UNION ALL
    SELECT xmax, 'bridge.floor' FROM bridge.floor
) AS t
JOIN pg_catalog.pg_stat_activity AS a ON a.backend_xid = t.xmax
WHERE a.pid <> pg_catalog.pg_backend_pid()
-- Who steps holds the fence, for as long as there is something to do.
AND NOT (a.state = 'active' AND a.query LIKE 'SELECT bridge.%')
"""

_END_LEADER = """
SELECT l.pid, pg_catalog.pg_terminate_backend(l.pid)
FROM pg_catalog.pg_locks AS l
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted
AND l.database = (SELECT oid FROM pg_catalog.pg_database
    WHERE datname = pg_catalog.current_database())
AND l.classid = bridge.lock_class()::oid AND l.objid = %s AND l.objsubid = 2
-- NULL: PostgreSQL does not say (track_activities).
AND coalesce(
    a.state <> 'active'
    AND a.state_change < pg_catalog.clock_timestamp() - %s * interval '1 second',
    true
)
"""


def try_lock(connection: Connection, key: int) -> bool:
    """Take an advisory lock of ours for this session unless somebody has it."""
    [(locked,)] = connection.execute(
        "SELECT pg_catalog.pg_try_advisory_lock(bridge.lock_class(), %s)", (key,)
    )
    return bool(locked)


def unlock(connection: Connection, key: int) -> None:
    """Let an advisory lock of ours go."""
    connection.execute(
        "SELECT pg_catalog.pg_advisory_unlock(bridge.lock_class(), %s)", (key,)
    )


def end_leader(connection: Connection) -> list[int]:
    """End the session of a sequencer that runs no statement any more.

    Returns:
        Its backend; none: it is not frozen, or gone.
    """
    found = connection.execute(_END_LEADER, (LEADER, SILENT_AFTER))
    return [pid for pid, _ in found]


@contextmanager
def naming_blockers(connection: Connection) -> Iterator[None]:
    """Have a `LockTimeout` that is raised say whose lock is in the way."""
    try:
        yield
    except LockTimeout as exc:
        holders = []
        with suppress(DatabaseError):
            holders = _told(connection.execute(_TABLE_LOCKS)) or fence_holders(
                connection
            )
        raise LockTimeout("; ".join(holders) or str(exc)) from exc


def fence_holders(connection: Connection) -> list[str]:
    """Tell who locks the rows that a step needs without being a step itself.

    Raises:
        LockTimeout: the tables cannot be read.
    """
    return _told(connection.execute(_ROW_LOCKS))


def _told(rows: list[tuple[int, str, str | None, str | None]]) -> list[str]:
    return [
        f"backend {pid} ({user or '-'}, {state or '-'}) holds a lock on {table}: "
        f"end its transaction, or  SELECT pg_terminate_backend({pid})"
        for pid, table, user, state in rows
    ]
