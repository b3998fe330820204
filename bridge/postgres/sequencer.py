"""Give committed events their positions: election, door, sleep.

One worker at a time, the sequencer, calls ``bridge.step()``. It is elected by
an advisory lock of its session, so it is replaced when the session ends. While
there is work it steps every few milliseconds. To sleep it shuts the *door*, an
advisory lock. A writer takes it shared until its commit, and sends nothing; if
it cannot, since the sequencer has shut it, it *rings*: NOTIFY ``bridge_wake``.
So nothing that is in flight is forgotten. Nothing is written while nothing
happens.

Any worker may step, and does when the journal has not moved for a while: the
sequencer may be frozen. If that finds work twice, and the sequencer's session
has run no statement meanwhile, it is ended.

Invariants: nothing is stepped on a session before `Continuity` has checked it,
and again when it is elected; LISTEN is in force before the first step; after
the door was shut one more step must find nothing before it sleeps, and
"somebody else is stepping" is not nothing; woken, it unlocks before it steps.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from contextlib import closing

import gevent
from gevent.event import Event

from bridge.postgres.back_off import BackOff
from bridge.postgres.connection import Connection
from bridge.postgres.continuity import Continuity
from bridge.postgres.journal_options import JournalOptions
from bridge.postgres.locks import (
    DOOR,
    LEADER,
    end_leader,
    naming_blockers,
    try_lock,
    unlock,
)
from bridge.postgres.steps import Steps
from bridge.values.counters import COUNTERS
from bridge.values.errors import DatabaseError

__all__ = ["Sequencer", "interval_after"]

log = logging.getLogger(__name__)

STEP_INTERVAL = 0.003
"""Seconds between two steps while there is work."""

BUSY_INTERVAL, PER_EVENT = 0.015, 0.0002
"""Seconds between two steps while there is much work, at most, and of it for each
event of the last step. A step, and waking every worker, cost as much for one event
as for fifty, and the writers share that machine."""

IDLE_STEPS = 5
"""Steps without work before it tries to sleep: a busy writer need not ring."""

MAX_STEP_INTERVAL = 0.025
"""Seconds between two steps while a writer keeps the door open."""

CONTENDED_DELAY = 0.001
"""Seconds until it tries again when somebody else is stepping."""

SAFETY_INTERVAL = 1.0
"""Seconds between two looks while asleep, for writers that do not ring."""

UNHEARD_INTERVAL = 0.05
"""Seconds between two looks while asleep where transactions can be prepared:
writers cannot ring there, since PREPARE TRANSACTION refuses NOTIFY."""

ELECTION_INTERVAL = 0.6
"""Seconds between two tries to become the sequencer."""

STALLED_AFTER = (1.0, 1.3)
"""Seconds without a move of the journal after which another worker steps."""

BLOCKED_DELAY = 0.1
"""Seconds until the sequencer tries again while others' locks prevent stepping."""


def interval_after(events: int) -> float:
    """Return the seconds until the next step, after one of so many events."""
    return max(STEP_INTERVAL, min(BUSY_INTERVAL, events * PER_EVENT))


