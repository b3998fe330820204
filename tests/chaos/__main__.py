"""The command line: `python -m chaos --seconds 600`."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from chaos.run import run

KILLS_PER_ROUND = 20
PAUSE = 1.5


def main() -> int:
    """Run rounds until the time is over; 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m chaos")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, help="one round with this seed")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    while True:
        seed = options.seed or secrets.randbelow(1_000_000)
        outcome = run(seed=seed, kills=KILLS_PER_ROUND, pause=PAUSE)
        print(f"seed {seed}: {outcome}", flush=True)
        if outcome.faults:
            return 1
        if options.seed or time.monotonic() > until:
            return 0


if __name__ == "__main__":
    sys.exit(main())
