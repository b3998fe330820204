"""What a trigger costs those who write: none, pg_notify, bridge.publish.

pgbench commits one INSERT a transaction, as fast as it can. PostgreSQL flushes
for each commit, as it does by default; then again with a flush that takes two
milliseconds more, as on a disk of a cloud. And with workers that listen.
"""

from __future__ import annotations

import re
import subprocess
import time
from typing import Any

from harness import AFTERWARDS, Attempt, Bench, Scenario, interleaved
from load import PREFIX, Load
from processes import Server, cpu_seconds, socket_count
from rivals.systems import Pgbridge
from support.postgres import Cluster, Database
from support.waiting import wait_until

from scenarios.durable import REAL, database, postgres

__all__ = [
    "CHANNELS",
    "NONE",
    "NOTIFY",
    "PUBLISH",
    "SCENARIOS",
    "TABLE",
    "Trigger",
]

FLUSHES = (0, 2)
"""Milliseconds beyond what the disk takes; commit_delay emulates them."""

CHANNELS = 100
"""The rows tell one after the other; subscribers want one of them."""

LISTENING_CLIENTS = 8

SUBSCRIBERS = 8
"""For each worker; a difference of four is no reason to leave it to another."""

SETTLE = 2.0
"""Seconds that new workers have to open their sessions and come to rest."""

CATCH_UP = 30.0
"""Seconds after the last commit in which everything must have arrived."""

PGBENCH_TIMEOUT = 60.0
"""Seconds beyond its time that pgbench may take."""

INSERT = "INSERT INTO item (name, amount) VALUES ('a small row', 42);\n"

TABLE = """
CREATE TABLE item (
    n bigint GENERATED ALWAYS AS IDENTITY (MINVALUE 0) PRIMARY KEY,
    name text NOT NULL,
    amount integer NOT NULL
)
"""

TRIGGER = f"""
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {{call}}('{PREFIX}' || NEW.n % {CHANNELS}, row_to_json(NEW)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION tell();
"""


class Trigger(Pgbridge):
    """A way to tell what was written.

    Args:
        call: the function that the trigger calls; "": there is no trigger.
    """

    def __init__(self, key: str, label: str, call: str) -> None:
        self.key = key
        self.label = label
        self._call = call

    @property
    def durable(self) -> bool:
        return self._call.startswith("bridge.")

    def install(self, made: Database) -> None:
        """Create the table, and the trigger."""
        made.execute(TABLE)
        if self._call:
            made.execute(TRIGGER.format(call=self._call))


NONE = Trigger("none", "no trigger", "")
NOTIFY = Trigger("notify", "pg_notify", "pg_notify")
PUBLISH = Trigger("publish", "bridge.publish", "bridge.publish")


def measure_writers(bench: Bench) -> None:
    """Transactions a second, without anybody who listens but the sequencer."""
    if not bench.systems("pgbridge"):
        return
    for flush in FLUSHES:
        with postgres(**REAL, **_slow(flush)) as server:
            for clients in bench.scale.writers_clients:
                for run, trigger in interleaved(bench.runs, (NONE, NOTIFY, PUBLISH)):
                    _writers(bench, server, run, trigger, flush, clients)


def _slow(flush: int) -> dict[str, str]:
    return {"commit_delay": str(flush * 1000), "commit_siblings": "0"} if flush else {}


def _writers(
    bench: Bench, server: Cluster, run: int, trigger: Trigger, flush: int, clients: int
) -> None:
    parameters = {"flush_ms": flush, "clients": clients}
    with (
        database(server.url, trigger.durable) as made,
        bench.attempt(trigger, run, "writers") as attempt,
    ):
        trigger.install(made)
        if trigger.durable:
            attempt.start(made.url, clients=1)
        made.execute("CHECKPOINT")
        values: dict[str, Any] = {"per_second": _pgbench(bench, server, made, clients)}
        faults = _sequenced(made, values) if trigger.durable else []
        attempt.record("writers", parameters, values, faults)


