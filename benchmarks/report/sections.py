"""The sections of the page: what was done, and its table."""

from __future__ import annotations

from collections.abc import Callable

from report import durable_sections
from report.tables import (
    OURS,
    Results,
    by_system,
    fault_text,
    kilobytes,
    median,
    megabytes,
    microseconds,
    milliseconds,
    of,
    one_system,
    percent,
    ratio,
    rounded,
    seconds,
    table,
    times,
    whole,
)

__all__ = ["all_tables", "sections"]


def burst(results: Results) -> str:
    return by_system(
        results,
        "burst",
        [
            ("deliveries/s", "per_second", rounded, True),
            ("first to last receive", "per_second_first_to_last", rounded, False),
            ("server CPU", "cpu_seconds", seconds, False),
            ("client CPU", "client_cpu_seconds", seconds, False),
        ],
        "per_second",
        "per_second_first_to_last",
    )


def paced(results: Results) -> str:
    return by_system(
        results,
        "paced",
        [
            ("server CPU", "cpu_seconds", seconds, True),
            ("p50", "latency_p50", milliseconds, False),
            ("p99", "latency_p99", milliseconds, False),
        ],
        "cpu_seconds",
    )


def idle(results: Results) -> str:
    return by_system(
        results,
        "idle",
        [
            ("commit → receive p50", "commit_p50", microseconds, True),
            ("p99", "commit_p99", microseconds, False),
            ("publish → receive p50", "publish_p50", microseconds, True),
        ],
        "commit_p50",
        "publish_p50",
    )


def memory(results: Results) -> str:
    few, many = results["scale"]["memory"]
    return by_system(
        results,
        "memory",
        [
            ("a connection", "bytes_per_connection", kilobytes, True),
            (f"at {few:,}", "rss_few", megabytes, False),
            (f"at {many:,}", "rss_many", megabytes, False),
        ],
        "bytes_per_connection",
    )


def crowd(results: Results) -> str:
    return one_system(
        results,
        "crowd",
        [
            ("until all are subscribed", "subscribed_seconds", seconds),
            ("memory a connection, from empty", "bytes_per_connection", kilobytes),
            ("publish → receive p50", "latency_p50", milliseconds),
            ("p99", "latency_p99", milliseconds),
            ("the last of all", "latency_max", milliseconds),
        ],
    )


def crowd_tls(results: Results) -> str:
    return one_system(
        results,
        "crowd_tls",
        [
            ("until all are subscribed", "subscribed_seconds", seconds),
            ("memory a connection, from empty", "bytes_per_connection", kilobytes),
        ],
    )


def hostile(results: Results) -> str:
    return one_system(
        results,
        "hostile",
        [
            ("in peace: publish → receive p50", "peace_p50", milliseconds),
            ("p99", "peace_p99", milliseconds),
            ("with the crowd: publish → receive p50", "hostile_p50", milliseconds),
            ("p99", "hostile_p99", milliseconds),
            ("with the crowd ÷ in peace, p50", "ratio_p50", times),
            ("p99", "ratio_p99", times),
            ("connections a second that the crowd made", "connects_per_second", whole),
        ],
    )


def flood(results: Results) -> str:
    return one_system(
        results,
        "flood",
        [
            ("in peace: publish → receive p50", "peace_p50", milliseconds),
            ("p99", "peace_p99", milliseconds),
            ("with the flooders: publish → receive p50", "flood_p50", milliseconds),
            ("p99", "flood_p99", milliseconds),
            ("with the flooders ÷ in peace, p50", "ratio_p50", times),
            ("p99", "ratio_p99", times),
            ("a worker's time that the flooders took", "share", percent),
            ("frames a second that they were answered", "answers_per_second", whole),
        ],
    )


def channels(results: Results) -> str:
    return one_system(
        results,
        "channels",
        [
            ("sessions that LISTEN", "sessions", whole),
            ("until all are connected", "upgraded_seconds", seconds),
            ("until all are subscribed", "subscribed_seconds", seconds),
            ("publish → receive p50", "latency_p50", milliseconds),
            ("p99", "latency_p99", milliseconds),
        ],
    )


def storm(results: Results) -> str:
    return by_system(
        results,
        "storm",
        [
            ("handshakes/s", "per_second", rounded, True),
            ("subscribed/s", "subscribed_per_second", rounded, False),
            ("p50", "handshake_p50", milliseconds, False),
            ("p99", "handshake_p99", milliseconds, False),
            ("server CPU", "cpu_seconds", seconds, False),
        ],
        "per_second",
    )


def spread(results: Results) -> str:
    records = of(results["records"], scenario="spread")
    rows = []
    for concurrency in sorted({r["parameters"].get("concurrency", 0) for r in records}):
        for key, label in {r["system"]: r["label"] for r in records}.items():
            found = of(records, concurrency=concurrency, system=key)
            if not found:
                continue
            how = "one at a time" if concurrency == 1 else f"{concurrency} at a time"
            counts = "; ".join(
                "/".join(str(count) for count in record["values"].get("counts", []))
                for record in found
            )
            shown = median(found, "ratio", times, True)
            rows.append([f"{label}, {how}", shown, counts, fault_text(found)])
    return table(["", "fullest ÷ emptiest", "connections in each run", "faults"], rows)


