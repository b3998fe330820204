"""Names of channels: delivered or refused, and never executed."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database

Connect = Callable[..., Client]

LEGAL = [
    "a",
    "x" * 63,
    "ü" * 31,
    "with space",
    'double " quote',
    "single ' quote",
    '"; DROP TABLE precious; --',
    "'; DROP TABLE precious; --",
    "semi;colon",
    "a/b//c",
    "user@example.com",
    "Case",
    "百合 🎉",
    "%s %(x)s %",
    "back\\slash",
    "$$",
    "?channel=other&x=1#fragment",
    "bridge",
]

REFUSED = [
    ("", "it is empty"),
    ("x" * 64, "64 bytes, at most 63 are allowed"),
    ("ü" * 32, "64 bytes, at most 63 are allowed"),
    ("x" * 10_000, "10000 bytes, at most 63 are allowed"),
    ("new\nline", "control character at 3"),
    ("nul\x00", "control character at 3"),
    ("\x7f", "control character at 0"),
    ("bridge_x", "'bridge_' is reserved"),
    ("bridge_journal", "'bridge_' is reserved"),
    ("*", "'*' is kept for patterns"),
    ("watchers_*", "'*' is kept for patterns"),
    ("\ud800", "not Unicode text"),
]


@pytest.mark.parametrize("name", LEGAL)
def test_legal_name_is_delivered(
    bridge: Gunicorn, shared_database: Database, client: Connect, name: str
) -> None:
    shared_database.execute("CREATE TABLE IF NOT EXISTS precious ()")
    subscriber = client(bridge)

    answer = subscriber.subscribe(name, id="1")
    shared_database.notify(name, "arrived")

    assert answer == {
        "type": "subscribed",
        "id": "1",
        "channel": name,
        "durable": False,
        "resumed": False,
    }
    assert subscriber.receive() == {
        "type": "notification",
        "channel": name,
        "text": "arrived",
    }
    assert shared_database.execute("SELECT to_regclass('precious')") == [("precious",)]


def test_name_that_differs_in_case_is_another_channel(
    bridge: Gunicorn, shared_database: Database, client: Connect
) -> None:
    subscriber = client(bridge, "MiXed")
    subscriber.receive()

    shared_database.notify("mixed", "not this")
    shared_database.notify("MiXed", "this")

    assert subscriber.payloads(1) == ["this"]


@pytest.mark.parametrize(("name", "why"), REFUSED)
def test_refused_name_is_answered_and_the_connection_kept(
    bridge: Gunicorn, client: Connect, name: str, why: str
) -> None:
    subscriber = client(bridge)

    answer = subscriber.subscribe(name, id=7)

    assert answer["type"] == "error"
    assert answer["code"] == "bad_channel"
    assert answer["id"] == 7
    assert answer["message"].endswith(f"is not valid: {why}")
    assert subscriber.settle() == []


@pytest.mark.parametrize("name", ["a/b//c", "百合 🎉", "a?b#c", "per%cent"])
def test_name_in_the_path_is_the_channel(
    bridge: Gunicorn, client: Connect, name: str
) -> None:
    subscriber = client(bridge, path="/ws/" + quote(name))

    assert subscriber.receive()["channel"] == name


def test_url_names_several_channels_in_order(bridge: Gunicorn, client: Connect) -> None:
    subscriber = client(bridge, path="/ws/first?channel=second&channel=bridge_x")

    answers = [subscriber.receive() for _ in range(3)]

    assert sorted((answer["type"], answer["channel"]) for answer in answers) == [
        ("error", "bridge_x"),
        ("subscribed", "first"),
        ("subscribed", "second"),
    ]


def test_database_that_cannot_write_a_name_says_so(
    gunicorn: Callable[..., Gunicorn], server_url: str, client: Connect
) -> None:
    database = Database(server_url, "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        server = gunicorn(database.url).start()
        subscriber = client(server)

        refused = subscriber.subscribe("百合", id=1)
        accepted = subscriber.subscribe("möglich", id=2)
        database.notify("möglich", "größer")

        assert (refused["type"], refused["code"]) == ("error", "bad_channel")
        assert refused["message"].endswith("the database's encoding cannot write it")
        assert accepted["type"] == "subscribed"
        assert subscriber.payloads(1) == ["größer"]
    finally:
        database.drop()