class Sequencer:
    """A candidate, and sometimes the sequencer.

    Args:
        continuity: asked before the first step on each session.
        moved_at: tells when the journal's tail last moved, monotonic seconds.
        on_step: called when a step gave positions.
        on_blocked: called when others' locks prevent stepping, and when they do
            not any more.
    """

    def __init__(
        self,
        options: JournalOptions,
        continuity: Continuity,
        *,
        moved_at: Callable[[], float],
        on_step: Callable[[], None],
        on_blocked: Callable[[bool], None],
    ) -> None:
        self._options = options
        self._continuity = continuity
        self._moved_at = moved_at
        self._on_step = on_step
        self._on_blocked = on_blocked
        #: The schema is there.
        self._present = Event()
        self._stopping = Event()
        self._connection: Connection | None = None
        #: This worker is the sequencer.
        self.leading = False
        #: Looks, once a second, that found events nobody rang for.
        self.found_late = 0
        #: The reason of the last loss, for the log.
        self._problem = ""
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def describe(self) -> dict[str, object]:
        """Its state for /readyz: what everybody may know."""
        return {"leading": self.leading, "found_late": self.found_late}

    def set_present(self, present: bool) -> None:
        """Tell whether the schema is there."""
        if present:
            self._present.set()
        else:
            self._present.clear()

    def start(self) -> None:
        """Start the greenlet."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Tell the greenlet to end."""
        self._stopping.set()
        self._present.set()
        if self._connection is not None:
            self._connection.wake()

    def join(self, timeout: float) -> None:
        """Wait for the greenlet to end."""
        if self._greenlet is not None:
            self._greenlet.join(timeout)

    # The greenlet.

    def _run(self) -> None:
        back_off = BackOff(time.monotonic)
        while not self._stopping.is_set():
            self._present.wait()
            if self._stopping.is_set():
                break
            try:
                with closing(self._options.connect()) as connection:
                    self._connection = connection
                    back_off.there()
                    self._serve(connection)
            except DatabaseError as exc:
                self._lost(str(exc))
            except Exception:
                log.exception("sequencer failed", extra={"action": "sequencer_failed"})
            finally:
                self._connection, self.leading = None, False
            self._stopping.wait(back_off.delay())

    def _serve(self, connection: Connection) -> None:
        """Stand by until elected, then lead; ends when stopped or lost."""
        steps = Steps(connection, self._on_step, self._on_blocked)
        try:
            self._check(connection)
            if not self._stand_by(connection, steps):
                return
            connection.execute("LISTEN bridge_wake")
            [(prepared,)] = connection.execute("SHOW max_prepared_transactions")
            self._check(connection)
            log.info(
                "sequencer elected, backend %d",
                connection.pid,
                extra={"action": "sequencer_elected"},
            )
            self.leading = True
            rest = SAFETY_INTERVAL if prepared == "0" else UNHEARD_INTERVAL
            self._lead(connection, steps, rest)
        finally:
            steps.report_unblocked()

    def _check(self, connection: Connection) -> None:
        with naming_blockers(connection):
            self._continuity.check(connection)

    def _stand_by(self, connection: Connection, steps: Steps) -> bool:
        """Wait to be elected; returns False when stopped."""
        found = 0
        patience = random.uniform(*STALLED_AFTER)
        since = time.monotonic()
        while self._goes_on:
            if try_lock(connection, LEADER):
                return True
            since = max(since, self._moved_at())
            if steps.blocked or time.monotonic() - since > patience:
                found = found + 1 if self._step(steps) else 0
                if found >= 2:
                    self._end_leader(connection)
                since = time.monotonic()
                patience = random.uniform(*STALLED_AFTER)
            connection.select(ELECTION_INTERVAL)
            connection.read()
        return False

    @property
    def _goes_on(self) -> bool:
        return not self._stopping.is_set() and self._present.is_set()

    def _lead(self, connection: Connection, steps: Steps, rest: float) -> None:
        idle, interval = 0, STEP_INTERVAL
        while self._goes_on:
            given = self._step(steps)
            steps.prune()
            if given is None:
                gevent.sleep(BLOCKED_DELAY if steps.blocked else CONTENDED_DELAY)
                continue
            if given:
                idle, interval = 0, interval_after(given)
            else:
                idle += 1
            if idle >= IDLE_STEPS:
                if self._sleep(connection, steps, rest):
                    idle, interval = 0, STEP_INTERVAL
                    continue
                interval = min(MAX_STEP_INTERVAL, interval * 1.5)
            gevent.sleep(interval)

    def _sleep(self, connection: Connection, steps: Steps, rest: float) -> bool:
        """Shut the door and wait for a ring.

        Returns:
            False when a writer keeps the door open.
        """
        # Whoever has rung by now has committed; the next step sees it.
        connection.read()
        connection.notifications()
        if not try_lock(connection, DOOR):
            return False
        if self._step(steps) != 0:
            unlock(connection, DOOR)
            return True
        while self._goes_on:
            connection.read()
            if connection.notifications():
                break
            connection.select(rest)
            connection.read()
            if connection.notifications():
                break
            given = self._step(steps)
            if given:
                self.found_late += rest == SAFETY_INTERVAL
            if given != 0:
                break
            steps.prune()
        unlock(connection, DOOR)
        return True

    def _step(self, steps: Steps) -> int | None:
        given = steps.step()
        # This session is a good one; the next loss is worth a line.
        self._problem = ""
        return given

    def _end_leader(self, connection: Connection) -> None:
        """The sequencer lets work lie. If it is frozen its session must end."""
        pids = end_leader(connection)
        if pids:
            log.warning(
                "sequencer does nothing, its session is ended: backend %s",
                ", ".join(map(str, pids)),
                extra={"action": "sequencer_ended"},
            )

    def _lost(self, reason: str) -> None:
        COUNTERS.reconnects["sequencer"] += 1
        # Constant repetitions of one reason would bury everything else.
        level = logging.WARNING if reason != self._problem else logging.DEBUG
        self._problem = reason
        log.log(
            level,
            "sequencer lost PostgreSQL at %s, trying again: %s",
            self._options.address,
            reason,
            extra={"action": "sequencer_lost"},
        )
