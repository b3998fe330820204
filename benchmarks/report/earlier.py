"""Keep what was measured earlier, where only some scenarios are measured again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["with_earlier"]

Results = dict[str, Any]

SAME = ("cpu", "cores", "memory", "postgresql")
"""What must not have changed, for figures to stand on one page."""


def with_earlier(results: Results, raw: Path) -> Results:
    """Add the records of other scenarios, and say of which commit they are.

    Args:
        raw: the performance.json that is written over.

    Raises:
        ValueError: they are of another machine, or of more or fewer runs.
    """
    before = json.loads(raw.read_text())
    for name in SAME:
        if before["about"][name] != results["about"][name]:
            raise ValueError(f"{raw} is of another machine: {before['about'][name]}")
    if before["runs"] != results["runs"]:
        raise ValueError(f"{raw} has {before['runs']} runs")
    again = _scenarios(results["records"])
    kept = [one for one in before["records"] if one["scenario"] not in again]
    older = [
        {**one, "scenarios": [name for name in one["scenarios"] if name not in again]}
        for one in before.get("earlier", [])
    ]
    known = again.union(*(one["scenarios"] for one in older))
    last = {
        "commit": before["about"]["commit"],
        "began": before["began"],
        "scenarios": sorted(_scenarios(kept) - known),
    }
    return {
        **results,
        "absent": {**before["absent"], **results["absent"]},
        "earlier": [one for one in (last, *older) if one["scenarios"]],
        "records": kept + results["records"],
    }


def _scenarios(records: list[dict[str, Any]]) -> set[str]:
    return {record["scenario"] for record in records}
