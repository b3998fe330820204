"""What is committed arrives, once and in order; nothing else does."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from itertools import pairwise

from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database

Connect = Callable[..., Client]


def test_nothing_arrives_of_a_rolled_back_transaction(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    subscriber = client(bridge, channel)
    subscriber.receive()
    with closing(shared_database.connect(autocommit=False)) as writer:
        with writer.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, 'rolled back')", (channel,))
            writer.rollback()
            cursor.execute("SELECT pg_notify(%s, 'committed')", (channel,))
            writer.commit()

    assert subscriber.payloads(1) == ["committed"]
    assert subscriber.settle() == []


def test_nothing_arrives_before_the_commit(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    subscriber = client(bridge, channel)
    subscriber.receive()
    with closing(shared_database.connect(autocommit=False)) as writer:
        with writer.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, 'first to call')", (channel,))
        shared_database.notify(channel, "first to commit")
        assert subscriber.payloads(1) == ["first to commit"]
        assert subscriber.settle() == []

        writer.commit()

    assert subscriber.payloads(1) == ["first to call"]


def test_eight_writers_arrive_in_commit_order(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    # A sequence drawn under a lock that is held until the commit numbers the
    # commits themselves.
    shared_database.execute("CREATE SEQUENCE IF NOT EXISTS commit_order")
    subscribers = [client(bridge, channel) for _ in range(2)]
    for subscriber in subscribers:
        subscriber.receive()

    def write() -> None:
        with closing(shared_database.connect(autocommit=False)) as writer:
            for _ in range(100):
                with writer.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_xact_lock(1)")
                    cursor.execute(
                        "SELECT pg_notify(%s, nextval('commit_order')::text)",
                        (channel,),
                    )
                writer.commit()

    writers = [threading.Thread(target=write) for _ in range(8)]
    for thread in writers:
        thread.start()
    received = [subscriber.payloads(800) for subscriber in subscribers]
    for thread in writers:
        thread.join()

    first = int(received[0][0])
    assert received[0] == [str(first + n) for n in range(800)]
    assert received[1] == received[0]
    assert subscribers[0].settle() == []


def test_subscriber_misses_nothing_after_subscribed(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    stop = threading.Event()
    committed = 0

    def write() -> None:
        nonlocal committed
        with closing(shared_database.connect()) as writer, writer.cursor() as cursor:
            while not stop.is_set():
                number = committed + 1
                cursor.execute("SELECT pg_notify(%s, %s)", (channel, str(number)))
                committed = number

    writer = threading.Thread(target=write)
    writer.start()
    runs: list[tuple[int, list[int]]] = []
    try:
        for _ in range(20):
            subscriber = client(bridge)
            assert subscriber.subscribe(channel)["type"] == "subscribed"
            last_before = committed
            runs.append((last_before, list(map(int, subscriber.payloads(50)))))
            assert subscriber.request("unsubscribe", channel=channel)["type"] in (
                "notification",
                "unsubscribed",
            )
            subscriber.socket.close()
    finally:
        stop.set()
        writer.join()

    for last_before, numbers in runs:
        # The one that commits while the answer travels may come or not.
        assert numbers[0] <= last_before + 2
        assert numbers == list(range(numbers[0], numbers[0] + 50))


def test_nothing_arrives_after_unsubscribed(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    subscriber, witness = client(bridge, channel), client(bridge, channel)
    subscriber.receive(), witness.receive()

    answer = subscriber.request("unsubscribe", channel=channel, id=9)
    shared_database.notify(channel, "too late")

    assert answer == {
        "type": "unsubscribed",
        "channel": channel,
        "reason": "requested",
        "id": 9,
    }
    assert witness.payloads(1) == ["too late"]
    assert subscriber.settle() == []


def test_equal_notifications_of_one_transaction_fold(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    subscriber = client(bridge, channel)
    subscriber.receive()

    shared_database.execute(
        "SELECT pg_notify(%s, x) FROM unnest(ARRAY['a', 'b', 'a', 'a', 'c']) AS x",
        channel,
    )
    shared_database.notify(channel, "a")

    assert subscriber.payloads(4) == ["a", "b", "c", "a"]
    assert subscriber.settle() == []


def test_the_talks_trigger_needs_no_line_of_ours(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    script = (files("bridge.sql") / "examples" / "talk.sql").read_text()
    database.execute(script)
    server = gunicorn(database.url).start()
    admins = [client(server, "watchers_7"), client(server, "watchers_7")]
    elsewhere = client(server, "watchers_8")
    for subscriber in (*admins, elsewhere):
        subscriber.receive()

    database.execute("INSERT INTO my_table (id, name) VALUES (7, 'one'), (7, 'two')")

    for admin in admins:
        rows = admin.payloads(2)
        assert [(row["id"], row["name"]) for row in rows] == [(7, "one"), (7, "two")]
    assert elsewhere.settle() == []
    assert "bridge" not in script


def test_payloads_arrive_as_they_are(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    subscriber = client(bridge, channel)
    subscriber.receive()
    texts = [
        "",
        "007",
        "two\nlines\r\nand \"quotes\" and 'others'",
        "{not json",
        "[1, NaN]",
        '"a string"',
        "ünïcödé 🎉   \x7f \\",
        "x" * 7999,
    ]
    containers = ['{"a": {"b": [1, 2.50, 1e400]}}', "[]", '{"id":"007"}']

    shared_database.notify(channel, *texts, *containers)

    messages = [subscriber.receive() for _ in range(len(texts) + len(containers))]
    head = {"type": "notification", "channel": channel}
    assert messages[: len(texts)] == [{**head, "text": text} for text in texts]
    assert messages[len(texts) :] == [
        {**head, "data": json.loads(container)} for container in containers
    ]


def test_a_hundred_subscribers_receive_the_same_while_one_does_not_read(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, backlog_bytes=262144, send_buffer_bytes=16384)
    server.start()
    lazy = client(server, "busy", receive_buffer=8192, max_queue=1)
    subscribers = [client(server, "busy") for _ in range(99)]
    for subscriber in (lazy, *subscribers):
        assert subscriber.receive()["type"] == "subscribed"
    # 2.4 MB: more than the kernel's buffers and the backlog hold together.
    payloads = [f"{number} " + "x" * 7900 for number in range(300)]

    received: list[list[str]] = [[] for _ in subscribers]
    for start in range(0, 300, 20):
        database.notify("busy", *payloads[start : start + 20])
        for subscriber, sequence in zip(subscribers, received, strict=True):
            sequence += subscriber.payloads(20)

    assert all(sequence == payloads for sequence in received)
    seen = _read_with_gaps(lazy, last=payloads[-1])
    numbers = [int(text.split()[0]) for text in seen if text != "gap"]
    assert "gap" in seen
    assert numbers == sorted(set(numbers))
    assert _holes_without_gap(seen) == []


def test_gap_of_a_slow_client_begins_before_what_was_dropped_had_committed(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, backlog_bytes=65536, send_buffer_bytes=16384)
    server.start()
    lazy = client(server, "busy", receive_buffer=8192, max_queue=1)
    assert lazy.receive()["type"] == "subscribed"
    subscribed = time.time()

    database.notify("busy", *(f"{number} " + "x" * 7900 for number in range(300)))

    while (message := lazy.receive())["type"] != "gap":
        pass
    assert subscribed - 10 < message["since"] < subscribed


def _read_with_gaps(subscriber: Client, last: str) -> list[str]:
    """Read up to the last payload, or to the gap that stands for it."""
    seen = []
    while not seen or seen[-1] != last:
        message = subscriber.receive()
        if message["type"] == "gap":
            assert message["reason"] == "slow"
            seen.append("gap")
            subscriber.send("ping", id="end")
        elif message == {"type": "pong", "id": "end"}:
            break
        elif message["type"] == "notification":
            seen.append(message["text"])
    return seen


def _holes_without_gap(seen: list[str]) -> list[tuple[str, str]]:
    return [
        (before[:8], after[:8])
        for before, after in pairwise(seen)
        if "gap" not in (before, after)
        and int(after.split()[0]) != int(before.split()[0]) + 1
    ]
