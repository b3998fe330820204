"""Databases that lie, are full, moved or speak another encoding."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn
from support.client import Client
from support.gunicorn import Gunicorn
from support.pgbouncer import PROGRAM, PgBouncer
from support.postgres import Cluster, Database
from support.waiting import free_port, wait_until

MakeGunicorn = Callable[..., Gunicorn]


@contextmanager
def pooler(cluster: Cluster, mode: str) -> Iterator[str]:
    """A pooler in front of a server that runs; yields its URL."""
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with closing(PgBouncer(cluster.port, mode)) as bouncer:
        yield f"postgresql://postgres@127.0.0.1:{bouncer.port}/postgres"


def test_pooler_in_transaction_mode_is_recognised(
    gunicorn: MakeGunicorn, cluster: Cluster, client: Callable[..., Client]
) -> None:
    cluster.start()
    with pooler(cluster, "transaction") as url:
        server = gunicorn(url, health_timeout=1).start(ready=False)
        page = client(server, "a")

        wait_until(lambda: "a pooler in transaction mode is between" in server.log)
        assert page.receive() == {
            "type": "interrupted",
            "channel": "a",
            "reason": "listener_lost",
        }
        assert server.readiness()["ready"] is False


def test_pooler_in_session_mode_is_served(
    gunicorn: MakeGunicorn, cluster: Cluster, client: Callable[..., Client]
) -> None:
    cluster.start()
    with pooler(cluster, "session") as url:
        server = gunicorn(url).start()
        page = client(server, "a")
        assert page.receive()["type"] == "subscribed"

        Database.of(cluster.url).notify("a", "through the pooler")

        assert page.payloads(1) == ["through the pooler"]


@pytest.mark.parametrize(
    "setting",
    [
        "default_transaction_read_only = on",
        # Of PostgreSQL 17 and newer; a step would end the session.
        "transaction_timeout = '300ms'",
        "statement_timeout = '200ms'",
        "idle_session_timeout = '300ms'",
    ],
)
def test_what_a_role_sets_for_its_sessions_does_no_harm(
    gunicorn: MakeGunicorn,
    durable_database: Database,
    client: Callable[..., Client],
    setting: str,
) -> None:
    database = durable_database
    role = f"worker_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN; ALTER ROLE {role} SET {setting}")
    database.execute(f"SELECT bridge.grant_to_worker('{role}')")
    try:
        server = gunicorn(make_dsn(database.url, user=role)).start()
        page = client(server, "a", "kept_a")
        assert page.receive()["type"] == page.receive()["type"] == "subscribed"

        time.sleep(1.0)  # longer than any of them
        database.notify("a", "plain")
        assert page.payloads(1) == ["plain"]
        database.publish("kept_a", "kept")
        assert page.payloads(1) == ["kept"]

        assert server.stop() == 0
        assert "[WARNING]" not in server.log
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_full_server_is_not_hammered(
    gunicorn: MakeGunicorn, client: Callable[..., Client]
) -> None:
    cluster = Cluster(
        max_connections="10", superuser_reserved_connections="3", log_connections="on"
    )
    try:
        cluster.start()
        database = Database.of(cluster.url)
        database.execute("CREATE ROLE app LOGIN")
        others = [psycopg2.connect(make_dsn(cluster.url, user="app")) for _ in range(7)]
        server = gunicorn(make_dsn(cluster.url, user="app")).start(ready=False)
        page = client(server, "a")
        began = time.monotonic()
        wait_until(lambda: "too many clients" in server.log or "reserved" in server.log)
        assert page.receive()["type"] == "interrupted"
        time_of_trial = 5.0
        before = _connections_received(cluster)
        wait_until(lambda: time.monotonic() - began > time_of_trial)
        tried = _connections_received(cluster) - before

        others.pop().close()
        others.pop().close()
        assert page.receive()["type"] == "subscribed"
        database.notify("a", "there is room")
        assert page.payloads(1) == ["there is room"]
        for one in others:
            one.close()
    finally:
        cluster.delete()

    # Two greenlets of the worker, with full jitter below a bound that doubles.
    assert tried < 40


def _connections_received(cluster: Cluster) -> int:
    return (cluster.folder / "log").read_text().count("connection received")


def test_password_that_was_changed_is_found(
    gunicorn: MakeGunicorn,
    database: Database,
    client: Callable[..., Client],
    tmp_path: Path,
) -> None:
    # The test server trusts everybody, so a wrong file shows as an error.
    file = tmp_path / "password"
    file.write_text("old\n")
    server = gunicorn(database.url, database_password_file=str(file)).start()
    page = client(server, "a")
    page.receive()
    file.unlink()

    for pid in database.listeners():
        database.execute("SELECT pg_terminate_backend(%s)", pid)
    assert page.receive()["type"] == "interrupted"
    wait_until(lambda: "cannot read BRIDGE_DATABASE_PASSWORD_FILE" in server.log)
    file.write_text("new\n")

    assert page.receive()["type"] == "gap"


def test_hosts_are_tried_in_turn(
    gunicorn: MakeGunicorn, cluster: Cluster, client: Callable[..., Client]
) -> None:
    cluster.start()
    url = f"postgresql://postgres@127.0.0.1:{free_port()},127.0.0.1:{cluster.port}/postgres"
    server = gunicorn(url).start()
    page = client(server, "a")
    assert page.receive()["type"] == "subscribed"

    Database.of(cluster.url).notify("a", "from the second")

    assert page.payloads(1) == ["from the second"]


def test_database_without_an_encoding_is_taken_for_utf8(
    gunicorn: MakeGunicorn, server_url: str, client: Callable[..., Client]
) -> None:
    database = Database(
        server_url,
        "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    try:
        server = gunicorn(database.url).start()
        page = client(server, "möglich")
        assert page.receive()["type"] == "subscribed"
        connection = database.connect()
        connection.set_client_encoding("LATIN1")  # each byte as it is
        with closing(connection), connection.cursor() as cursor:
            name = "möglich".encode().decode("latin-1")
            for payload in ("Zürich".encode().decode("latin-1"), "Z\xfcrich"):
                cursor.execute("SELECT pg_notify(%s, %s)", (name, payload))

        assert page.payloads(2) == ["Zürich", "Z\ufffdrich"]
        assert page.settle() == []
        assert len(re.findall("encoding is SQL_ASCII", server.log)) == 1
        server.stop()
    finally:
        page.socket.close()
        database.drop()
