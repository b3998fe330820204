"""Writers that publish what they did, and a table with the truth of it."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import closing, suppress

import psycopg2
from psycopg2.extensions import cursor as Cursor
from support.postgres import Database

ITEMS = 200
CHANNELS = 4

SCHEMA = """
CREATE TABLE item (id integer PRIMARY KEY, version integer NOT NULL);
INSERT INTO item SELECT n, 0 FROM generate_series(1, %s) AS n;
CREATE TABLE truth (item integer, version integer, PRIMARY KEY (item, version));
"""

RESULTS = {"commit": 12, "rollback": 2}
"""What becomes of a transaction, by weight."""


def channel_of(item: int) -> str:
    return f"kept_{item % CHANNELS}"


class Writers:
    """Threads that write until they are told to stop.

    Each change of an item takes the next version under the row's lock, so the
    versions of an item are in the order of its commits.
    """

    def __init__(self, database: Database, count: int, seed: int) -> None:
        self._database = database
        database.execute(SCHEMA, ITEMS)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(random.Random(f"{seed}/{n}"),))
            for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the transactions in flight end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def truth(self) -> dict[str, set[tuple[int, int]]]:
        """Return what was committed: (item, version), by channel."""
        found: dict[str, set[tuple[int, int]]] = {
            f"kept_{number}": set() for number in range(CHANNELS)
        }
        for item, version in self._database.execute("SELECT item, version FROM truth"):
            found[channel_of(item)].add((item, version))
        return found

    def _write(self, chance: random.Random) -> None:
        while not self._stop.is_set():
            # The database comes and goes.
            with suppress(psycopg2.Error):
                with closing(self._database.connect(autocommit=False)) as connection:
                    while not self._stop.is_set():
                        with connection.cursor() as cursor:
                            self._transaction(cursor, chance)
                        [end] = chance.choices(list(RESULTS), list(RESULTS.values()))
                        getattr(connection, end)()
            self._stop.wait(0.1)

    def _transaction(self, cursor: Cursor, chance: random.Random) -> None:
        seen = None
        if chance.random() < 0.3:
            # What another has committed is the cause of what comes.
            cursor.execute("SELECT item, version FROM truth ORDER BY random() LIMIT 1")
            seen = cursor.fetchone()
        for item in sorted(chance.sample(range(1, ITEMS + 1), chance.randint(1, 3))):
            if chance.random() < 0.2:
                cursor.execute("SAVEPOINT s")
                self._change(cursor, item, seen)
                cursor.execute("ROLLBACK TO SAVEPOINT s")
            if chance.random() < 0.2:
                cursor.execute("SAVEPOINT s")
                self._change(cursor, item, seen)
                cursor.execute("RELEASE SAVEPOINT s")
            else:
                self._change(cursor, item, seen)
        if chance.random() < 0.1:
            time.sleep(chance.uniform(0, 3))

    @staticmethod
    def _change(cursor: Cursor, item: int, seen: tuple[int, int] | None) -> None:
        cursor.execute(
            "UPDATE item SET version = version + 1 WHERE id = %s RETURNING version",
            (item,),
        )
        row = cursor.fetchone()
        assert row is not None
        cursor.execute("INSERT INTO truth VALUES (%s, %s)", (item, row[0]))
        payload = json.dumps({"item": item, "version": row[0], "seen": seen})
        cursor.execute("SELECT bridge.publish(%s, %s)", (channel_of(item), payload))
