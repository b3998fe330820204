"""The command line: `python -m faults`."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from support.postgres import Cluster
from support.temporary import nothing_left

from benchmarks.report.machine import describe_machine
from faults.cases import FAULTS
from faults.page import page
from faults.run import run

PAGE = Path(__file__).parent.parent.parent / "docs" / "faults.md"


@nothing_left()
def main() -> int:
    """Let every fault happen; 1 when a promise was broken."""
    options = _options()
    if options.list:
        for kind in FAULTS.values():
            print(f"{kind.name:>16}  {kind(options.quick)}")
        return 0
    began = time.time()
    outcomes = []
    for name in options.only or FAULTS:
        outcomes.append(run(FAULTS[name], quick=options.quick))
        print(outcomes[-1], flush=True)
    out = options.out or (None if options.only or options.quick else PAGE)
    if out is not None:
        out.write_text(page(outcomes, _about(), began, quick=options.quick))
        print(f"written: {out}")
    return int(any(outcome.broken for outcome in outcomes))


def _about() -> dict[str, str]:
    with ExitStack() as stack:
        cluster = Cluster()
        stack.callback(cluster.delete)
        cluster.start()
        return describe_machine(cluster.url)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults")
    parser.add_argument("--only", nargs="+", choices=FAULTS, metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name them and end")
    parser.add_argument(
        "--quick", action="store_true", help="short, as the test does it"
    )
    parser.add_argument(
        "--out", type=Path, help=f"the page; only a full run writes {PAGE.name} itself"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