def _pgbench(bench: Bench, server: Cluster, made: Database, clients: int) -> float:
    """Return the transactions a second."""
    took = bench.scale.writers_seconds
    program = str(server.binaries / "pgbench")
    command = [program, "-n", "-M", "prepared", "-c", str(clients), "-j", "2"]
    done = subprocess.run(
        [*command, "-T", str(took), "-f", "-", made.url],
        input=INSERT,
        capture_output=True,
        text=True,
        timeout=took + PGBENCH_TIMEOUT,
    )
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise ValueError(f"pgbench: {done.stderr.strip() or done.stdout}")
    return float(found[1])


def _sequenced(made: Database, values: dict[str, Any]) -> list[str]:
    """Wait until every row has its position; note the seconds it took."""
    began = time.monotonic()
    [(rows,)] = made.execute("SELECT count(*) FROM item")
    until = began + CATCH_UP
    while (position := made.positions()) < rows and time.monotonic() < until:
        time.sleep(0.005)
    values["behind_seconds"] = time.monotonic() - began
    return [] if position == rows else [f"{position:,} positions for {rows:,} rows"]


def measure_listening(bench: Bench) -> None:
    """The same while workers listen, each with subscribers."""
    if not bench.systems("pgbridge"):
        return
    with postgres(**REAL) as server:
        for workers in bench.scale.listening_workers:
            for run, trigger in interleaved(bench.runs, (NOTIFY, PUBLISH)):
                _listening(bench, server, run, trigger, workers)


def _listening(
    bench: Bench, server: Cluster, run: int, trigger: Trigger, workers: int
) -> None:
    with (
        database(server.url, trigger.durable) as made,
        bench.attempt(trigger, run, "listening") as attempt,
    ):
        trigger.install(made)
        subscribers = workers * SUBSCRIBERS
        served = attempt.start(made.url, clients=subscribers, workers=workers)
        load = _subscribe(attempt, served, workers)
        made.execute("CHECKPOINT")
        load.expect(1 << 40, 0, 3600)
        cpu = cpu_seconds(served.pids())
        values: dict[str, Any] = {
            "per_second": _pgbench(bench, server, made, LISTENING_CLIENTS),
            "worker_cpu_seconds": cpu_seconds(served.pids()) - cpu,
        }
        faults = _arrived(made, load, subscribers)
        if trigger.durable:
            faults += _sequenced(made, values)
        attempt.record("listening", {"workers": workers}, values, faults)


def _subscribe(attempt: Attempt, served: Server, workers: int) -> Load:
    """Have subscribers on every worker."""
    wait_until(lambda: served.gunicorn.log.count("listener connected") >= workers)
    time.sleep(SETTLE)
    before = {pid: socket_count(pid) for pid in served.pids()}
    load = attempt.load(served, concurrency=1)
    attempt.subscribe(load, workers * SUBSCRIBERS)
    without = sum(socket_count(pid) <= count for pid, count in before.items())
    if without:
        raise AssertionError(f"{without} of {workers} workers have no subscriber")
    return load


def _arrived(made: Database, load: Load, subscribers: int) -> list[str]:
    """Wait until the subscribers have everything of their channel."""
    [(rows,)] = made.execute(f"SELECT count(*) FROM item WHERE n % {CHANNELS} = 0")
    wanted = rows * subscribers
    until = time.monotonic() + CATCH_UP
    while load.report()["notifications"] < wanted and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(AFTERWARDS)
    after = load.report()
    faults = []
    # Not their order: sessions commit in another one than they take numbers.
    if after["notifications"] != wanted:
        faults.append(f"{after['notifications']:,} of {wanted:,} arrived")
    if after["gaps"] or after["lost"]:
        faults.append(f"{after['gaps']:,} gaps, {after['lost']:,} connections lost")
    return faults


SCENARIOS = (
    Scenario("writers", measure_writers),
    Scenario("listening", measure_listening),
)
