"""What a hostile crowd costs those who came to listen.

    python benchmarks/hostile.py [seconds]

100 subscribers receive 100 notifications a second; first in peace, then with
2,000 connections that send nothing, 200 that send garbage and 100 that open
and close as fast as they can. Prints what was lost, who was closed, and how
late the notifications were, before and meanwhile.
"""

from __future__ import annotations

import resource
import statistics
import sys
import threading
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.crowd import Audience, Crowd, publish
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database

PER_SECOND = 100


def listen(
    audience: Audience, database: Database, first: int, seconds: int
) -> tuple[float, float]:
    """Let the audience listen for a while; returns p50 and p99, seconds."""
    count = seconds * PER_SECOND
    audience.latencies.clear()
    arguments = (database, "news", count, PER_SECOND, first)
    writer = threading.Thread(target=publish, args=arguments)
    writer.start()
    audience.read_until(first + count - 1, timeout=seconds + 30)
    writer.join()
    quantiles = statistics.quantiles(audience.latencies, n=100)
    return quantiles[49], quantiles[98]


def main() -> int:
    """Print the table."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    cluster = Cluster()
    cluster.start()
    database = Database(cluster.url)
    server = Gunicorn(database.url).start()
    crowd = Crowd(server, seed=1)
    try:
        with closing(Audience(server, "news", 100)) as audience:
            peace = listen(audience, database, 0, seconds)
            crowd.be_silent(2000)
            crowd.send_garbage(200)
            crowd.come_and_go(100)
            hostile = listen(audience, database, seconds * PER_SECOND, seconds)
            crowd.stop()
            expected = list(range(2 * seconds * PER_SECOND))
            lost = sum(len(expected) - len(n) for n in audience.numbers.values())
            wrong = sum(n != expected for n in audience.numbers.values())
            closed = audience.closed
    finally:
        crowd.stop()
        server.end()
        cluster.delete()
    print(f"100 subscribers, {PER_SECOND} notifications/s, {seconds} s each way")
    print(f"{'':12}{'p50 ms':>8}{'p99 ms':>8}")
    print(f"{'in peace':12}{peace[0] * 1e3:8.2f}{peace[1] * 1e3:8.2f}")
    print(f"{'crowd':12}{hostile[0] * 1e3:8.2f}{hostile[1] * 1e3:8.2f}")
    print(f"{'ratio':12}{hostile[0] / peace[0]:8.2f}{hostile[1] / peace[1]:8.2f}")
    print(f"lost {lost}, other sequences {wrong}, closed {closed}")
    print(f"crowd: {crowd.connects} connects, {crowd.garbage_bytes} bytes of garbage")
    return 1 if lost or wrong or closed else 0


if __name__ == "__main__":
    sys.exit(main())
