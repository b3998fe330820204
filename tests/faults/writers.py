"""Sessions that publish numbered events, and know what became of each.

A transaction publishes one to three events on a plain channel or on a kept
one; every tenth is rolled back. What the database refuses is given up, and a
session that is lost is opened again. A COMMIT that broke may have committed:
its events may arrive, and need not.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import psycopg2
from psycopg2.extensions import connection as Connection
from support.postgres import Database

from faults.account import Published

PLAIN = ("plain_0", "plain_1")
KEPT = ("kept_0", "kept_1")

STATEMENTS = {
    True: "SELECT bridge.publish(%s, %s)",
    False: "SELECT pg_notify(%s, %s)",
}
"""By whether the channel is kept."""

RETRY = 0.05
"""Seconds until a session that was lost is tried again."""


class Writers:
    """Threads that publish, and what they have published.

    Attributes:
        published: what has committed, or may have.
        refusals: by name, the errors of statements and commits.
        padding: bytes that make an event longer.
    """

    def __init__(self, database: Database, padding: int = 0) -> None:
        self._database = database
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._padding = "x" * padding
        self.published: list[Published] = []
        self.refusals: Counter[str] = Counter()

    def start(self, count: int, per_second: float) -> None:
        """Start threads; each makes so many transactions a second."""
        for number in range(count):
            thread = threading.Thread(
                target=self._write, args=(f"w{number}", 1 / per_second)
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let the transactions in flight end. Safe to call twice."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def connect(self) -> Connection:
        """Open a session of a writer."""
        return psycopg2.connect(self._database.url, connect_timeout=5)

    def publish(
        self,
        session: Connection,
        channel: str,
        writer: str,
        numbers: Sequence[int],
        text: str = "",
    ) -> bool:
        """Publish events in one transaction; whether they have committed.

        Args:
            text: stands in each of them beside the padding.
        """
        began = time.time()
        self._say(session, channel, writer, numbers, began, text)
        return self.commit(session, channel, writer, numbers, began)

    def _say(
        self,
        session: Connection,
        channel: str,
        writer: str,
        numbers: Sequence[int],
        began: float,
        text: str = "",
    ) -> None:
        statement = STATEMENTS[channel in KEPT]
        text += self._padding
        with session.cursor() as cursor:
            for number in numbers:
                event = {"w": writer, "n": number, "t": began, "x": text}
                payload = json.dumps(event, ensure_ascii=False)
                cursor.execute(statement, (channel, payload))

    def commit(
        self,
        session: Connection,
        channel: str,
        writer: str,
        numbers: Sequence[int],
        began: float,
    ) -> bool:
        """Commit what was published, and note it; whether it has committed."""
        ended: float | None = None
        try:
            session.commit()
            ended = time.time()
        except psycopg2.Error as exc:
            self.refusals[type(exc).__name__] += 1
            if exc.pgcode is not None and not session.closed:
                return False  # the server has said no
        self.published += [
            Published(channel, writer, number, began, ended) for number in numbers
        ]
        return ended is not None

    def _write(self, writer: str, pause: float) -> None:
        number = 0
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                with closing(self.connect()) as session:
                    while not self._stop.is_set():
                        number = self._transaction(session, writer, number)
                        due = max(due + pause, time.monotonic())
                        self._stop.wait(due - time.monotonic())
            except psycopg2.Error as exc:
                self.refusals[type(exc).__name__] += 1
                number += 10  # not one of them again
            self._stop.wait(RETRY)

    def _transaction(self, session: Connection, writer: str, number: int) -> int:
        """Publish something; returns the writer's next number."""
        turn = number // 10
        channel = (PLAIN + KEPT)[turn % 4]
        numbers = range(number, number + 1 + turn % 3)
        try:
            if turn % 10 == 9:
                self._say(session, channel, writer, numbers, time.time())
                session.rollback()
            else:
                self.publish(session, channel, writer, numbers)
        except psycopg2.Error as exc:
            if session.closed:
                raise
            self.refusals[type(exc).__name__] += 1
            session.rollback()
        return number + 10
