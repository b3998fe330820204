"""Writers that number the events of a channel in the order of their commits.

The number is a row of the database that changes in the same transaction, so it
leaves nothing out, whatever becomes of a commit. Each channel has a writer of
its own; one more publishes to all durable ones in one transaction.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress

import psycopg2
from psycopg2.extensions import connection as Connection

from support.attack.truth import Moment, PlainEvents
from support.postgres import Database

__all__ = ["Publishers"]

CREATE = "CREATE TABLE public.said (channel text PRIMARY KEY, n integer NOT NULL)"

NUMBER = "UPDATE public.said SET n = n + %s WHERE channel = %s RETURNING n"

PUBLISH = """
SELECT count({publish}(%s, json_build_object('n', n, 'x', repeat('x', %s))::text))
FROM generate_series(%s, %s) AS n
"""

RETRY = 0.1
"""Seconds until a session that was lost, or refused something, is opened anew."""

SIZES = ((1, 1), (5, 1), (30, 1))
"""How many events a transaction has at most, and how often."""

PADDING = 3000
"""Bytes that make an event longer, at most."""

PAUSE = 0.08
"""Seconds between two transactions of a channel, at most."""

AT_ONCE, AT_ONCE_PAUSE = 20, 0.6
"""Events of each durable channel in one transaction, and seconds between two."""


Transaction = Callable[[Connection, str, random.Random], None]
"""Gets a session, the name of its writer, and chance."""


class Publishers:
    """Threads, until `stop`.

    Args:
        pause: seconds between two transactions of a channel, at most.
        padding: bytes that make an event longer, at most.
    """

    def __init__(
        self,
        database: Database,
        kept: Sequence[str],
        plain: Sequence[str],
        seed: str,
        pause: float = PAUSE,
        padding: int = PADDING,
    ) -> None:
        self._database = database
        self._kept, self._plain = tuple(kept), tuple(plain)
        self._seed = seed
        self._pause = pause
        self._padding = padding
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        #: Of plain channels; complete when the threads have ended.
        self.events: PlainEvents = {channel: {} for channel in plain}

    def create(self) -> None:
        """Make their table."""
        self._database.execute(CREATE)
        for channel in self._kept + self._plain:
            self._database.execute("INSERT INTO said VALUES (%s, 0)", channel)

    def start(self) -> None:
        for channel in self._kept + self._plain:
            self._begin(channel, self._pause, self._transaction)
        self._begin("all at once", AT_ONCE_PAUSE, self._publish_to_all)

    def stop(self) -> None:
        """Let the transactions in flight end. Safe to call twice."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def publish_one(self) -> dict[str, int]:
        """Publish an event on each channel; returns their numbers.

        Raises:
            psycopg2.Error: the database is away.
        """
        with closing(self._database.connect(autocommit=False)) as session:
            return {
                channel: self._publish(session, channel, 1, 0)
                for channel in self._kept + self._plain
            }

    def _begin(self, name: str, pause: float, do: Transaction) -> None:
        thread = threading.Thread(target=self._write, args=(name, pause, do))
        thread.start()
        self._threads.append(thread)

    def _write(self, name: str, pause: float, do: Transaction) -> None:
        chance = random.Random(f"{self._seed}/{name}")
        while not self._stop.is_set():
            # The database, and schema bridge, come and go.
            with suppress(psycopg2.Error):
                with closing(self._database.connect(autocommit=False)) as session:
                    while not self._stop.wait(chance.uniform(0, pause)):
                        do(session, name, chance)
            self._stop.wait(RETRY)

    def _transaction(
        self, session: Connection, channel: str, chance: random.Random
    ) -> None:
        [(most, _)] = chance.choices(SIZES, [weight for _, weight in SIZES])
        count = chance.randint(1, most)
        padding = chance.randint(0, self._padding)
        if chance.random() < 0.1:
            self._say(session, channel, count, padding)
            session.rollback()
        else:
            self._publish(session, channel, count, padding)

    def _publish_to_all(
        self, session: Connection, name: str, chance: random.Random
    ) -> None:
        padding = chance.randint(0, self._padding)
        for channel in self._kept:
            self._say(session, channel, AT_ONCE, padding)
        session.commit()

    def _publish(
        self, session: Connection, channel: str, count: int, padding: int
    ) -> int:
        """Publish in one transaction; returns the last number."""
        began = time.time()
        last = self._say(session, channel, count, padding)
        ended: float | None = None
        try:
            session.commit()
            ended = time.time()
        finally:
            if channel in self.events:
                moment = Moment(began, ended)
                for number in range(last - count + 1, last + 1):
                    self.events[channel][number] = moment
        return last

    def _say(self, session: Connection, channel: str, count: int, padding: int) -> int:
        publish = "bridge.publish" if channel in self._kept else "pg_notify"
        with session.cursor() as cursor:
            cursor.execute(NUMBER, (count, channel))
            [(last,)] = cursor.fetchall()
            query = PUBLISH.format(publish=publish)
            cursor.execute(query, (channel, padding, last - count + 1, last))
        return int(last)
