"""What the sessions on the journal share: how they are opened."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2.extensions

from bridge.postgres.address import Address
from bridge.postgres.connection import Connection

__all__ = ["JournalOptions"]

PRIMARY = "primary" if psycopg2.extensions.libpq_version() >= 140000 else "read-write"
"""Of target_session_attrs. The latter also refuses a role whose transactions are
read-only by default, which a session can change."""

MAX_LOCK_WAIT = 2.0
"""Seconds; longer than PostgreSQL waits before it sends autovacuum away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOptions:
    """What the sessions on the journal share.

    Attributes:
        timeout: seconds for connecting, and for each statement.
        max_payload_bytes: of a longer one the client is told, and not more.
    """

    address: Address
    timeout: float
    application_name: str
    max_payload_bytes: int

    def connect(self) -> Connection:
        """Open a session that may write, and waits for no lock for long.

        Raises:
            DatabaseError: it cannot be had.
        """
        connection = Connection(
            self.address,
            timeout=self.timeout,
            application_name=self.application_name,
            # A standby's snapshots say nothing about what will commit.
            options={"target_session_attrs": PRIMARY},
        )
        try:
            patience = min(MAX_LOCK_WAIT, self.timeout / 2)
            connection.execute(f"SET lock_timeout = '{1000 * patience:.0f}ms'")
        except BaseException:
            connection.close()
            raise
        return connection
