"""Durable channels: nothing lost, nothing twice, or a gap."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database, make_durable
from support.waiting import wait_until

from bridge.postgres import schema
from bridge.postgres.address import Address

MakeGunicorn = Callable[..., Gunicorn]


@pytest.fixture
def server(gunicorn: MakeGunicorn, durable_database: Database) -> Gunicorn:
    return gunicorn(durable_database.url).start()


def epoch(database: Database) -> str:
    [(found,)] = database.execute("SELECT epoch FROM bridge.state")
    return str(found)


def subscribed(cursor: str, resumed: bool = False, **fields: Any) -> dict[str, Any]:
    return {
        "type": "subscribed",
        "channel": "kept_a",
        "durable": True,
        "resumed": resumed,
        **fields,
        "cursor": cursor,
    }


def notification(text: str, cursor: str, channel: str = "kept_a") -> dict[str, Any]:
    return {
        "type": "notification",
        "channel": channel,
        "cursor": cursor,
        "text": text,
    }


def gap(reason: str, cursor: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "gap",
        "channel": "kept_a",
        "reason": reason,
        "reload_window": 1.0,
        **fields,
        "cursor": cursor,
    }


def test_event_arrives_with_its_cursor(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    e = epoch(durable_database)
    page = client(server, "kept_a")
    assert page.receive() == subscribed(f"{e}-0")

    durable_database.publish("kept_a", "one", '{"n": 2}')

    assert page.receive() == notification("one", f"{e}-1")
    assert page.receive() == {
        "type": "notification",
        "channel": "kept_a",
        "cursor": f"{e}-2",
        "data": {"n": 2},
    }


def test_nothing_of_a_rolled_back_transaction(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    page = client(server, "kept_a")
    page.receive()
    connection = durable_database.connect(autocommit=False)
    connection.cursor().execute("SELECT bridge.publish('kept_a', 'never')")
    connection.rollback()
    connection.close()

    durable_database.publish("kept_a", "after")

    assert page.payloads(1) == ["after"]


def test_page_that_comes_back_gets_what_it_missed(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    e = epoch(durable_database)
    durable_database.publish("kept_a", "1", "2")
    durable_database.publish("kept_b", "other")
    durable_database.publish("kept_a", "4")
    wait_until(lambda: durable_database.positions() == 4)

    page = client(server)
    wait_until(lambda: server.readiness()["journal"]["state"] == "live")
    answer = page.subscribe("kept_a", cursor=f"{e}-1", id=7)

    assert answer["resumed"] is True
    assert answer["id"] == 7
    assert page.receive() == notification("2", f"{e}-2")
    assert page.receive() == notification("4", f"{e}-4")
    durable_database.publish("kept_a", "5")
    assert page.receive() == notification("5", f"{e}-5")


def test_channels_of_the_url_share_a_cursor(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    e = epoch(durable_database)
    durable_database.publish("kept_a", "1")
    durable_database.publish("kept_b", "2")
    wait_until(lambda: durable_database.positions() == 2)

    page = client(server, path=f"/ws?channel=kept_a&channel=kept_b&cursor={e}-0")
    told = [page.receive() for _ in range(4)]

    assert [m["channel"] for m in told if m["type"] == "subscribed"] == [
        "kept_a",
        "kept_b",
    ]
    assert notification("1", f"{e}-1") in told
    assert notification("2", f"{e}-2", "kept_b") in told


def test_restart_of_the_database_loses_nothing(
    gunicorn: MakeGunicorn, cluster: Cluster, client: Callable[..., Client]
) -> None:
    cluster.options["synchronous_commit"] = "on"
    cluster.start()
    database = Database(cluster.url)
    make_durable(database)
    server = gunicorn(database.url).start()
    page = client(server, "kept_a")
    page.receive()
    database.publish("kept_a", "before")
    assert page.payloads(1) == ["before"]

    cluster.stop()
    assert page.receive() == {
        "type": "interrupted",
        "channel": "kept_a",
        "reason": "journal_lost",
    }
    cluster.start()
    database.publish("kept_a", "meanwhile")

    told = [page.receive(), page.receive()]
    assert {"type": "restored", "channel": "kept_a"} in told
    assert [m.get("text") for m in told if m["type"] == "notification"] == ["meanwhile"]
    database.publish("kept_a", "after")
    assert page.payloads(1) == ["after"]


def test_client_that_comes_while_the_database_is_away_is_served_when_it_is_back(
    gunicorn: MakeGunicorn, cluster: Cluster, client: Callable[..., Client]
) -> None:
    cluster.start()
    database = Database(cluster.url)
    make_durable(database)
    server = gunicorn(database.url).start()
    e = epoch(database)
    database.publish("kept_a", "1", "2")
    wait_until(lambda: database.positions() == 2)
    cluster.stop("fast")
    wait_until(lambda: server.readiness()["journal"]["state"] == "away")

    page = client(server, path=f"/ws?channel=kept_a&cursor={e}-1")
    assert page.receive()["type"] == "interrupted"
    cluster.start()

    assert page.receive() == subscribed(f"{e}-1", resumed=True)
    assert page.receive() == notification("2", f"{e}-2")


def test_worker_that_starts_without_its_database_decides_later(
    gunicorn: MakeGunicorn, cluster: Cluster, client: Callable[..., Client]
) -> None:
    cluster.start()
    database = Database(cluster.url)
    make_durable(database)
    cluster.stop("fast")
    server = gunicorn(database.url).start(ready=False)
    page = client(server, "kept_a", "plain_a")
    assert {page.receive()["channel"], page.receive()["channel"]} == {
        "kept_a",
        "plain_a",
    }

    cluster.start()

    told = {m["channel"]: m for m in (page.receive(), page.receive())}
    assert (told["kept_a"]["type"], told["kept_a"]["durable"]) == ("subscribed", True)
    assert told["plain_a"]["durable"] is False


def test_reload_and_killed_worker_lose_nothing(
    gunicorn: MakeGunicorn, durable_database: Database
) -> None:
    server = gunicorn(durable_database.url, workers=2, drain_window=0.2).start()
    got: list[str] = []
    cursor = None
    numbers = iter(range(1000))

    def read(count: int) -> None:
        nonlocal cursor
        with Client(server) as page:
            answer = page.subscribe("kept_a", **({"cursor": cursor} if cursor else {}))
            assert answer["resumed"] is (cursor is not None)
            cursor = cursor or answer["cursor"]
            durable_database.publish("kept_a", *(str(next(numbers)) for _ in range(3)))
            for _ in range(count):
                message = page.receive()
                got.append(message["text"])
                cursor = message["cursor"]

    read(2)
    before = set(server.workers)
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(server.workers) == 2 and not before & set(server.workers))
    read(4)
    for worker in server.workers:
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.workers and _answers(server))
    read(3)

    assert got == [str(number) for number in range(9)]


def _answers(server: Gunicorn) -> bool:
    try:
        return server.get("/readyz")[0] == 200
    except OSError:
        return False


# Cursors.


def test_cursor_that_is_none_is_an_error(
    server: Gunicorn, client: Callable[..., Client]
) -> None:
    answer = client(server).subscribe("kept_a", cursor="12", id=1)

    assert answer == {
        "type": "error",
        "code": "bad_cursor",
        "message": "cursor '12' is not valid",
        "id": 1,
        "channel": "kept_a",
    }


def test_cursor_of_another_epoch_is_a_gap(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    e = epoch(durable_database)
    page = client(server)

    assert page.subscribe("kept_a", cursor="abc-0") == subscribed(f"{e}-0")
    assert page.receive() == gap("epoch_changed", f"{e}-0")


def test_cursor_that_was_never_reached_is_a_gap(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    e = epoch(durable_database)
    page = client(server)

    assert page.subscribe("kept_a", cursor=f"{e}-5") == subscribed(f"{e}-0")
    assert page.receive() == gap("epoch_changed", f"{e}-0")


def test_cursor_below_the_floor_is_a_gap(
    gunicorn: MakeGunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    server = gunicorn(durable_database.url, recent_bytes=0).start()
    e = epoch(durable_database)
    durable_database.publish("kept_a", "1", "2", "3")
    wait_until(lambda: durable_database.positions() == 3)
    durable_database.execute("UPDATE bridge.journal SET at = at - interval '2 days'")
    durable_database.execute("SELECT bridge.prune()")
    page = client(server)
    first = page.subscribe("kept_b")
    wait_until(lambda: page.subscribe("kept_b")["cursor"] == f"{e}-3")

    assert first["durable"] is True
    assert page.subscribe("kept_a", cursor=f"{e}-2") == subscribed(f"{e}-3")
    assert page.receive() == gap("expired", f"{e}-3")
    with client(server) as other:
        assert other.subscribe("kept_a", cursor=f"{e}-3")["resumed"] is True


def test_resume_without_a_cursor_is_a_gap(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    e = epoch(durable_database)
    page = client(server)

    assert page.subscribe("kept_a", resume=True) == subscribed(f"{e}-0")
    assert page.receive() == gap("not_kept", f"{e}-0")


def test_second_request_is_answered_with_where_it_stands(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    e = epoch(durable_database)
    page = client(server)
    page.subscribe("kept_a")
    durable_database.publish("kept_a", "1")
    page.receive()

    wait_until(lambda: page.subscribe("kept_a", id=2) == subscribed(f"{e}-1", id=2))


def test_heartbeat_says_where_a_quiet_channel_stands(
    gunicorn: MakeGunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    server = gunicorn(durable_database.url, heartbeat_interval=0.5).start()
    e = epoch(durable_database)
    page, plain = client(server, "kept_a"), client(server, "plain")
    durable_database.publish("kept_b", "1", "2")

    def next_heartbeat(one: Client) -> str:
        while '"heartbeat"' not in (text := str(one.socket.recv(10))):
            pass
        return text

    wait_until(
        lambda: next_heartbeat(page) == f'{{"type":"heartbeat","cursor":"{e}-2"}}'
    )
    assert next_heartbeat(plain) == '{"type":"heartbeat"}'


# Payloads.


def test_payload_of_megabytes_arrives_whole(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    page = client(server, "kept_a", max_size=None)
    page.receive()

    durable_database.publish("kept_a", "x" * 3_000_000, "y")

    assert page.payloads(2) == ["x" * 3_000_000, "y"]


def test_payload_that_is_too_large_is_a_gap_in_its_place(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    e = epoch(durable_database)
    page = client(server, "kept_a")
    page.receive()

    durable_database.publish("kept_a", "before", "x" * 5_000_000, "after")

    told = [page.receive() for _ in range(3)]
    assert told == [
        notification("before", f"{e}-1"),
        gap("too_large", f"{e}-2"),
        notification("after", f"{e}-3"),
    ]
    with client(server, path=f"/ws?channel=kept_a&cursor={e}-0") as again:
        assert again.receive()["resumed"] is True
        assert [again.receive() for _ in range(3)] == told


def test_purged_payload_is_a_gap_in_its_place(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    e = epoch(durable_database)
    page = client(server, "kept_a")
    page.receive()
    durable_database.publish("kept_a", "secret")
    page.receive()
    durable_database.execute("SELECT bridge.purge('kept_a')")

    def purged() -> bool:
        with Client(server, path=f"/ws?channel=kept_a&cursor={e}-0") as again:
            again.receive()
            return again.receive() == gap("expired", f"{e}-1")

    wait_until(purged)


def test_durable_name_may_have_255_bytes(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    name = "kept_" + "ü" * 125
    page = client(server)
    assert page.subscribe(name)["durable"] is True

    durable_database.publish(name, "x")

    assert page.payloads(1) == ["x"]
    assert page.subscribe(name + "u")["code"] == "bad_channel"
    assert page.subscribe("p" * 64)["code"] == "bad_channel"


# Both kinds.


def test_what_goes_past_the_journal_is_delivered_and_said_once(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    page = client(server, "kept_a")
    page.receive()

    def arrives(text: str) -> bool:
        durable_database.notify("kept_a", text)
        return page.settle() == [
            {"type": "notification", "channel": "kept_a", "text": text}
        ]

    wait_until(lambda: arrives("past it"))
    wait_until(lambda: arrives("again"))

    assert server.log.count("publishes to it with NOTIFY") == 1


def test_tripwire_can_be_off(
    gunicorn: MakeGunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    server = gunicorn(durable_database.url, tripwire="off").start()
    page = client(server, "kept_a")
    page.receive()

    durable_database.notify("kept_a", "past it")
    durable_database.publish("kept_a", "through it")

    assert page.payloads(1) == ["through it"]
    assert server.readiness()["listeners"][0]["channels"] == 0


def test_plain_channel_gets_what_is_published_through_the_journal(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    page = client(server, "plain")
    assert page.receive()["durable"] is False

    durable_database.publish("plain", "x")

    assert page.receive() == {
        "type": "notification",
        "channel": "plain",
        "text": "x",
    }


def test_pattern_is_taken_up_while_the_server_runs(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    page = client(server)
    assert page.subscribe("new_a")["durable"] is False

    schema.durable(Address(durable_database.url), add="new_*", remove=None)

    wait_until(lambda: client(server).subscribe("new_a")["durable"])


# Slow clients.


def test_slow_client_holds_no_memory_and_misses_nothing(
    gunicorn: MakeGunicorn, durable_database: Database
) -> None:
    server = gunicorn(
        durable_database.url, backlog_bytes=65536, send_buffer_bytes=16384
    ).start()
    (worker,) = server.workers
    with (
        Client(server, "kept_a", receive_buffer=65536, max_queue=1) as slow,
        Client(server, "kept_a") as quick,
    ):
        slow.receive(), quick.receive()
        payloads = [f"{number}:{'x' * 10_000}" for number in range(2000)]
        durable_database.publish("kept_a", *payloads[:200])
        assert quick.payloads(200) == payloads[:200]
        before = _rss(worker)
        durable_database.publish("kept_a", *payloads[200:])
        assert quick.payloads(1800) == payloads[200:]

        grown = _rss(worker) - before
        assert slow.payloads(2000) == payloads

    # 18 MB were published; the recent entries are bounded by 16 MiB.
    assert grown < 24 << 20
    assert "dropped" not in server.log


def _rss(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# The schema.


def test_schema_installed_while_the_server_runs_is_taken_up(
    gunicorn: MakeGunicorn, database: Database, client: Callable[..., Client]
) -> None:
    server = gunicorn(database.url).start()
    wait_until(lambda: server.readiness()["journal"]["state"] == "none")
    assert server.log.count("no schema bridge") == 1

    make_durable(database)

    wait_until(lambda: client(server).subscribe("kept_a")["durable"])


def test_uninstalled_and_installed_again_is_a_gap(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    page = client(server, "kept_a")
    page.receive()
    durable_database.publish("kept_a", "before")
    page.receive()

    schema.uninstall(Address(durable_database.url))
    assert page.receive()["type"] == "interrupted"
    make_durable(durable_database)

    e = epoch(durable_database)
    assert page.receive() == gap("epoch_changed", f"{e}-0")
    durable_database.publish("kept_a", "after")
    assert page.receive() == notification("after", f"{e}-1")


def test_upgrade_while_the_server_runs_disturbs_nobody(
    gunicorn: MakeGunicorn, database: Database, client: Callable[..., Client]
) -> None:
    *before, _ = schema.migrations()
    for _, migration in before:
        database.execute(migration)
    database.execute("INSERT INTO bridge.durable_channel VALUES ('kept_*')")
    server = gunicorn(database.url).start()
    page = client(server, "kept_a")
    assert page.receive()["durable"] is True
    database.publish("kept_a", "old")
    assert page.payloads(1) == ["old"]

    assert schema.upgrade(Address(database.url), None) == schema.VERSION

    database.publish("kept_a", "new")
    assert page.payloads(1) == ["new"]


def test_schema_that_is_too_new_is_said_and_plain_channels_work(
    gunicorn: MakeGunicorn, durable_database: Database
) -> None:
    durable_database.execute("UPDATE bridge.state SET version = 99")
    server = gunicorn(durable_database.url).start(ready=False)

    wait_until(lambda: "schema bridge has version 99" in server.log)
    assert server.readiness()["journal"]["state"] == "away"


# Lies.


def test_forged_notifications_on_our_channels_do_nothing(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    page = client(server, "kept_a")
    page.receive()

    for payload in ("", "999999", "forget", "patterns", "schema", "x" * 7999, "-1"):
        durable_database.notify("bridge_journal", payload)
        durable_database.notify("bridge_wake", payload)
    durable_database.publish("kept_a", "true")

    assert page.payloads(1) == ["true"]
    assert page.settle() == []
    assert "Traceback" not in server.log


def test_reserved_channels_cannot_be_subscribed_to(
    server: Gunicorn, client: Callable[..., Client]
) -> None:
    assert client(server).subscribe("bridge_journal")["code"] == "bad_channel"


def test_cursor_of_the_database_misses_nothing(
    server: Gunicorn, durable_database: Database, client: Callable[..., Client]
) -> None:
    with durable_database.connect(autocommit=False) as reader, reader.cursor() as page:
        reader.set_session(isolation_level="REPEATABLE READ")
        page.execute("SELECT bridge.cursor()")
        [(cursor,)] = page.fetchall()
        durable_database.publish("kept_a", "while the page is rendered")
    reader.close()

    live = client(server, path=f"/ws?channel=kept_a&cursor={cursor}")
    assert live.receive()["resumed"] is True
    assert live.payloads(1) == ["while the page is rendered"]


def test_database_that_lost_commits_is_a_gap(
    gunicorn: MakeGunicorn, cluster: Cluster, client: Callable[..., Client]
) -> None:
    """What was told is gone, and its positions are given again."""
    cluster.start()
    database = Database(cluster.url)
    make_durable(database)
    server = gunicorn(database.url).start()
    page = client(server, "kept_a")
    page.receive()
    database.publish("kept_a", "kept")
    assert page.payloads(1) == ["kept"]
    # As if a standby without the last commits had been promoted.
    with psycopg2.connect(database.url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM bridge.outbox; DELETE FROM bridge.journal; "
            "DELETE FROM bridge.tick WHERE pos > 0"
        )
    connection.close()

    told = page.receive()
    e = epoch(database)
    assert told == gap("epoch_changed", f"{e}-0")


def test_crash_gives_no_position_twice(
    gunicorn: MakeGunicorn, cluster: Cluster, client: Callable[..., Client]
) -> None:
    """What the application commits may be lost; what was told is not."""
    assert cluster.options["synchronous_commit"] == "off"
    cluster.start()
    database = Database(cluster.url)
    make_durable(database)
    server = gunicorn(database.url).start()
    page = client(server, "kept_a")
    page.receive()
    told = []
    for number in range(30):
        database.publish("kept_a", str(number))
        told.append(page.receive())

    cluster.stop("immediate")
    cluster.start()

    kept = database.execute(
        "SELECT j.pos, o.payload FROM bridge.journal j JOIN bridge.outbox o USING (id) "
        "ORDER BY j.pos"
    )
    e = epoch(database)
    assert told == [notification(payload, f"{e}-{pos}") for pos, payload in kept[:30]]
    assert page.receive()["type"] == "interrupted"
    database.publish("kept_a", "after")
    rest = [page.receive(), page.receive()]
    assert {"type": "restored", "channel": "kept_a"} in rest
    assert notification("after", f"{e}-31") in rest
