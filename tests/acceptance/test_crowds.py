"""More channels than sessions, several workers, comings and goings."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.raw import raw_websocket
from support.waiting import wait_until

Connect = Callable[..., Client]


def test_more_channels_than_listeners_share_them(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(
        database.url, max_listeners=2, max_channels=300, max_subscribes_per_second=0
    ).start()
    channels = [f"c{number}" for number in range(300)]
    subscriber = client(server)
    for channel in channels:
        subscriber.send("subscribe", channel=channel)
    answers = [subscriber.receive() for _ in channels]
    assert {answer["type"] for answer in answers} == {"subscribed"}
    assert {answer["channel"] for answer in answers} == set(channels)

    database.execute(
        "SELECT pg_notify('c' || n, n::text) FROM generate_series(0, 299) n"
    )
    received = {subscriber.receive()["text"] for _ in channels}

    assert received == {str(number) for number in range(300)}
    assert subscriber.settle() == []
    assert len(database.listeners()) == 2


def test_two_workers_deliver_to_all_their_clients(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, workers=2, max_listeners=1).start()
    wait_until(lambda: len(database.listeners()) == 2)
    subscribers = [client(server, "a") for _ in range(24)]
    for subscriber in subscribers:
        assert subscriber.receive()["type"] == "subscribed"

    database.notify("a", *map(str, range(50)))

    for subscriber in subscribers:
        assert subscriber.payloads(50) == list(map(str, range(50)))
        assert subscriber.settle() == []
    first, second = server.workers
    assert server.log.count(f"[{first}] [INFO] subscriber 127.0.0.1 opened") > 0
    assert server.log.count(f"[{second}] [INFO] subscriber 127.0.0.1 opened") > 0


def test_comings_and_goings_disturb_nobody(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    steady = client(bridge, channel)
    steady.receive()
    stop = threading.Event()
    runs: list[list[int]] = []

    def come_and_go() -> None:
        while not stop.is_set():
            with Client(bridge) as guest:
                for _ in range(3):
                    guest.subscribe(channel)
                    guest.send("unsubscribe", channel=channel, id="end")
                    run = []
                    while (message := guest.receive())["type"] == "notification":
                        run.append(int(message["text"]))
                    assert message["type"] == "unsubscribed"
                    runs.append(run)

    guests = [threading.Thread(target=come_and_go) for _ in range(4)]
    for guest in guests:
        guest.start()
    with closing(shared_database.connect()) as writer, writer.cursor() as cursor:
        for number in range(1500):
            cursor.execute("SELECT pg_notify(%s, %s)", (channel, str(number)))
    received = steady.payloads(1500)
    stop.set()
    for guest in guests:
        guest.join()

    assert received == list(map(str, range(1500)))
    assert steady.settle() == []
    assert len(runs) > 20
    for run in runs:
        assert run == list(range(run[0], run[0] + len(run))) if run else True


def test_channel_that_nobody_wants_is_given_up_and_found_again(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, max_listeners=2, unlisten_delay=0.2).start()
    keeper = client(server, "kept")
    keeper.receive()
    subscriber = client(server)
    subscriber.subscribe("given up")
    assert len(database.listeners()) == 2

    subscriber.request("unsubscribe", channel="given up")
    # Its session is not needed any more either.
    wait_until(lambda: len(database.listeners()) == 1)
    database.notify("given up", "for nobody")
    assert subscriber.subscribe("given up")["type"] == "subscribed"
    database.notify("given up", "again")

    assert subscriber.payloads(1) == ["again"]
    assert keeper.settle() == []


def test_worker_listens_to_no_more_channels_than_it_may(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, max_listen_channels=2, unlisten_delay=0.1).start()
    subscriber = client(server)
    assert subscriber.subscribe("a")["type"] == "subscribed"
    assert subscriber.subscribe("b")["type"] == "subscribed"

    refused = subscriber.subscribe("c")
    subscriber.request("unsubscribe", channel="a")

    assert (refused["code"], refused["retry_delay"]) == ("unavailable", 0.1)
    wait_until(lambda: subscriber.subscribe("c")["type"] == "subscribed")


def test_twenty_thousand_notifications_in_one_transaction(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    subscriber = client(bridge, channel)
    subscriber.receive()

    shared_database.execute(
        "SELECT pg_notify(%s, n::text) FROM generate_series(1, 20000) n", channel
    )

    assert subscriber.payloads(20000) == [str(n) for n in range(1, 20001)]
    assert bridge.get("/healthz")[0] == 200


def test_clients_are_spread_over_the_workers(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, workers=3, max_listeners=1).start()
    wait_until(lambda: len(database.listeners()) == 3)

    sockets = []

    def counts() -> list[int]:
        return [
            server.log.count(f"[{pid}] [INFO] subscriber") for pid in server.workers
        ]

    def all_serve() -> bool:
        sockets.append(raw_websocket(server))
        return min(counts()) > 0

    wait_until(all_serve)

    # One after the other: the first worker that wakes would take nearly all.
    sockets += [raw_websocket(server) for _ in range(90)]

    wait_until(lambda: sum(counts()) == len(sockets))
    assert max(counts()) - min(counts()) <= 12
    for sock in sockets:
        sock.close()
