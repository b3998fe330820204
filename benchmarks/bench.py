"""Every benchmark: writes docs/performance.md, .svg and .json.

python benchmarks/bench.py                # 45 minutes or so, on a quiet machine
python benchmarks/bench.py --quick        # some three minutes; figures mean little
python benchmarks/bench.py --only fanout  # one question

Nothing is left running, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import build
from build import Absent
from harness import Bench, say
from report import page, sections
from report.earlier import with_earlier
from report.machine import describe_machine
from rivals import systems
from scale import FULL, QUICK
from scenarios import (
    bulk,
    channels,
    fanout,
    hostile,
    idle,
    journal,
    memory,
    replay,
    sequencing,
    storm,
    tls,
    writers,
)
from support.files import raise_file_limit
from support.postgres import Cluster

DOCS = build.HERE.parent / "docs"


SCENARIOS = (
    *fanout.SCENARIOS,
    *idle.SCENARIOS,
    *memory.SCENARIOS,
    *channels.SCENARIOS,
    *storm.SCENARIOS,
    *tls.SCENARIOS,
    *hostile.SCENARIOS,
    *writers.SCENARIOS,
    *bulk.SCENARIOS,
    *journal.SCENARIOS,
    *sequencing.SCENARIOS,
    *replay.SCENARIOS,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; returns the exit code."""
    options = _options(arguments)
    scale = options.scale
    chosen = [one for one in SCENARIOS if one.name in options.only]
    wanted = [one for one in systems.ALL if one.key in options.systems]
    raise_file_limit()
    try:
        build.load()
    except Absent as exc:
        say(f"nothing can be measured: {exc}")
        return 1
    interrupts = _Interrupts()
    began = time.time()
    cluster = None
    try:
        cluster = Cluster()
        cluster.start()
        interrupts.let_through()
        bench = Bench(cluster.url, scale, options.runs, wanted)
        with closing(bench.publisher):
            about = describe_machine(cluster.url)
            for scenario in chosen:
                say(f"--- {scenario.name}")
                scenario.measure(bench)
    except KeyboardInterrupt:
        say("stopped; nothing is written")
        return 130
    finally:
        interrupts.hold()
        if cluster is not None:
            cluster.delete()
    results = {
        "about": about,
        "quick": options.quick,
        "runs": options.runs,
        "began": began,
        "seconds": round(time.time() - began),
        "scale": asdict(scale),
        "order": [systems.SelectLoop.key, *(one.key for one in systems.ALL)],
        "absent": bench.absent,
        "records": [asdict(record) for record in bench.records],
    }
    if options.update:
        try:
            results = with_earlier(results, options.out / "performance.json")
        except (OSError, ValueError) as exc:
            say(f"nothing to update: {exc}")
            options.out = build.BUILD / "results"
    written = page.write(results, options.out)
    print(sections.all_tables(results))
    say(f"written: {', '.join(str(path) for path in written)}")
    return 0


class _Interrupts:
    """SIGINT and SIGTERM, held back while the database is made or deleted."""

    def __init__(self) -> None:
        self._held = True
        self._came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: object) -> None:
        self._came = True
        if not self._held:
            raise KeyboardInterrupt

    def let_through(self) -> None:
        """From now on they raise KeyboardInterrupt; at once if one has come."""
        self._held = False
        if self._came:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Remember them only."""
        self._held = True


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [scenario.name for scenario in SCENARIOS]
    keys = [system.key for system in systems.ALL]
    parser = argparse.ArgumentParser(
        description="Measure pgbridge beside its rivals.",
        epilog=f"scenarios: {', '.join(names)}; systems: {', '.join(keys)}",
    )
    parser.add_argument(
        "--runs", type=int, default=None, help="interleaved runs; default 5, quick 1"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small, to see that everything works"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one number of the scale, for trying: memory_idle=5",
    )
    parser.add_argument("--only", help="scenarios, separated by commas")
    parser.add_argument(
        "--update",
        action="store_true",
        help="keep what docs/performance.json has of the other scenarios",
    )
    parser.add_argument("--systems", help="systems, separated by commas")
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder of performance.md, .svg and .json; default docs/ for a full "
        "run of every scenario, else benchmarks/.build/results",
    )
    options = parser.parse_args(arguments)
    options.only = _names(parser, options.only, names)
    options.systems = _names(parser, options.systems, keys)
    if options.runs is None:
        options.runs = 1 if options.quick else 5
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    options.scale = QUICK if options.quick else FULL
    for change in options.set:
        name, _, text = change.partition("=")
        try:
            value = type(getattr(options.scale, name))(json.loads(text))
            options.scale = replace(options.scale, **{name: value})
        except (AttributeError, TypeError, ValueError):
            parser.error(f"--set {change!r}: no such number of the scale")
    if options.out is None:
        whole = len(names) == len(options.only)
        whole = (whole or options.update) and not options.quick and not options.set
        options.out = DOCS if whole else build.BUILD / "results"
    return options


def _names(
    parser: argparse.ArgumentParser, text: str | None, known: list[str]
) -> list[str]:
    names = known if text is None else text.split(",")
    for name in names:
        if name not in known:
            parser.error(f"{name!r} is not one of {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
