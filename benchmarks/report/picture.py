"""Draw the main figures as bars."""

from __future__ import annotations

import statistics
from pathlib import Path

from report.tables import OURS, Results, of, rounded, values

__all__ = ["draw"]

PANELS = [
    ("burst", "per_second", "burst: deliveries/s (more is better)", 1),
    ("paced", "cpu_seconds", "steady pace: server CPU, s (less is better)", 1),
    (
        "memory",
        "bytes_per_connection",
        "a quiet connection, KiB (less is better)",
        1024,
    ),
    ("idle", "publish_p50", "idle: publish → receive p50, ms (less is better)", 1e-3),
]


def draw(results: Results, path: Path) -> bool:
    """Draw a panel a scenario; False when matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    # The same figures make the same file, and text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "pgbridge", "svg.fonttype": "none"})
    from matplotlib import pyplot

    names = {record["scenario"] for record in results["records"]}
    panels = [panel for panel in PANELS if panel[0] in names]
    if not panels:
        return False
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(9, 2.6 * len(panels)), squeeze=False
    )
    for axis, (scenario, name, title, unit) in zip(axes[:, 0], panels, strict=True):
        records = of(results["records"], scenario=scenario)
        labels = {record["system"]: record["label"] for record in records}
        rows = []
        for key, label in labels.items():
            found = [v / unit for v in values(of(records, system=key), name).values()]
            if found:
                rows.append(
                    (statistics.median(found), min(found), max(found), key, label)
                )
        rows.sort(reverse=not title.endswith("(more is better)"))
        middle = [row[0] for row in rows]
        errors = [
            [row[0] - row[1] for row in rows],
            [row[2] - row[0] for row in rows],
        ]
        colors = ["#336791" if row[3] == OURS else "#b8c4cf" for row in rows]
        bars = axis.barh(
            [row[4] for row in rows],
            middle,
            xerr=errors,
            color=colors,
            ecolor="#555555",
            capsize=2,
        )
        axis.bar_label(bars, [f"  {rounded(value)}" for value in middle], fontsize=8)
        axis.xaxis.set_major_formatter("{x:,g}")
        axis.set_title(title, fontsize=10, loc="left")
        axis.tick_params(labelsize=8)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True
