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
from collections.abc import Callable
from contextlib import closing

import gevent
from gevent.event import Event

from bridge.core.hub import Hub
from bridge.core.subscription import State
from bridge.postgres.back_off import BackOff
from bridge.postgres.connection import Connection
from bridge.postgres.continuity import Continuity
from bridge.postgres.journal_options import JournalOptions
from bridge.postgres.journal_reader import TAIL_ENTRIES, JournalReader, Tail
from bridge.postgres.locks import naming_blockers
from bridge.postgres.schema import (
    NoSchema,
    check_presence,
    check_version,
    saying_who_grants,
)
from bridge.postgres.session import Denied, LockTimeout
from bridge.values.channels import Patterns
from bridge.values.counters import COUNTERS
from bridge.values.cursor import Cursor
from bridge.values.errors import DatabaseError
from bridge.values.message import Gap

__all__ = ["Journal"]

log = logging.getLogger(__name__)

POLL_INTERVAL = 1.0
"""Seconds between two looks at the tail when nobody says that it moved."""

PATTERNS_INTERVAL = 5.0
"""Seconds between two looks at the patterns of durable channels."""

BLOCKED_INTERVAL = 0.2
"""Seconds until the next try after one that somebody's lock held up."""

SCHEMA_INTERVAL = 30.0
"""Seconds between two looks for a schema that is not there."""


