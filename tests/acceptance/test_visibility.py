"""What operators see: metrics, clients, readiness, the log, the doctor."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database
from support.waiting import free_port, wait_until

MakeGunicorn = Callable[..., Gunicorn]
PATH = ("--pythonpath", str(Path(__file__).parent.parent))


def metrics(server: Gunicorn) -> dict[str, float]:
    """Every sample, as Prometheus writes it."""
    status, headers, page = server.get("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = (
                sample.value
            )
    return found


def test_numbers_of_all_workers_are_added_up(
    gunicorn: MakeGunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    server = gunicorn(durable_database.url, workers=2).start()
    wait_until(lambda: metrics(server)["pgbridge_workers"] == 2)
    pages = [client(server, "kept_a", "plain") for _ in range(8)]
    for page in pages:
        page.receive(), page.receive()

    durable_database.publish("kept_a", "x")
    durable_database.notify("plain", "y")
    for page in pages:
        page.receive(), page.receive()

    def all_there() -> dict[str, float] | None:
        found = metrics(server)
        # A busy worker's report may be too old to count for a moment.
        told = found["pgbridge_deliveries_total"], found["pgbridge_connections"]
        return found if told == (16, 8) else None

    found = wait_until(all_there)
    assert found is not None
    assert found["pgbridge_connections_opened_total"] == 8
    assert found['pgbridge_subscriptions{kind="durable"}'] == 8
    assert found['pgbridge_subscriptions{kind="plain"}'] == 8
    assert found["pgbridge_sequencer"] == 1
    assert found["pgbridge_journal_position"] == 1
    assert found["pgbridge_listeners_away"] == 0
    # Each worker that has a subscriber saw both.
    workers = found["pgbridge_durable_latency_seconds_count"]
    assert workers in (1, 2)
    assert found['pgbridge_notifications_total{source="listener"}'] == workers


def test_totals_outlive_a_killed_worker(
    gunicorn: MakeGunicorn, database: Database
) -> None:
    server = gunicorn(database.url).start()
    with Client(server, "a") as page:
        page.receive()
        database.notify("a", "x")
        page.receive()
    wait_until(lambda: metrics(server)["pgbridge_connections_closed_total"] == 1)
    (worker,) = server.workers
    folder = Path(server.run_folder)
    left = next(folder.glob(f"*-{worker}.json"))
    wait_until(lambda: json.loads(left.read_text())["connections_closed"] == 1)

    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.workers not in ([], [worker]))
    wait_until(lambda: not left.exists())
    wait_until(lambda: _up(server))

    found = metrics(server)
    assert found["pgbridge_connections_opened_total"] == 1
    assert found["pgbridge_deliveries_total"] == 1
    assert found["pgbridge_connections"] == 0
    assert found["pgbridge_workers"] == 1


def _up(server: Gunicorn) -> bool:
    try:
        return server.get("/readyz")[0] == 200
    except OSError:
        return False


def test_gaps_and_interruptions_are_counted_by_reason(
    gunicorn: MakeGunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    server = gunicorn(durable_database.url).start()
    page = client(server, "plain", "kept_a")
    page.receive(), page.receive()
    client(server).subscribe("plain", resume=True)

    for pid in durable_database.listeners():
        durable_database.execute("SELECT pg_terminate_backend(%s)", pid)
    told = {page.receive()["type"] for _ in range(4)}
    assert told == {"interrupted", "gap", "restored"}

    found = metrics(server)
    assert found['pgbridge_gaps_total{reason="listener_lost"}'] == 2
    assert found['pgbridge_gaps_total{reason="not_kept"}'] == 1
    assert found['pgbridge_interruptions_total{reason="listener_lost"}'] == 2
    assert found['pgbridge_interruptions_total{reason="journal_lost"}'] == 1
    assert found['pgbridge_reconnects_total{part="journal"}'] >= 1


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_metrics_are_not_for_those_a_proxy_brings(
    bridge: Gunicorn, header: str
) -> None:
    assert bridge.get("/metrics")[0] == 200
    assert bridge.get("/metrics", {header: "203.0.113.9"})[0] == 404


def test_metrics_are_not_for_peers_that_are_not_listed(
    gunicorn: MakeGunicorn, database: Database
) -> None:
    server = gunicorn(database.url, metrics_peers="192.0.2.0/24").start()

    assert server.get("/metrics")[0] == 404


# Who is connected.


def clients(server: Gunicorn, *arguments: str) -> list[dict[str, object]]:
    run = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "clients", *arguments],
        env={**os.environ, "BRIDGE_RUN_FOLDER": server.run_folder},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (run.returncode, run.stderr) == (0, "")
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_clients_says_who_has_a_channel(
    gunicorn: MakeGunicorn, database: Database, client: Callable[..., Client]
) -> None:
    server = gunicorn(
        database.url,
        workers=2,
        access="support.policies.ByUserHeader",
        public_channels="news",
        arguments=PATH,
    ).start()
    ada = client(server, "inbox_ada", "news", additional_headers={"X-User": "ada"})
    ada.receive(), ada.receive()
    client(server, "news").receive()

    everybody = clients(server)
    [one] = clients(server, "inbox_ada")

    assert len(everybody) == len(clients(server, "news")) == 2
    assert clients(server, "nobody_has_this") == []
    assert one["subject"] == "ada"
    assert one["address"] == "127.0.0.1"
    assert one["channels"] == ["inbox_ada", "news"]
    assert one["worker"] in server.workers


def test_run_folder_of_another_user_is_refused(short_path: Path) -> None:
    short_path.chmod(0o777)
    run = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "clients"],
        env={**os.environ, "BRIDGE_RUN_FOLDER": str(short_path)},
        capture_output=True,
        text=True,
    )

    assert run.returncode == 1
    assert "mode 0700" in run.stderr


# The log.


def test_who_blocks_the_loop_is_in_the_log(
    gunicorn: MakeGunicorn, database: Database, client: Callable[..., Client]
) -> None:
    server = gunicorn(
        database.url,
        access="support.policies.Spins",
        public_channels="",
        arguments=PATH,
    ).start()

    client(server, "a").receive()

    wait_until(lambda: "the event loop stands still" in server.log)
    assert "policies.py" in server.log
    assert "in may_subscribe" in server.log
    wait_until(lambda: metrics(server)["pgbridge_loop_blocked_total"] == 1)


# The doctor.


def doctor(url: str, *arguments: str, **environ: str) -> tuple[int, list[str]]:
    run = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "doctor", *arguments],
        env={**os.environ, "BRIDGE_DATABASE_URL": url, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stderr == ""
    return run.returncode, run.stdout.splitlines()


def test_doctor_finds_nothing_where_all_is_well(
    gunicorn: MakeGunicorn, durable_database: Database
) -> None:
    gunicorn(durable_database.url).start()
    wait_until(
        lambda: (
            durable_database.execute("SELECT sequencer IS NOT NULL FROM bridge.status")
            == [(True,)]
        )
    )

    code, lines = doctor(durable_database.url, "-w", "1", BRIDGE_PUBLIC_CHANNELS="news")

    assert code == 0
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert any("a notification was sent, and came" in line for line in lines)
    assert any("the sequencer is backend" in line for line in lines)


def test_doctor_takes_a_database_without_the_schema_for_what_it_is(
    database: Database,
) -> None:
    code, lines = doctor(database.url, "-w", "1", BRIDGE_PUBLIC_CHANNELS="news")

    assert code == 0
    assert "ok   no schema bridge: channels are plain ones" in lines


def test_doctor_names_what_does_nothing_and_what_is_missing(
    durable_database: Database,
) -> None:
    code, lines = doctor(
        durable_database.url,
        "--max-requests=5",
        "--bind=unix:/run/x",
        "--graceful-timeout=5",
        "-w",
        "40",
    )
    text = "\n".join(lines)

    assert code == 0
    assert "warn max_requests does nothing under this worker class" in text
    assert "warn every channel is closed" in text
    assert "warn graceful_timeout = 5 is too short" in text
    assert "BRIDGE_TRUSTED_PROXIES=unix" in text
    assert re.search(r"warn \d+ sessions are needed during a reload", text)
    assert "warn nobody gives positions" in text


def test_doctor_fails_where_nothing_can_work(cluster: Cluster) -> None:
    away = doctor(f"postgresql://u@127.0.0.1:{free_port()}/x")
    wrong = doctor("postgresql://u@127.0.0.1/x", BRIDGE_DRAIN_WIDOW="1")
    stock = doctor("postgresql://u@127.0.0.1:1/x", "-k", "sync")

    assert [code for code, _ in (away, wrong, stock)] == [1, 1, 1]
    assert away[1][-1].startswith("FAIL host=127.0.0.1")
    assert wrong[1] == [
        "FAIL BRIDGE_DRAIN_WIDOW is not a setting: did you mean BRIDGE_DRAIN_WINDOW?"
    ]
    assert "FAIL worker_class is 'sync'" in "\n".join(stock[1])


def test_doctor_says_that_a_full_outbox_stops_publishing(
    durable_database: Database,
) -> None:
    durable_database.execute("INSERT INTO bridge.overflow VALUES (now())")

    code, lines = doctor(durable_database.url)

    assert code == 1
    assert any("publishing has stopped" in line for line in lines)
