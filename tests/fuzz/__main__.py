"""The command line: `python -m fuzz --seconds 60`."""

from __future__ import annotations

import argparse
import secrets
import sys

from support.temporary import nothing_left

from fuzz.run import fuzz
from fuzz.targets import TARGETS

LIVE = "live"


@nothing_left()
def main() -> int:
    """Fuzz every target, then a running server; 1 when something is wrong."""
    options = _options()
    names = options.only or [*TARGETS, LIVE]
    pure = [name for name in names if name != LIVE]
    print(f"seed {options.seed}", flush=True)
    # The server gets half of the time when there is something else too.
    live = options.seconds / (2 if pure else 1) if LIVE in names else 0.0
    failed = False
    for name in pure:
        seconds = (options.seconds - live) / len(pure)
        report = fuzz(name, TARGETS[name](), options.seed, seconds, options.input)
        print(report, flush=True)
        failed |= report.failure is not None
    if live:
        # It needs gevent's Gunicorn and a PostgreSQL; the targets do not.
        from fuzz.live import fuzz_server

        result = fuzz_server(options.seed, live)
        print(result, flush=True)
        failed |= bool(result.failures)
    return int(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("--seconds", type=float, default=60.0, help="in all")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*TARGETS, LIVE],
        metavar="TARGET",
        help=f"some of: {', '.join([*TARGETS, LIVE])}",
    )
    parser.add_argument(
        "--input", type=int, metavar="N", help="input N of the seed alone"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
