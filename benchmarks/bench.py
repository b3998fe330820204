"""Every benchmark: writes docs/performance.md, .svg and .json.

python benchmarks/bench.py            # about half an hour, on a quiet machine
python benchmarks/bench.py --quick    # less than two; figures mean little
"""

from __future__ import annotations

import sys

import channels
import fanout
import hostile
import idle
import memory
import storm
import tls
from program import main

SCENARIOS = (
    *fanout.SCENARIOS,
    *idle.SCENARIOS,
    *memory.SCENARIOS,
    *channels.SCENARIOS,
    *storm.SCENARIOS,
    *tls.SCENARIOS,
    *hostile.SCENARIOS,
)

if __name__ == "__main__":
    sys.exit(main(SCENARIOS))
