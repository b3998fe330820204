"""Write what was measured: performance.md, its picture, the raw values."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from report import picture, sections

__all__ = ["write"]

Results = dict[str, Any]

INTRODUCTION = """\
# Performance

Written by `make bench` (`benchmarks/bench.py`); every value of every run is in
[performance.json](performance.json).
{warning}
Measured {date} in {minutes} minutes, at commit `{commit}`{earlier}.

{machine}

How to read it:

- Runs: {runs}, interleaved. Every figure is the median over them, with the range in
  brackets where it matters; in each run every system is started anew.
  **pgbridge ÷ it** is the median of the ratios within the runs.
- Server, PostgreSQL, writer and subscribers share this machine's cores, so the ratios
  say more than the figures. PostgreSQL runs without `fsync`, so that the commit costs
  little and what is measured is the way behind it, except where a section says that
  it flushes.
- The subscribers are one C program (`benchmarks/load.c`) that counts frames, checks on
  every connection that no notification is missing, double or out of order, and answers
  pings. What it found wrong stands under *faults*.
- The rivals (`benchmarks/rivals/`): the *naive bridge* is what one writes first in
  the same Gunicorn with gevent-websocket, a queue and a blocked greenlet for every
  subscriber; the *bare C server* is an epoll loop that does nothing but fan out, with
  one write for every message or for everything that one read from PostgreSQL brought;
  the *Node relays* use `pg` with `ws`, and with `socket.io` as an old talk did;
  *nginx with nchan* is fed by a Python loop that listens and posts, whose time and
  memory count with nginx's.
- A rival that checks, bounds and promises less has less to do: the bare C server knows
  no limits, origins, heartbeats or lost databases, and stands here as the limit.
"""

QUICK_WARNING = """
**A quick run, to see that everything works: far too small for its figures to mean
anything.**
"""


def _introduction(results: Results) -> str:
    about = results["about"]
    rows = [
        ["processor", f"{about['cpu']}, {about['cores']} cores, {about['memory']}"],
        ["kernel", about["kernel"]],
        ["Python", about["python"]],
        ["packages", f"{about['packages']}, psycopg2 {about['psycopg2']}"],
        ["PostgreSQL", about["postgresql"]],
        ["Node", about["node"]],
    ]
    return INTRODUCTION.format(
        warning=QUICK_WARNING if results["quick"] else "",
        date=_date(results),
        minutes=max(1, round(results["seconds"] / 60)),
        commit=about["commit"],
        earlier="".join(map(_earlier, results.get("earlier", []))),
        runs=results["runs"],
        machine="| | |\n|---|---|\n"
        + "\n".join(f"| {name} | {value} |" for name, value in rows),
    )


def _earlier(one: Results) -> str:
    return f"; {', '.join(one['scenarios'])} on {_date(one)} at `{one['commit']}`"


def _date(measured: Results) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(measured["began"]))


def write(results: Results, out: Path) -> list[Path]:
    """Write the raw values, the page, and the picture if matplotlib is there.

    Returns:
        The files.
    """
    out.mkdir(parents=True, exist_ok=True)
    raw, page, drawn = (out / f"performance.{kind}" for kind in ("json", "md", "svg"))
    raw.write_text(json.dumps(results, indent=1) + "\n")
    parts = [_introduction(results)]
    written = [raw, page]
    if picture.draw(results, drawn):
        written.append(drawn)
        parts.append("![The figures below as bars](performance.svg)\n")
    parts += [
        f"## {heading}\n\n{text}\n" for heading, text in sections.sections(results)
    ]
    page.write_text("\n".join(parts))
    return written
