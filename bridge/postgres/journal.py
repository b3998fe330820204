"""Read the journal: its tail for everybody, its past for those who are behind.

One greenlet, one session. A notification on ``bridge_journal`` is a hint to
look, and nothing else of it is believed: any role can send one. Without hints
the table is looked at once a second.

What is read goes into the feed; what the feed says is needed is read next, a
page at a time, the tail first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.event import Event

from bridge.channels import Patterns
from bridge.cursor import Cursor
from bridge.errors import DatabaseError
from bridge.feed import MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, Entry, Need, Page
from bridge.hub import Hub
from bridge.message import Gap
from bridge.postgres.address import Address
from bridge.postgres.back_off import BackOff
from bridge.postgres.connection import Connection
from bridge.postgres.schema import NoSchema, check_version
from bridge.recent import Payload
from bridge.subscription import State

__all__ = ["Journal", "JournalOptions"]

log = logging.getLogger(__name__)

POLL_INTERVAL = 1.0
"""Seconds between two looks at the tail when nobody says that it moved."""

PATTERNS_INTERVAL = 5.0
"""Seconds between two looks at the patterns of durable channels."""

SCHEMA_INTERVAL = 30.0
"""Seconds between two looks for a schema that is not there."""

TAIL_ENTRIES = 1000
"""Read at a time."""

SLICE_BYTES = 1 << 20
"""Of payloads that are read at a time, at least one."""

SESSION = """
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
SET plan_cache_mode = force_generic_plan;
PREPARE pgbridge_tail (bigint, integer) AS
SELECT s.epoch, f.pos, t.pos, j.pos, j.id, j.channel, j.bytes
FROM bridge.state AS s
CROSS JOIN bridge.floor AS f
CROSS JOIN (SELECT pos FROM bridge.tick ORDER BY pos DESC LIMIT 1) AS t
LEFT JOIN LATERAL (
    SELECT * FROM bridge.journal WHERE pos > $1 ORDER BY pos LIMIT $2
) AS j ON true;
PREPARE pgbridge_payloads (bigint[]) AS
SELECT id, payload FROM bridge.outbox WHERE id = ANY ($1);
PREPARE pgbridge_page (text, bigint, bigint, integer) AS
SELECT s.epoch, f.pos, t.pos, j.pos, j.id, j.bytes
FROM bridge.state AS s
CROSS JOIN bridge.floor AS f
CROSS JOIN (SELECT pos FROM bridge.tick ORDER BY pos DESC LIMIT 1) AS t
LEFT JOIN LATERAL (
    SELECT * FROM bridge.journal
    WHERE channel = $1 AND pos > $2 AND pos <= $3
    ORDER BY pos
    LIMIT $4
) AS j ON true;
"""
"""Index scans, planned once: what is asked does not change with statistics."""


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
        """Open a session that may write.

        Raises:
            DatabaseError: it cannot be had.
        """
        return Connection(
            self.address,
            timeout=self.timeout,
            application_name=self.application_name,
            # A standby's snapshots say nothing about what will commit.
            options={"target_session_attrs": "read-write"},
        )


class Journal:
    """Keeps the hub's feed up to date.

    Args:
        on_schema: called when the schema is found, and when it is gone.
    """

    def __init__(
        self, hub: Hub, options: JournalOptions, on_schema: Callable[[bool], None]
    ) -> None:
        self._hub = hub
        self._feed = hub.feed
        self._options = options
        self._on_schema = on_schema
        #: The session; None while there is none.
        self._connection: Connection | None = None
        #: Somebody said that the tail moved.
        self._hinted = False
        #: Somebody said that the patterns changed.
        self._patterns_due = 0.0
        #: The reason of the last loss, for the log.
        self._problem = ""
        #: Unix seconds of the last change of state.
        self._changed_at = time.time()
        #: Monotonic seconds when the tail last moved.
        self.moved_at = time.monotonic()
        #: Whether the schema is there; None: not known yet.
        self.present: bool | None = None
        #: Ends the wait between two tries.
        self._trying = Event()
        self._stopped = False
        self._greenlet: gevent.Greenlet[[], None] | None = None

    # For others.

    def describe(self) -> dict[str, object]:
        """Its state for /readyz: what everybody may know."""
        state = self._feed.state.value if self.present is not False else "none"
        return {"state": state, "since": round(self._changed_at, 3)}

    @property
    def live(self) -> bool:
        """Whether it can be read, or is not there at all."""
        return self.present is False or self._feed.state is State.LIVE

    def start(self) -> None:
        """Start the greenlet."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Tell the greenlet to end."""
        self._stopped = True
        self._trying.set()
        self.wake()

    def join(self, timeout: float) -> None:
        """Wait for the greenlet to end."""
        if self._greenlet is not None:
            self._greenlet.join(timeout)

    def wake(self) -> None:
        """The feed has work."""
        if self._connection is not None:
            self._connection.wake()

    def hint(self, payload: str = "") -> None:
        """Something came on ``bridge_journal``; it need not be true."""
        if payload == "forget":
            self._feed.forget()
        elif payload == "patterns":
            self._patterns_due = 0.0
        elif payload == "schema":
            self._trying.set()
        self._hinted = True
        self.wake()

    # The greenlet.

    def _run(self) -> None:
        back_off = BackOff(time.monotonic)
        while not self._stopped:
            delay = None
            self._trying.clear()
            try:
                with closing(self._options.connect()) as connection:
                    self._open(connection)
                    back_off.there()
                    self._serve(connection)
                    continue
            except NoSchema:
                self._absent()
                delay = SCHEMA_INTERVAL
            except DatabaseError as exc:
                self._lost(str(exc))
            except Exception:
                log.exception("journal failed", extra={"action": "journal_failed"})
                self._lost("internal error, see the log")
            finally:
                self._connection = None
            self._trying.wait(back_off.delay() if delay is None else delay)

    def _open(self, connection: Connection) -> None:
        check_version(connection)
        feed = self._feed
        seen = (feed.epoch, feed.position) if feed.epoch else (None, None)
        connection.execute("SELECT bridge.check_epoch(%s, %s)", seen)
        connection.execute(SESSION)
        [(epoch, floor, newest, *_), *_] = self._tail(connection, 0, 1)
        if self._feed.state is not State.LIVE:
            self._changed_at = time.time()
        self._connection = connection
        feed.opened(epoch, floor, newest)
        self._read_patterns(connection)
        if not self.present:
            log.info(
                "journal of schema bridge read from position %d, backend %d",
                newest,
                connection.pid,
                extra={"action": "journal_opened"},
            )
        self.present, self._problem = True, ""
        self._hinted = True
        self._on_schema(True)

    def _serve(self, connection: Connection) -> None:
        """Read until stopped, or until the connection is lost (it raises)."""
        poll_due = 0.0
        while not self._stopped:
            now = time.monotonic()
            if self._hinted or now >= poll_due:
                self._hinted = False
                poll_due = now + POLL_INTERVAL
                # A full page: there is more.
                self._hinted = self._read_tail(connection)
            if now >= self._patterns_due:
                self._read_patterns(connection)
            need = self._feed.work()
            if need is not None:
                self._feed.replayed(need, self._read_page(connection, need))
            elif not self._feed.behind and not self._hinted:
                connection.read()
                connection.notifications()
                connection.select(max(0.0, poll_due - time.monotonic()))
            else:
                gevent.sleep(0)

    def _tail(
        self, connection: Connection, after: int, most: int
    ) -> list[tuple[Any, ...]]:
        return connection.execute("EXECUTE pgbridge_tail (%s, %s)", (after, most))

    def _read_tail(self, connection: Connection) -> bool:
        """Hand on what is new; returns whether there is more."""
        feed = self._feed
        after = feed.position
        found = self._tail(connection, after, TAIL_ENTRIES)
        epoch, floor, newest = found[0][:3]
        rows = [row[3:] for row in found if row[3] is not None]
        if epoch != feed.epoch or newest < after:
            if epoch == feed.epoch:
                # Commits were lost, and positions will be given again.
                connection.execute("SELECT bridge.check_epoch(%s, %s)", (epoch, after))
                return True
            self._reset(epoch, floor, newest, "epoch_changed")
        elif floor > after:
            self._reset(epoch, floor, newest, "expired")
        elif rows and rows[0][0] != after + 1:
            raise DatabaseError(f"the journal has a hole after position {after}")
        else:
            feed.floor = floor
            for part in self._slices(rows):
                entries = self._entries(connection, part)
                self.moved_at = time.monotonic()
                feed.advance(entries, part[-1][0], self._hub.publish_kept)
        return len(rows) == TAIL_ENTRIES

    def _reset(self, epoch: str, floor: int, newest: int, reason: str) -> None:
        log.warning(
            "the journal begins anew at position %d: %s",
            newest,
            reason,
            extra={"action": "journal_reset"},
        )
        self._feed.reset(epoch, floor, newest, reason)

    def _slices(self, rows: list[Any]) -> list[list[Any]]:
        """Cut rows so that the payloads of each part are not too much at a time."""
        parts: list[list[Any]] = []
        size = 0
        for row in rows:
            wanted = row[3] if self._hub.wants(row[2]) else 0
            size += wanted
            if not parts or size > SLICE_BYTES:
                parts.append([])
                size = wanted
            parts[-1].append(row)
        return parts

    def _entries(self, connection: Connection, rows: Sequence[Any]) -> list[Entry]:
        wanted = {row[1]: row for row in rows if self._hub.wants(row[2])}
        payloads = self._payloads(
            connection, [(pos, id, size) for pos, id, _, size in wanted.values()]
        )
        entries = []
        for pos, id, channel, size in rows:
            payload: Payload | None = payloads.get(id)
            if payload is None and id in wanted:
                payload = self._gap(channel, pos, size)
            entries.append(Entry(pos, channel, payload))
        return entries

    def _read_page(self, connection: Connection, need: Need) -> Page:
        found = connection.execute(
            "EXECUTE pgbridge_page (%s, %s, %s, %s)",
            (need.channel, need.after, need.upto, MAX_PAGE_ENTRIES),
        )
        epoch, floor, newest = found[0][:3]
        rows = [row[3:] for row in found if row[3] is not None]
        complete = len(rows) < MAX_PAGE_ENTRIES
        size = 0
        for count, (_, _, bytes) in enumerate(rows):
            size += bytes if bytes <= self._options.max_payload_bytes else 0
            if size > MAX_PAGE_BYTES and count:
                rows, complete = rows[:count], False
                break
        payloads = self._payloads(connection, rows)
        entries: list[tuple[int, Payload]] = [
            (
                pos,
                payloads[id] if id in payloads else self._gap(need.channel, pos, size),
            )
            for pos, id, size in rows
        ]
        upto = need.upto if complete else rows[-1][0]
        return Page(entries, upto, epoch, floor, newest)

    def _payloads(self, connection: Connection, rows: Sequence[Any]) -> dict[int, str]:
        """Read the payloads of (position, id, bytes) rows that are not too long."""
        most = self._options.max_payload_bytes
        ids = [id for _, id, size in rows if size <= most]
        if not ids:
            return {}
        return dict(connection.execute("EXECUTE pgbridge_payloads (%s)", (ids,)))

    def _gap(self, channel: str, position: int, size: int) -> Gap:
        """What stands in the place of a payload that cannot be delivered."""
        reason = "too_large" if size > self._options.max_payload_bytes else "expired"
        cursor = Cursor(self._feed.epoch, position)
        return Gap(channel, reason, self._hub.reload_window(), cursor=str(cursor))

    def _read_patterns(self, connection: Connection) -> None:
        self._patterns_due = time.monotonic() + PATTERNS_INTERVAL
        rows = connection.execute("SELECT pattern FROM bridge.durable_channel")
        patterns = tuple(sorted(pattern for (pattern,) in rows))
        known = self._feed.patterns
        if known is None or known.patterns != patterns:
            self._hub.know(Patterns(patterns))

    def _absent(self) -> None:
        """There is no schema: every channel is plain."""
        if self.present is not False:
            log.info(
                "no schema bridge: durable channels are off (pgbridge install)",
                extra={"action": "journal_absent"},
            )
        if self.present:
            self._lost("the schema is gone")
        elif self._feed.patterns is None:
            self._hub.know(Patterns(()))
        self.present = False
        self._on_schema(False)

    def _lost(self, reason: str) -> None:
        # Constant repetitions of one reason would bury everything else.
        level = logging.WARNING if reason != self._problem else logging.DEBUG
        self._problem = reason
        log.log(
            level,
            "journal cannot be read at %s, trying again: %s",
            self._options.address,
            reason,
            extra={"action": "journal_lost"},
        )
        if self._feed.state is not State.AWAY:
            self._changed_at = time.time()
        self._hub.journal_lost()