def matrix(results: Results) -> str:
    records = of(results["records"], scenario="matrix")
    first = {record["system"]: record["label"] for record in records}
    keys = [key for key in [OURS, *results["order"]] if key in first]
    keys = list(dict.fromkeys(keys))
    cells = dict.fromkeys(
        (r["parameters"]["channels"], r["parameters"]["payload_bytes"])
        for r in records
        if r["parameters"]
    )
    deliveries, commits = [], []
    for count, size in sorted(cells):
        cell = of(records, channels=count, payload_bytes=size)
        ours = of(cell, system=OURS)
        name = f"{count:,} × {size:,} bytes"
        row = [name, f"{cell[0]['parameters']['commits']:,}"]
        for key in keys:
            found = of(cell, system=key)
            row.append(median(found, "per_second", rounded))
            if key != OURS:
                row.append(ratio(ours, found, "per_second"))
        deliveries.append(row)
        row = [name]
        for key in keys:
            found = of(cell, system=key)
            row.append(median(found, "commits_per_second", rounded))
            row.append(median(found, "latency_p50", milliseconds))
            row.append(median(found, "latency_p99", milliseconds))
        commits.append(row)
    header = ["channels × payload", "commits"]
    for key in keys:
        header += [first[key]] if key == OURS else [first[key], "pgbridge ÷ it"]
    faults = [f"- {first[key]}: {fault_text(of(records, system=key))}" for key in keys]
    parts = [
        table(header, deliveries),
        "The same: the commits a second that the writer reached meanwhile, and p50 "
        "and p99 from publish to receive.",
        table(
            ["channels × payload"]
            + [
                title
                for key in keys
                for title in (f"{first[key]}: commits/s", "p50", "p99")
            ],
            commits,
        ),
        "Faults:\n\n" + "\n".join(faults),
    ]
    return "\n\n".join(parts)


def _words(results: Results) -> dict[str, str]:
    scale = results["scale"]
    few, many = scale["memory"]
    return {
        "fanout": f"{scale['subscribers']:,} subscribers of one channel",
        "burst": f"{scale['burst']:,} commits from one session as fast as it can",
        "paced": f"{scale['rate']} commits a second for {scale['paced_seconds']:g} s",
        "memory": f"{few:,} and {many:,} connections, {scale['memory_idle']:g} s quiet",
    }


SECTIONS: list[tuple[str, str, str, Callable[[Results], str]]] = [
    (
        "burst",
        "Burst",
        "{burst}, {fanout}. Deliveries divided by the time from the first publish "
        "to the last receive; beside it, from the first receive to the last.",
        burst,
    ),
    (
        "paced",
        "Steady pace",
        "{paced}, {fanout}. User and system time of the server's processes "
        "(`/proc/PID/stat`), and how late the notifications were.",
        paced,
    ),
    (
        "idle",
        "Latency on an idle system",
        "One subscriber, one notification at a time. PostgreSQL signals its "
        "listeners before it answers the writer, so the time from the commit's "
        "return can be below zero. Beside it the whole time from before the "
        "publish.",
        idle,
    ),
    (
        "memory",
        "Memory of a quiet connection",
        "Resident memory of the server's processes with {memory}, each connection "
        "subscribed and having received 10 notifications: the difference, divided "
        "by the connections between.",
        memory,
    ),
    (
        "crowd",
        "{scale[crowd]:,} connections on one worker",
        "All subscribed to one channel; 10 notifications, 2 a second.",
        crowd,
    ),
    (
        "crowd_tls",
        "{scale[crowd]:,} connections on one worker, over TLS",
        "The same with Gunicorn's own `certfile`, from one Python client that opens "
        "one after another; every client got every notification unless *faults* "
        "says otherwise.",
        crowd_tls,
    ),
    (
        "hostile",
        "A hostile crowd",
        "100 subscribers receive 100 notifications a second for "
        "{scale[hostile_seconds]} s; then again while 2,000 connections send nothing, "
        "200 send garbage and 100 open and close as fast as they can, all from one "
        "Python program on the same cores. *Faults* are notifications lost, and "
        "subscribers closed.",
        hostile,
    ),
    (
        "flood",
        "Two clients that flood",
        "200 subscribers receive 100 notifications a second for "
        "{scale[hostile_seconds]} s; then again while one client sends pings, and "
        "another one subscribes and unsubscribes, as fast as they are taken. Each is "
        "read at 50 messages a second after a burst of 500, which is in the figures.",
        flood,
    ),
    (
        "channels",
        "{scale[channels]:,} channels",
        "One subscriber each, one worker; {scale[random_deliveries]:,} "
        "notifications, each to a random channel, one at a time.",
        channels,
    ),
    (
        "storm",
        "Handshakes",
        "{scale[storm]:,} clients, one worker.",
        storm,
    ),
    (
        "spread",
        "Spread over {scale[spread_workers]} workers",
        "{scale[spread]:,} connections; the worker with the most against the one "
        "with the fewest.",
        spread,
    ),
    (
        "matrix",
        "Channels and payloads",
        "{scale[subscribers]:,} subscribers over all channels, a burst of commits "
        "round the channels. Deliveries a second; with many channels the writer's "
        "commits are the limit, since each is for few subscribers.",
        matrix,
    ),
    *durable_sections.SECTIONS,
]


def sections(results: Results) -> list[tuple[str, str]]:
    """Return (heading, text) of each scenario that was measured."""
    names = {record["scenario"] for record in results["records"]}
    words = {**_words(results), "scale": results["scale"]}
    found = []
    for name, heading, says, make in SECTIONS:
        if name in names:
            text = says.format(**words)
            text = text[0].upper() + text[1:]
            found.append((heading.format(**words), f"{text}\n\n{make(results)}"))
    return found


def all_tables(results: Results) -> str:
    """Return all tables as text."""
    return "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections(results))
