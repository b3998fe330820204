"""Commit to receive on an idle system: pgbridge beside a bare select loop.

    make bench                 or  python benchmarks/latency.py [count]

One notification at a time, a pause between two. Both receivers run at the same
time and get the same notifications; each time is from the moment when the
writer's commit has returned, so a receive may even come before it (0).
"""

from __future__ import annotations

import platform
import select
import statistics
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Cluster

PAUSE = 0.02


def bare_loop(connection: Connection, received: list[float], count: int) -> None:
    """The least that can be done in Python: select, poll, take the time."""
    while len(received) < count:
        select.select([connection], [], [])
        connection.poll()
        while connection.notifies:
            connection.notifies.pop(0)
            received.append(time.perf_counter())


def measure(url: str, server: Gunicorn, count: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each notification: pgbridge's, the bare loop's."""
    committed: list[float] = []
    bare: list[float] = []
    bridged: list[float] = []
    with Client(server, "bench") as subscriber, closing(psycopg2.connect(url)) as ear:
        subscriber.receive()
        ear.autocommit = True
        ear.cursor().execute("LISTEN bench")
        listener = threading.Thread(target=bare_loop, args=(ear, bare, count))
        listener.start()
        with closing(psycopg2.connect(url)) as writer:
            writer.autocommit = True
            cursor = writer.cursor()
            for number in range(count):
                cursor.execute("SELECT pg_notify('bench', %s)", (str(number),))
                committed.append(time.perf_counter())
                assert subscriber.receive()["text"] == str(number)
                bridged.append(time.perf_counter())
                time.sleep(PAUSE)
        listener.join()
    return (
        [max(0.0, b - a) for a, b in zip(committed, bridged, strict=True)],
        [max(0.0, b - a) for a, b in zip(committed, bare, strict=True)],
    )


def main() -> int:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    cluster = Cluster()
    cluster.start()
    server = Gunicorn(cluster.url).start()
    try:
        bridged, bare = measure(cluster.url, server, count)
    finally:
        server.end()
        cluster.delete()
    print(f"{count} notifications, Python {platform.python_version()}, one subscriber")
    print(f"{'':24}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}")
    for name, times in (("pgbridge, WebSocket", bridged), ("bare select loop", bare)):
        p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
        print(f"{name:24}{p50 * 1e3:8.2f}{p99 * 1e3:8.2f}{max(times) * 1e3:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
