"""Every benchmark: writes docs/performance.md, .svg and .json.

python benchmarks/bench.py            # 45 minutes or so, on a quiet machine
python benchmarks/bench.py --quick    # some three minutes; figures mean little
"""

from __future__ import annotations

import sys

import bulk
import channels
import fanout
import hostile
import idle
import journal
import memory
import replay
import sequencing
import storm
import tls
import writers
from program import main

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

if __name__ == "__main__":
    sys.exit(main(SCENARIOS, all_of_them=True))