class Journal:
    """Keeps the hub's feed up to date.

    Args:
        continuity: notes what is told, and asks whether it is still true.
        on_schema: called when the schema is found, and when it is gone.
    """

    def __init__(
        self,
        hub: Hub,
        options: JournalOptions,
        continuity: Continuity,
        on_schema: Callable[[bool], None],
    ) -> None:
        self._hub = hub
        self._feed = hub.feed
        self._options = options
        self._continuity = continuity
        self._on_schema = on_schema
        #: The session; None while there is none.
        self._connection: Connection | None = None
        #: Somebody said that the tail moved.
        self._hinted = False
        #: Locks of others keep every worker from giving positions.
        self._stepping_blocked = False
        #: When the patterns are read next, monotonic seconds.
        self._patterns_due = 0.0
        #: The reason of the last loss, for the log.
        self._problem = ""
        #: Unix seconds of the last change of state.
        self._changed_at = time.time()
        #: Monotonic seconds when the tail last moved.
        self.moved_at = time.monotonic()
        #: Whether the schema is there; None: not known yet.
        self.present: bool | None = None
        #: Whether it is there, and this session's role may not read it.
        self.denied = False
        #: Ends the wait between two tries.
        self._trying = Event()
        self._stopped = False
        self._greenlet: gevent.Greenlet[[], None] | None = None

    # For others.

    def describe(self) -> dict[str, object]:
        """Its state for /readyz: what everybody may know."""
        state = self._feed.state.value
        if self.present is False:
            state = "none"
        elif self.denied:
            state = "denied"
        return {"state": state, "since": round(self._changed_at, 3)}

    @property
    def live(self) -> bool:
        """Whether it can be read, or is not there at all."""
        return self.present is False or self._feed.state is State.LIVE

    @property
    def degraded(self) -> bool:
        """Whether plain channels are served, and durable ones cannot be."""
        return self.denied and self._feed.patterns is not None

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

    def set_stepping_blocked(self, blocked: bool) -> None:
        """Tell whether others' locks prevent stepping; clients are told then."""
        self._stepping_blocked = blocked
        self._trying.set()
        self.wake()

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
            if self._stepping_blocked:
                self._away()
                self._trying.wait()
                continue
            try:
                with (
                    closing(self._options.connect()) as connection,
                    naming_blockers(connection),
                ):
                    reader = self._open(connection)
                    back_off.there()
                    self._serve(connection, reader)
                    continue
            except NoSchema:
                self._absent()
                delay = SCHEMA_INTERVAL
            except LockTimeout as exc:
                self._set_denied(False)
                self._lost(str(exc))
                delay = BLOCKED_INTERVAL
            except Denied as exc:
                self._set_denied(True)
                self._lost(str(exc))
            except DatabaseError as exc:
                self._set_denied(False)
                self._lost(str(exc))
            except Exception:
                log.exception("journal failed", extra={"action": "journal_failed"})
                self._lost("internal error, see the log")
            finally:
                self._connection = None
            self._trying.wait(back_off.delay() if delay is None else delay)

    def _open(self, connection: Connection) -> JournalReader:
        feed = self._feed
        check_presence(connection)
        self.present = True
        self._hub.can_encode = connection.can_encode
        try:
            check_version(connection)
            limit = self._options.max_payload_bytes
            with saying_who_grants():
                self._continuity.check(connection)
                reader = JournalReader(connection, limit, self._gap)
                tail = reader.tail(0, 1)
                # Clients get this newest position as a cursor: note it first.
                self._continuity.check(connection)
        except Denied:
            self._set_denied(True)
            raise
        finally:
            # A role that is denied the journal may still read the patterns, and
            # plain channels need them. Read after the tail: who is subscribed
            # then gets all that comes after it.
            self._read_patterns(connection)
        if feed.state is not State.LIVE:
            self._changed_at = time.time()
            log.info(
                "journal of schema bridge read from position %d, backend %d",
                tail.newest,
                connection.pid,
                extra={"action": "journal_opened"},
            )
        self._connection, self._problem = connection, ""
        self._set_denied(False)
        if feed.opened(tail.epoch, tail.floor, tail.newest) and tail.newest:
            self._hub.journal_began()
        self._hinted = True
        self._on_schema(True)
        return reader

    def _serve(self, connection: Connection, reader: JournalReader) -> None:
        """Read until stopped or blocked, or the connection is lost (it raises)."""
        poll_due = 0.0
        while not self._stopped and not self._stepping_blocked:
            now = time.monotonic()
            if self._hinted or now >= poll_due:
                # Before it is read: a hint that comes meanwhile counts anew.
                self._hinted = False
                poll_due = now + POLL_INTERVAL
                self._read_tail(connection, reader)
            if now >= self._patterns_due:
                self._read_patterns(connection)
            need = self._feed.work()
            if need is not None:
                self._feed.replayed(need, reader.page(need))
            elif self._feed.behind or self._hinted:
                gevent.sleep(0)
            else:
                connection.read()
                connection.notifications()
                connection.select(max(0.0, poll_due - time.monotonic()))

    def _read_tail(self, connection: Connection, reader: JournalReader) -> None:
        """Hand on what is new."""
        feed = self._feed
        after = feed.position
        tail = reader.tail(after)
        if tail.epoch != feed.epoch:
            self._reset(connection, tail, "epoch_changed")
        elif tail.newest < after:
            # Commits were lost, and positions will be given again.
            self._continuity.check(connection)
            self._hinted = True
        elif tail.floor > after:
            self._reset(connection, tail, "expired")
        elif tail.rows and tail.rows[0].position != after + 1:
            raise DatabaseError(f"the journal has a hole after position {after}")
        else:
            feed.expire(tail.floor)
            if tail.rows:
                last = tail.rows[-1]
                self._continuity.note(tail.epoch, last.position, (last.id, last.moment))
            for entries in reader.entries(tail.rows, self._hub.wants):
                self.moved_at = time.monotonic()
                feed.advance(entries, entries[-1].position, self._hub.publish_to_plain)
                now = time.time()
                for entry in entries:
                    if entry.published_at is not None:
                        COUNTERS.latency.observe(max(0.0, now - entry.published_at))
            if len(tail.rows) == TAIL_ENTRIES:
                self._hinted = True

    def _reset(self, connection: Connection, tail: Tail, reason: str) -> None:
        self._continuity.check(connection)
        log.warning(
            "the journal begins anew at position %d: %s",
            tail.newest,
            reason,
            extra={"action": "journal_reset"},
        )
        self._feed.reset(tail.epoch, tail.floor, tail.newest, reason)
        self._hub.journal_began()

    def _gap(self, channel: str, position: int, reason: str) -> Gap:
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
        self._hub.know(Patterns(()))
        self.present = False
        self._set_denied(False)
        self._on_schema(False)

    def _set_denied(self, denied: bool) -> None:
        self.denied = denied
        self._hub.journal_denied(denied)

    def _lost(self, reason: str) -> None:
        COUNTERS.reconnects["journal"] += 1
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
        self._away()

    def _away(self) -> None:
        """Nothing can arrive: clients are told."""
        if self._feed.state is not State.AWAY:
            self._changed_at = time.time()
        self._hub.journal_lost()
