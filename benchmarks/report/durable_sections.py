"""The sections of the page that are about durable channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from report.tables import (
    Records,
    Results,
    fault_text,
    median,
    megabytes,
    milliseconds,
    of,
    one_system,
    ratio,
    rounded,
    seconds,
    small,
    table,
    times,
    whole,
)

__all__ = ["SECTIONS"]


def writers(results: Results) -> str:
    records = of(results["records"], scenario="writers")
    rows = []
    for flush, clients in _cells(records, "flush_ms", "clients"):
        cell = of(records, flush_ms=flush, clients=clients)
        none, notify, publish = (
            of(cell, system=key) for key in ("none", "notify", "publish")
        )
        rows.append(
            [
                f"{clients} writers" + (f", flush {flush} ms longer" if flush else ""),
                median(none, "per_second", rounded),
                median(notify, "per_second", rounded),
                median(publish, "per_second", rounded, True),
                ratio(publish, notify, "per_second"),
                ratio(publish, none, "per_second"),
            ]
        )
    header = ["transactions/s", "no trigger", "pg_notify", "bridge.publish"]
    return _with_faults([*header, "÷ pg_notify", "÷ no trigger"], rows, records)


def listening(results: Results) -> str:
    records = of(results["records"], scenario="listening")
    cells = _cells(records, "workers")
    rows = []
    for (workers,) in cells:
        row = [f"{workers} workers" if workers > 1 else "1 worker"]
        for key in ("notify", "publish"):
            found = of(records, workers=workers, system=key)
            one = of(records, workers=cells[0][0], system=key)
            row += [
                median(found, "per_second", rounded, True),
                ratio(found, one, "per_second"),
                median(found, "worker_cpu_seconds", seconds),
            ]
        rows.append(row)
    header = ["transactions/s"]
    for name in ("pg_notify", "bridge.publish"):
        header += [name, "÷ the first row", "CPU of all workers"]
    return _with_faults(header, rows, records)


def bulk(results: Results) -> str:
    records = of(results["records"], scenario="bulk")
    notify = of(records, system="notify")
    rows = []
    for key, label in {r["system"]: r["label"] for r in records}.items():
        found = of(records, system=key)
        shown = median(found, "a_row", small, True)
        rows.append([label, shown, ratio(found, notify, "a_row")])
    return _with_faults(["", "a row", "÷ pg_notify"], rows, records)


def durable_idle(results: Results) -> str:
    return one_system(
        results,
        "durable_idle",
        [
            ("commit → receive p50", "commit_p50", milliseconds),
            ("p99", "commit_p99", milliseconds),
            ("publish → receive p50", "publish_p50", milliseconds),
            ("p99", "publish_p99", milliseconds),
        ],
    )


def durable_steady(results: Results) -> str:
    return one_system(
        results,
        "durable_steady",
        [
            ("events/s that were published", "per_second", whole),
            ("publish → receive p50", "latency_p50", milliseconds),
            ("p99", "latency_p99", milliseconds),
            ("the last of all", "latency_max", milliseconds),
        ],
    )


def durable_rest(results: Results) -> str:
    return one_system(
        results,
        "durable_rest",
        [
            ("statements a second", "statements_per_second", rounded),
            ("bytes of WAL in all", "wal_bytes", whole),
        ],
    )


def sequencing(results: Results) -> str:
    return one_system(
        results,
        "sequencing",
        [
            ("events/s, a step after each 1,000", "per_second", rounded),
            ("that step, p50", "step_p50", milliseconds),
            ("p99", "step_p99", milliseconds),
            ("events/s, one step for all of them", "backlog_per_second", rounded),
        ],
    )


def held(results: Results) -> str:
    return one_system(
        results,
        "held",
        [
            ("before: a step of 100, p50", "before_p50", milliseconds),
            ("p99", "before_p99", milliseconds),
            ("while they are open: p50", "step_p50", milliseconds),
            ("p99", "step_p99", milliseconds),
            ("the longest of all", "step_max", milliseconds),
            ("first quarter: p50", "first_p50", milliseconds),
            ("p99", "first_p99", milliseconds),
            ("last quarter: p50", "last_p50", milliseconds),
            ("p99", "last_p99", milliseconds),
            ("last quarter ÷ first, p50", "last_first", times),
        ],
    )


def replay(results: Results) -> str:
    return one_system(
        results,
        "replay",
        [
            ("events/s", "per_second", rounded),
            ("until it has all", "seconds", seconds),
            ("memory of the worker before", "rss_before", megabytes),
            ("at its peak", "rss_peak", megabytes),
            ("afterwards", "rss_after", megabytes),
        ],
    )


def replay_crowd(results: Results) -> str:
    records = of(results["records"], scenario="replay_crowd")
    rows = []
    for (count,) in _cells(records, "channels"):
        found = of(records, channels=count)
        rows.append(
            [
                f"{count:,} channels" if count > 1 else "1 channel",
                median(found, "seconds", seconds, True),
                median(found, "per_second", rounded),
                median(found, "rss_before", megabytes),
                median(found, "rss_peak", megabytes),
                median(found, "rss_after", megabytes),
            ]
        )
    header = ["", "until all have all", "events/s", "memory before", "peak", "after"]
    return _with_faults(header, rows, records)


def _cells(records: Records, *names: str) -> list[tuple[Any, ...]]:
    """Return the combinations of parameters that were measured, in order."""
    found = [
        tuple(r["parameters"][n] for n in names) for r in records if r["parameters"]
    ]
    return list(dict.fromkeys(found))


def _with_faults(header: list[str], rows: list[list[str]], records: Records) -> str:
    return f"{table(header, rows)}\n\nFaults: {fault_text(records)}."


SECTIONS: list[tuple[str, str, str, Callable[[Results], str]]] = [
    (
        "writers",
        "What a trigger costs writers",
        "One INSERT of a small row a transaction, by pgbench with prepared statements "
        "for {scale[writers_seconds]} s. The row trigger tells `row_to_json(NEW)` with "
        "`pg_notify` as in the talk, while nobody listens, or with `bridge.publish`, "
        "while a worker sequences. PostgreSQL flushes for each commit; then with a "
        "flush that takes 2 ms longer (`commit_delay`), as on a disk of a cloud.",
        writers,
    ),
    (
        "listening",
        "Writers while workers listen",
        "The same, 8 writers and 8 subscribers a worker. The rows tell 100 channels "
        "in turn and all subscribers want one of them, so that what is measured is "
        "being woken and reading, not writing to sockets. What arrives is counted. "
        "Everybody shares the cores: what the workers take the writers do not have.",
        listening,
    ),
    (
        "bulk",
        "One INSERT of {scale[bulk_rows]:,} rows",
        "With the same row trigger, and in the last line a trigger for the statement; "
        "the time of the statement with its commit, divided by the rows. *Asleep* is a "
        "session that holds the door shut, so that each row rings.",
        bulk,
    ),
    (
        "durable_idle",
        "Latency of a durable event on an idle system",
        "One subscriber, {scale[durable_idle]} events, one every 0.11 s: each finds "
        "the sequencer asleep. From the moment when the commit had returned; beside "
        "it from the moment before the publish.",
        durable_idle,
    ),
    (
        "durable_steady",
        "Latency of durable events at {scale[durable_rate]:,} a second",
        "Four sessions of one Python program, for {scale[durable_seconds]:g} s; each "
        "has a channel with a subscriber. From the moment before the publish, so the "
        "commit is part of it.",
        durable_steady,
    ),
    (
        "durable_rest",
        "Durable channels at rest",
        "One worker, one subscriber, nobody publishes: what PostgreSQL logs with "
        "`log_statement = all`, and how far its WAL moves with autovacuum off, over "
        "{scale[rest_seconds]:g} s, after {scale[settle_seconds]:g} s of quiet.",
        durable_rest,
    ),
    (
        "sequencing",
        "How fast events get their positions",
        "`bridge.step()` alone, {scale[sequenced]:,} events, PostgreSQL with flushes. "
        "Only the steps are timed.",
        sequencing,
    ),
    (
        "held",
        "The same while old transactions are open",
        "One that has published and does not end, and one with a snapshot that is "
        "REPEATABLE READ; meanwhile {scale[held_events]:,} events, 100 a step.",
        held,
    ),
    (
        "replay",
        "A client resumes {scale[replay]:,} events",
        "From before it connects until it has all, 100 bytes each. The worker has "
        "just started: all is read from the table.",
        replay,
    ),
    (
        "replay_crowd",
        "{scale[replay_clients]:,} clients resume {scale[replay_events]:,} events each",
        "At once, after a start of the worker as after a deploy; all with a cursor of "
        "the same moment, on one channel or spread over many. Memory is the worker's.",
        replay_crowd,
    ),
]
