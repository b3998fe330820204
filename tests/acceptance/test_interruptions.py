"""PostgreSQL goes away and comes back; nobody is left in silence."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database
from support.proxy import Proxy
from support.waiting import wait_until

Connect = Callable[..., Client]

QUICK = {"health_interval": 0.2, "health_timeout": 0.5}


def interrupted(channel: str) -> dict[str, Any]:
    return {"type": "interrupted", "channel": channel, "reason": "listener_lost"}


def check_gap(gap: dict[str, Any], channel: str, lost_after: float) -> None:
    """The gap begins before the loss, and not long before it."""
    since = gap.pop("since")
    assert gap == {
        "type": "gap",
        "channel": channel,
        "reason": "listener_lost",
        "reload_window": 1.0,
    }
    assert lost_after - 10 < since < lost_after


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_restart_is_told_and_notifications_flow_again(
    gunicorn: Callable[..., Gunicorn], cluster: Cluster, client: Connect, unix: bool
) -> None:
    cluster.start()
    database = Database(cluster.url)
    server = gunicorn(database.url, unix=unix, **QUICK).start()
    subscriber = client(server, "a", "b")
    assert {subscriber.receive()["channel"] for _ in "ab"} == {"a", "b"}
    database.notify("a", "before")
    assert subscriber.payloads(1) == ["before"]

    stopped = time.time()
    cluster.stop()
    told = [subscriber.receive() for _ in "ab"]
    assert subscriber.settle() == []
    readiness = server.readiness()
    health = server.get("/healthz")[0]
    cluster.start()
    gaps = [subscriber.receive() for _ in "ab"]
    database.notify("a", "after")

    assert sorted(told, key=lambda message: message["channel"]) == [
        interrupted("a"),
        interrupted("b"),
    ]
    assert readiness["reason"] == "listeners: PostgreSQL is away"
    assert health == 200
    for gap, channel in zip(
        sorted(gaps, key=lambda gap: gap["channel"]), "ab", strict=True
    ):
        check_gap(gap, channel, lost_after=stopped)
    assert subscriber.payloads(1) == ["after"]
    assert subscriber.settle() == []
    wait_until(lambda: server.get("/readyz")[0] == 200)


def test_database_that_is_absent_at_start_is_served_once_it_is_there(
    gunicorn: Callable[..., Gunicorn], cluster: Cluster, client: Connect
) -> None:
    server = gunicorn(cluster.url, **QUICK).start(ready=False)
    wait_until(lambda: server.readiness()["listeners"][0]["state"] == "away")
    status, _, body = server.get("/readyz")
    subscriber = client(server, "a")
    told = subscriber.receive()
    assert subscriber.settle() == []

    cluster.start()
    answer = subscriber.receive()

    assert status == 503
    assert '"reason":"listeners: PostgreSQL is away"' in body
    assert "refused" in server.log
    assert told == interrupted("a")
    assert (answer["type"], answer["channel"]) == ("subscribed", "a")
    Database(cluster.url)  # it works: another session is let in
    assert subscriber.settle() == []
    wait_until(lambda: server.get("/readyz")[0] == 200)


def test_terminated_backend_is_told_and_replaced(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, max_listeners=1).start()
    subscriber = client(server, "a")
    subscriber.receive()
    (backend,) = database.listeners()

    killed = time.time()
    database.execute("SELECT pg_terminate_backend(%s)", backend)

    assert subscriber.receive() == interrupted("a")
    check_gap(subscriber.receive(), "a", lost_after=killed)
    database.notify("a", "after")
    assert subscriber.payloads(1) == ["after"]
    assert database.listeners() != [backend]


def test_only_the_channels_of_the_lost_listener_are_interrupted(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, max_listeners=2).start()
    subscriber = client(server)
    assert subscriber.subscribe("a")["type"] == "subscribed"
    (first,) = database.listeners()
    assert subscriber.subscribe("b")["type"] == "subscribed"

    database.execute("SELECT pg_terminate_backend(%s)", first)

    assert subscriber.receive() == interrupted("a")
    assert subscriber.receive()["type"] == "gap"
    assert subscriber.settle() == []


def test_connection_that_stalls_without_a_reset_is_noticed(
    gunicorn: Callable[..., Gunicorn],
    cluster: Cluster,
    proxy: Proxy,
    client: Connect,
) -> None:
    cluster.start()
    database = Database(cluster.url)
    url = database.url.replace(f"port={cluster.port}", f"port={proxy.port}")
    server = gunicorn(url, **QUICK).start()
    subscriber = client(server, "a")
    subscriber.receive()

    stalled = time.time()
    proxy.stall()
    database.notify("a", "lost")
    told = subscriber.receive()
    proxy.cut()
    proxy.flow()
    gap = subscriber.receive()
    database.notify("a", "after")

    assert told == interrupted("a")
    check_gap(gap, "a", lost_after=stalled)
    assert subscriber.payloads(1) == ["after"]


def test_server_that_refuses_for_a_while_is_not_hammered(
    gunicorn: Callable[..., Gunicorn],
    cluster: Cluster,
    proxy: Proxy,
    client: Connect,
) -> None:
    cluster.start()
    database = Database(cluster.url)
    url = database.url.replace(f"port={cluster.port}", f"port={proxy.port}")
    server = gunicorn(url, **QUICK).start()
    subscriber = client(server, "a")
    subscriber.receive()

    proxy.refuse()
    proxy.cut()
    assert subscriber.receive() == interrupted("a")
    wait_until(lambda: "listener lost PostgreSQL" in server.log)
    proxy.refuse(False)

    assert subscriber.receive()["type"] == "gap"
    # One line for the loss, not one for each try.
    assert server.log.count("listener lost PostgreSQL") <= 2


def test_client_that_comes_back_is_told_that_nothing_was_kept(
    bridge: Gunicorn, channel: str, client: Connect
) -> None:
    by_message, by_cursor = client(bridge), client(bridge)
    by_url = client(bridge, path=f"/ws/{channel}?cursor=e1:5")

    first = by_message.subscribe(channel, resume=True)
    by_cursor.subscribe(channel, cursor="e1:5")
    by_url.receive()

    assert first["resumed"] is False
    for subscriber in (by_message, by_cursor, by_url):
        assert subscriber.receive() == {
            "type": "gap",
            "channel": channel,
            "reason": "not_kept",
            "reload_window": 1.0,
        }


def test_frozen_worker_that_wakes_up_goes_on(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, **QUICK).start()
    subscriber = client(server, "a")
    subscriber.receive()
    (worker,) = server.workers

    os.kill(worker, signal.SIGSTOP)
    with closing(database.connect()) as writer, writer.cursor() as cursor:
        cursor.execute("SELECT pg_notify('a', 'meanwhile')")
        cursor.execute("SELECT pg_sleep(2)")
    os.kill(worker, signal.SIGCONT)

    assert subscriber.payloads(1) == ["meanwhile"]
    assert subscriber.settle() == []
