"""Standbys: said clearly, and followed when they are promoted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import OLD_BINARIES, Cluster, Database, make_durable
from support.waiting import wait_until


@pytest.fixture
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """A primary and its standby, both running; kept_* is durable."""
    if not OLD_BINARIES.exists():
        pytest.skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
    primary = Cluster(OLD_BINARIES, synchronous_commit="on")
    primary.start()
    make_durable(Database.of(primary.url))
    standby = primary.standby()
    standby.start()
    yield primary, standby
    primary.delete()
    standby.delete()


def test_standby_is_said_to_be_one(
    pair: tuple[Cluster, Cluster], gunicorn: Callable[..., Gunicorn]
) -> None:
    _, standby = pair
    server = gunicorn(standby.url).start(ready=False)

    wait_until(lambda: "server is in hot standby mode" in server.log)
    report = server.readiness()

    assert report["ready"] is False
    assert report["journal"]["state"] == "away"
    assert "Traceback" not in server.log


def test_promoted_standby_is_a_new_epoch_and_goes_on(
    pair: tuple[Cluster, Cluster],
    gunicorn: Callable[..., Gunicorn],
    client: Callable[..., Client],
) -> None:
    primary, standby = pair
    both = (
        f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        "/postgres?target_session_attrs=read-write"
    )
    server = gunicorn(both).start()
    page = client(server, "kept_a", "plain")
    assert page.receive()["type"] == page.receive()["type"] == "subscribed"
    Database.of(primary.url).publish("kept_a", "before")
    assert page.payloads(1) == ["before"]
    copied = Database.of(standby.url)
    wait_until(lambda: copied.positions() == 1)

    primary.stop("immediate")
    standby.promote()

    told = [page.receive() for _ in range(4)]
    kept = [message for message in told if message["channel"] == "kept_a"]
    plain = [message for message in told if message["channel"] == "plain"]
    assert [m["type"] for m in kept] == ["interrupted", "gap"]
    assert kept[1]["reason"] == "epoch_changed"
    assert [m["type"] for m in plain] == ["interrupted", "gap"]
    assert plain[1]["reason"] == "listener_lost"
    copied.publish("kept_a", "after")
    copied.notify("plain", "after")
    assert page.payloads(2) == ["after"] * 2
