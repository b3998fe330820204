"""What the operator's pages name is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bridge.operations.metrics import METRICS

ROOT = Path(__file__).parent.parent.parent
SUFFIXES = {"counter": "_total", "histogram": "_bucket", "gauge": "", "max": ""}
NAMES = {f"pgbridge_{spec.name}{SUFFIXES[spec.kind]}" for spec in METRICS}


def test_dashboard_shows_every_metric_and_no_other() -> None:
    dashboard = json.loads((ROOT / "examples" / "grafana.json").read_text())

    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]

    used = set(re.findall(r"pgbridge_[a-z_]+", " ".join(expressions)))
    assert used == NAMES


def test_alerts_name_metrics_that_exist() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    rules = page.partition("```yaml")[2].partition("```")[0]

    used = set(re.findall(r"pgbridge_[a-z_]+", rules))

    assert len(used) == 6
    assert used <= NAMES


def test_labels_of_the_dashboard_are_those_of_the_metrics() -> None:
    text = (ROOT / "examples" / "grafana.json").read_text()

    for label, name in re.findall(r"by \((\w+)\) \([a-z]*\(?(pgbridge_\w+)", text):
        (spec,) = [s for s in METRICS if name.startswith(f"pgbridge_{s.name}")]
        assert label == ("le" if spec.kind == "histogram" else spec.label)


def test_every_record_of_the_log_is_on_the_page_and_no_other() -> None:
    sources = [*(ROOT / "bridge").rglob("*.py"), *(ROOT / "hooks").rglob("*.py")]
    said = set()
    for source in sources:
        said |= set(re.findall(r'"action": "(\w+)"', source.read_text()))

    page = (ROOT / "docs" / "operations.md").read_text()
    table = page.partition("| action | level | says |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    written = [name for row in rows for name in re.findall(r"`(\w+)`", row)]

    assert len(written) == len(set(written))
    assert set(written) == said
