"""The command line: `python -m chaos --seconds 600`."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from itertools import cycle

from support.temporary import nothing_left

from chaos.run import run
from chaos.scenes import SCENES

KILLS_PER_ROUND = 20
PAUSE = 1.5


@nothing_left()
def main() -> int:
    """Run rounds until the time is over; 1 when something is wrong."""
    options = _options()
    until = time.monotonic() + options.seconds
    for name in cycle(options.scene or SCENES):
        seed = options.seed or secrets.randbelow(1_000_000)
        outcome = run(
            seed=seed,
            kills=options.kills,
            pause=PAUSE,
            scene=SCENES[name],
            kind=options.kind,
        )
        print(f"{name}, seed {seed}: {outcome}", flush=True)
        if outcome.faults:
            return 1
        if options.seed or time.monotonic() > until:
            break
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, help="one round with this seed")
    parser.add_argument("--scene", nargs="+", choices=SCENES, metavar="NAME")
    parser.add_argument("--kills", type=int, default=KILLS_PER_ROUND, help="a round")
    parser.add_argument("--kind", action="store_true", help="kill nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
