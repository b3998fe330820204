"""Step and prune on one session, and say so when others' locks prevent it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from bridge.postgres.connection import Connection
from bridge.postgres.locks import fence_holders, naming_blockers
from bridge.postgres.session import LockTimeout

__all__ = ["Steps"]

log = logging.getLogger(__name__)

PRUNE_INTERVAL = 10.0
PRUNE_BATCH = 2000
"""Entries forgotten at a time; takes as long as some ten steps."""

STEP_TIMEOUT = 3600.0
"""Seconds; what waited while nobody sequenced is one step."""

CONTENDED_TOO_LONG = 5.0
"""Seconds that somebody else may be stepping before it is asked who that is."""


class Steps:
    """Runs bridge.step() and bridge.prune(), for the sequencer and who stands in.

    Args:
        on_step: called when a step gave positions.
        on_blocked: called when others' locks prevent stepping, and when they do
            not any more.
    """

    def __init__(
        self,
        connection: Connection,
        on_step: Callable[[], None],
        on_blocked: Callable[[bool], None],
    ) -> None:
        self._connection = connection
        self._on_step = on_step
        self._on_blocked = on_blocked
        #: Others' locks prevent stepping.
        self.blocked = False
        #: What was said about it last.
        self._said = ""
        #: Since when somebody else has been stepping at each try; None: not so.
        self._contended_since: float | None = None
        self._prune_due = time.monotonic() + PRUNE_INTERVAL

    def step(self) -> int | None:
        """Run bridge.step(): give positions to what has committed.

        Returns:
            How many got a position; None: somebody else steps, or nobody can.
        """
        query = "SELECT bridge.step()"
        try:
            with naming_blockers(self._connection):
                [(given,)] = self._connection.execute(query, timeout=STEP_TIMEOUT)
                if given is None:
                    self._contend()
                    return None
        except LockTimeout as exc:
            self._report_blocked(str(exc))
            return None
        self._contended_since = None
        self.report_unblocked()
        if given:
            self._on_step()
        return int(given)

    def prune(self) -> None:
        """Delete a batch of what retention has passed, if it is time."""
        if time.monotonic() < self._prune_due:
            return
        query = "SELECT bridge.prune(%s)"
        [(rows,)] = self._connection.execute(
            query, (PRUNE_BATCH,), timeout=STEP_TIMEOUT
        )
        delay = 0.0 if rows == PRUNE_BATCH else PRUNE_INTERVAL
        self._prune_due = time.monotonic() + delay

    def report_unblocked(self) -> None:
        """Stepping works again, or this session ends and cannot tell."""
        if self.blocked:
            self.blocked, self._said = False, ""
            log.info(
                "positions are given again", extra={"action": "sequencer_released"}
            )
            self._on_blocked(False)

    def _contend(self) -> None:
        """Somebody else has the fence: a worker that steps, or who locked it?"""
        now = time.monotonic()
        if self._contended_since is None:
            self._contended_since = now
        if now - self._contended_since > CONTENDED_TOO_LONG:
            self._contended_since = now
            holders = fence_holders(self._connection)
            if holders:
                self._report_blocked("; ".join(holders))
            else:
                self.report_unblocked()

    def _report_blocked(self, reason: str) -> None:
        if reason != self._said:
            log.warning(
                "nothing can be given a position: %s",
                reason,
                extra={"action": "sequencer_blocked"},
            )
        self._said = reason
        if not self.blocked:
            self.blocked = True
            self._on_blocked(True)
