"""Write what was found: docs/faults.md."""

from __future__ import annotations

import time
from collections.abc import Sequence

from faults.fault import Fault
from faults.run import WRITERS, Outcome

__all__ = ["page"]

HEAD = """\
# Faults

Written by `make faults` (`tests/faults`). It lets every fault that is known happen
while {witnesses} subscribers of two plain and two durable channels listen, served by
two workers, and {writers} sessions publish; then it compares what was committed with
what each subscriber has.
{warning}
Measured {date} in {minutes} minutes, at commit `{commit}`.

| | |
|---|---|
| processor | {cpu}, {cores} cores, {memory} |
| kernel | {kernel} |
| Python | {python} |
| packages | {packages}, psycopg2 {psycopg2} |
| PostgreSQL | {postgresql}; 15 for the failover |

How to read it:

- **events**: deliveries that were due: every committed event of its channel to every
  subscriber, from its first `subscribed` to the end of the run, across all of its
  connections.
- **lost**: due, not received, and no `gap` stands where it is missing and covers the
  time of its commit. On plain channels a subscriber that had to reconnect says
  `resume`, so the loss in between must be told too; on durable ones it resumes with its
  cursor.
- **twice**: again on one connection; on durable channels, again at all.
- **disorder**: before something that had committed earlier, or against the order of
  positions.
- **foreign**: delivered, and never committed; every tenth transaction is rolled back.
- **gaps**: told; in brackets those for which nothing was missing.
- **flows again**: seconds from when the cause was gone, until everybody whom the fault
  disturbs had an event that was published after that. The longest of them counts.
- **closed**: connections lost of subscribers that must keep theirs. While the database
  is away, that is everybody; when a worker ends, those of the other.
- **untouched**: how many subscribers the fault should not even delay.
- **p99**: of the untouched, the 99th percentile of the milliseconds from before the
  publish to the receive: before the fault, and from its start until notifications flow
  again.

Subscribers, writers, PostgreSQL and both workers share the machine, and subscribers and
writers one Python process: the milliseconds say more about that than about pgbridge.

"""

COLUMNS = (
    "fault",
    "events",
    "lost",
    "twice",
    "disorder",
    "foreign",
    "gaps",
    "flows again, s",
    "closed",
    "untouched",
    "p99, ms",
)

QUICK_WARNING = """
**A quick run, to see that everything works: its figures mean nothing.**
"""


def page(
    outcomes: Sequence[Outcome],
    about: dict[str, str],
    began: float,
    *,
    quick: bool,
) -> str:
    """Return the page.

    Args:
        about: machine and software, as `benchmarks.report.machine` describes them.
        began: Unix seconds when the run began.
    """
    head = HEAD.format(
        **about,
        witnesses=4 * Fault.witnesses,
        writers=WRITERS,
        warning=QUICK_WARNING if quick else "",
        date=time.strftime("%Y-%m-%d", time.gmtime(began)),
        minutes=max(1, round((time.time() - began) / 60)),
    )
    table = [
        COLUMNS,
        ["---"] + ["--:"] * (len(COLUMNS) - 1),
        *(_cells(one) for one in outcomes),
    ]
    rows = "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in table)
    notes = "".join(
        f"- *{one.name}*: {note}\n" for one in outcomes for note in one.notes
    )
    wrong = "".join(
        f"- *{one.name}*: {what}\n" for one in outcomes for what in one.broken
    )
    return (
        head
        + rows
        + (f"\n## What is wrong\n\n{wrong}" if wrong else "")
        + (f"\n## Notes\n\n{notes}" if notes else "")
    )


def _cells(one: Outcome) -> list[object]:
    label = f"{one.says} (*{one.name}*)"
    if one.not_run is not None:
        return [f"{label}: not run, {one.not_run}", *[""] * (len(COLUMNS) - 1)]
    told = one.verdict
    latency = "–"
    if one.before is not None and one.during is not None:
        latency = f"{1000 * one.before:.0f} → {1000 * one.during:.0f}"
    return [
        label,
        f"{told.events:,}",
        told.lost,
        told.twice,
        told.disorder,
        told.uncommitted,
        f"{told.gaps} ({told.needless})" if told.gaps else "0",
        f"{one.flows_after:.1f}" if one.name != "none" else "–",
        one.closed,
        one.undisturbed or "–",
        latency,
    ]
