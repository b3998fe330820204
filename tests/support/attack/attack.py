"""The attack from its beginning to what it found."""

from __future__ import annotations

import ssl
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psycopg2

from support import tls
from support.attack import chronicle
from support.attack.checker import check
from support.attack.finding import STRICT, Finding, Kind, Rules
from support.attack.history import Heard
from support.attack.page import Page
from support.attack.publishers import PADDING, PAUSE, Publishers
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.waiting import wait_until

__all__ = ["KEPT", "PLAIN", "Attack", "tls_arguments"]

KEPT = tuple(f"kept_{letter}" for letter in "abcdef")
PLAIN = tuple(f"plain_{letter}" for letter in "abc")

ROUND = 3.0
"""Seconds between two last events."""


class Attack:
    """Publishers, pages and the truth about what they should have.

    Args:
        database: has schema bridge; kept_* is durable.
        rules: what the run does to the journal.
        pause, padding: as of `Publishers`.
    """

    def __init__(
        self,
        database: Database,
        seed: str,
        rules: Rules = STRICT,
        pause: float = PAUSE,
        padding: int = PADDING,
    ) -> None:
        self._database = database
        self._seed = seed
        self._rules = rules
        self._publishers = Publishers(database, KEPT, PLAIN, seed, pause, padding)
        self._pages: list[Page] = []
        #: Pages that had not caught up when all was calm.
        self._stuck = 0

    def prepare(self) -> None:
        """Make what it needs in the database, before anything is published."""
        chronicle.create(self._database)
        self._publishers.create()

    def start(
        self, server: Gunicorn, pages: int, context: ssl.SSLContext | None = None
    ) -> None:
        """Let it begin.

        Args:
            context: for TLS; None: without.
        """
        self._publishers.start()
        self._pages = [
            Page(server, KEPT + PLAIN, f"{self._seed}/{number}", context)
            for number in range(pages)
        ]

    def calm(self, timeout: float) -> None:
        """Stop writing; wait until all pages have everything."""
        for page in self._pages:
            page.calm()
        self._publishers.stop()
        until = time.monotonic() + timeout
        due: dict[str, int] = {}
        while time.monotonic() < until:
            # More than once: a plain page may come back only after the first.
            with suppress(psycopg2.Error):
                numbers = self._publishers.publish_one()
                due = due or numbers
            if due and self._all_have(due):
                break
        self._stuck = sum(not due or not page.has(due) for page in self._pages)

    def _all_have(self, numbers: dict[str, int]) -> bool:
        with suppress(AssertionError):
            wait_until(lambda: all(page.has(numbers) for page in self._pages), ROUND)
            return True
        return False

    def stop(self) -> None:
        """Whatever happened, leave nothing running. Safe to call twice."""
        self._publishers.stop()
        for page in self._pages:
            page.calm()
            page.stop()

    def findings(self) -> list[Finding]:
        """Stop, and return what is wrong."""
        self.stop()
        journal = chronicle.read(self._database)
        found = [
            finding
            for page in self._pages
            for finding in check(
                page.history, journal, self._publishers.events, self._rules
            )
        ]
        if self._stuck:
            found.append(Finding(Kind.STUCK, f"{self._stuck} pages"))
        return found

    def __str__(self) -> str:
        counts: Counter[str] = Counter(
            entry.message["type"]
            for page in self._pages
            for entry in page.history
            if isinstance(entry, Heard)
        )
        connections = sum(page.connections for page in self._pages)
        return (
            f"{len(self._pages)} pages, {connections} connections, "
            f"{counts['notification']} events, {counts['heartbeat']} heartbeats, "
            f"{counts['gap']} gaps"
        )


def tls_arguments(folder: Path) -> tuple[str, ...]:
    """Return Gunicorn's arguments that make it speak TLS."""
    key, certificate = tls.make_certificate(folder)
    return ("--keyfile", str(key), "--certfile", str(certificate))
