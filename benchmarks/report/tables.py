"""Tables of what was measured: medians, ranges and ratios, in Markdown.

Every figure is the median over the runs; every ratio is the median of the
ratios within the runs. A run with a fault keeps its figure and is named.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = [
    "OURS",
    "Records",
    "Results",
    "by_system",
    "fault_text",
    "kilobytes",
    "median",
    "megabytes",
    "microseconds",
    "milliseconds",
    "of",
    "one_system",
    "percent",
    "ratio",
    "rounded",
    "seconds",
    "short",
    "small",
    "table",
    "times",
    "values",
    "whole",
]

OURS = "pgbridge"

Results = dict[str, Any]
Records = list[dict[str, Any]]
Format = Callable[[float], str]


# Formats.


def short(value: object) -> str:
    """Show a value in a line of progress."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def whole(value: float) -> str:
    return f"{value:,.0f}"


def rounded(value: float) -> str:
    """Three figures, with separators."""
    if abs(value) >= 1000:
        digits = len(f"{abs(value):.0f}") - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def milliseconds(value: float) -> str:
    return f"{value * 1e3:.2f} ms"


def microseconds(value: float) -> str:
    return f"{value * 1e6:,.0f} µs"


def small(value: float) -> str:
    """Microseconds, with a digit behind the point."""
    return f"{value * 1e6:.1f} µs"


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def kilobytes(value: float) -> str:
    return f"{value / 1024:.1f} KiB"


def megabytes(value: float) -> str:
    return f"{value / 2**20:.0f} MiB"


def percent(value: float) -> str:
    return f"{value:.1%}"


def times(value: float) -> str:
    return f"{value:.1f}×" if value >= 10 else f"{value:.2f}×"


# Records.


def of(records: Records, **wanted: Any) -> Records:
    """Return the records whose fields and parameters are as wanted."""
    return [
        record
        for record in records
        if all(
            {**record["parameters"], **record}.get(k) == v for k, v in wanted.items()
        )
    ]


def values(records: Records, name: str) -> dict[int, float]:
    """Return a value by run."""
    return {
        record["run"]: record["values"][name]
        for record in records
        if record["values"].get(name) is not None
    }


def median(records: Records, name: str, form: Format, spread: bool = False) -> str:
    """Show the median of a value over the runs, and its range."""
    found = list(values(records, name).values())
    if not found:
        return "–"
    text = form(statistics.median(found))
    if spread and len(found) > 1:
        text += f" ({form(min(found))} – {form(max(found))})"
    return text


def ratio(ours: Records, theirs: Records, name: str) -> str:
    """Show the median over the runs of our value divided by theirs."""
    mine, other = values(ours, name), values(theirs, name)
    found = [
        mine[run] / other[run]
        for run in mine.keys() & other.keys()
        if mine[run] > 0 and other[run] > 0
    ]
    return times(statistics.median(found)) if found else "–"


def fault_text(records: Records) -> str:
    """Say in how many runs something was wrong, and what."""
    faulty = [record for record in records if record["faults"]]
    if not faulty:
        return "none"
    texts = list(dict.fromkeys(text for one in faulty for text in one["faults"]))
    more = f"; and {len(texts) - 2} more" if len(texts) > 2 else ""
    shown = "; ".join(text.replace("|", "/") for text in texts[:2])
    return f"**in {len(faulty)} of {len(records)} runs**: {shown}{more}"


# Tables.


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a Markdown table; all columns but the first are figures."""
    lines = [
        "| " + " | ".join(header) + " |",
        "|---|" + "---:|" * (len(header) - 1),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def by_system(
    results: Results,
    scenario: str,
    columns: Sequence[tuple[str, str, Format, bool]],
    *compared: str,
) -> str:
    """Make a table with a row a system.

    Args:
        columns: title, value, format, and whether the range is shown.
        compared: the values whose ratio is shown beside them.
    """
    records = of(results["records"], scenario=scenario)
    ours = of(records, system=OURS)
    first = {record["system"]: record["label"] for record in records}
    order = [OURS, *(key for key in results["order"] if key != OURS)]
    titles = []
    for title, name, *_ in columns:
        titles += [title, "pgbridge ÷ it"] if name in compared else [title]
    rows = []
    for key in order:
        found = of(records, system=key)
        if not found:
            continue
        cells = []
        for _, name, form, wide in columns:
            cells.append(median(found, name, form, wide))
            if name in compared:
                cells.append("" if key == OURS else ratio(ours, found, name))
        rows.append([first[key], *cells, fault_text(found)])
    for key, (label, reason) in results["absent"].items():
        if key not in first:
            empty = [""] * (len(titles) - 1)
            rows.append([label, f"left out: {reason}", *empty, ""])
    return table(["", *titles, "faults"], rows)


def one_system(
    results: Results, scenario: str, lines: Sequence[tuple[str, str, Format]]
) -> str:
    """Make a table with a row a value, for what only pgbridge is asked."""
    records = of(results["records"], scenario=scenario)
    rows = [[title, median(records, name, form, True)] for title, name, form in lines]
    rows.append(["faults", fault_text(records)])
    return table(["", "pgbridge"], rows)
