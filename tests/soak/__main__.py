"""The command line: `python -m soak --minutes 10`."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import psycopg2
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database, make_durable
from support.temporary import nothing_left
from support.waiting import wait_until

from soak.census import count_greenlets
from soak.churn import Churn

ROUND = 30.0
"""Seconds of churn; in the middle the database restarts."""

MAX_GROWTH = 0.01
"""Of resident memory, over the last half."""

REST = 40.0
"""Seconds until what was given up is gone: UNLISTEN, cursors, close time-outs."""


@dataclass(frozen=True)
class Sample:
    """What is there after a round, over all workers."""

    minute: float
    rss: int
    files: int
    greenlets: int
    listeners: int
    channels: int


@nothing_left()
def main() -> int:
    """Run; 1 when something was left behind."""
    parser = argparse.ArgumentParser(prog="python -m soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--plot", type=Path, help="an SVG; needs pgbridge[bench]")
    options = parser.parse_args()
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install -e '.[bench]'")
    samples = run(options.minutes)
    if options.plot:
        plot(samples, options.plot)
    problems = judge(samples)
    for problem in problems:
        print(f"PROBLEM {problem}")
    return 1 if problems else 0


def run(minutes: float) -> list[Sample]:
    """Churn, rest and look, again and again."""
    with ExitStack() as stack:
        cluster = Cluster()
        stack.callback(cluster.delete)
        cluster.start()
        database = Database(cluster.url)
        make_durable(database)
        server = Gunicorn(
            database.url,
            workers=2,
            arguments=("-c", "python:soak.census"),
            environ={"PYTHONPATH": str(Path(__file__).parent.parent)},
            unlisten_delay=0.5,
            recent_bytes=1 << 20,
        )
        stack.callback(server.end)
        server.start()
        wait_until(lambda: len(server.workers) == 2)
        print(" ".join(f"{field.name:>10}" for field in fields(Sample)), flush=True)
        began = time.monotonic()
        samples: list[Sample] = []
        while time.monotonic() - began < 60 * minutes:
            churn = Churn(server, database, seed=len(samples))
            time.sleep(ROUND / 2)
            cluster.restart()
            time.sleep(ROUND / 2)
            churn.stop()
            samples.append(look(server, database, (time.monotonic() - began) / 60))
            print(
                " ".join(f"{value:>10.5g}" for value in astuple(samples[-1])),
                flush=True,
            )
        if "Traceback" in server.log:
            raise AssertionError(server.log)
    return samples


def look(server: Gunicorn, database: Database, minute: float) -> Sample:
    """Wait until all is quiet, and count."""
    wait_until(lambda: _metric(server, "connections") == 0, REST)
    wait_until(lambda: _metric(server, "channels") == 0, REST)
    with suppress(psycopg2.Error):
        database.execute("SELECT bridge.prune()")
    time.sleep(2.5)  # the numbers are a second old, and log lines are written
    channels = int(_metric(server, "channels"))
    time.sleep(0.5)  # that request is over
    return Sample(
        minute,
        sum(_rss(pid) for pid in server.workers),
        sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in server.workers),
        count_greenlets(server.folder, server.workers),
        len(database.listeners()),
        channels,
    )


def judge(samples: list[Sample]) -> list[str]:
    """Say what the last half has more than it should."""
    half = samples[len(samples) // 2 :]
    found = []
    third = max(1, len(half) // 3)
    first = statistics.median(one.rss for one in half[:third])
    last = statistics.median(one.rss for one in half[-third:])
    if last > first * (1 + MAX_GROWTH):
        found.append(f"memory grew by {last / first - 1:.1%}")
    for name in ("files", "greenlets", "listeners", "channels"):
        values = {getattr(one, name) for one in half}
        if len(values) > 1:
            found.append(f"{name} are not equal: {sorted(values)}")
    return found


def _metric(server: Gunicorn, name: str) -> float:
    try:
        _, _, page = server.get("/metrics")
    except OSError:
        return -1
    for line in page.splitlines():
        if line.startswith(f"pgbridge_{name} "):
            return float(line.split()[1])
    return -1


def _rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def plot(samples: list[Sample], path: Path) -> None:
    """Draw memory and files over time."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5))
    minutes = [one.minute for one in samples]
    axes[0].plot(minutes, [one.rss / 2**20 for one in samples])
    axes[0].set_ylabel("MiB, all workers")
    for name in ("files", "greenlets", "listeners"):
        axes[1].plot(minutes, [getattr(one, name) for one in samples], label=name)
    axes[1].set_xlabel("minutes")
    axes[1].legend()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
