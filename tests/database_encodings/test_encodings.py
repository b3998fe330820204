"""Databases in every encoding: what an application can store stops nothing.

PostgreSQL stores bytes for which Python's codec has no character, and Python
has no codec at all for two of its encodings. What cannot be read is replaced;
what comes after it comes, and a reader goes on across it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import encodings as codecs
from psycopg2.extensions import make_dsn, parse_dsn
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database, make_durable

from bridge.core.entries import Need
from bridge.postgres.address import Address
from bridge.postgres.connection import Connection
from bridge.postgres.journal_reader import JournalReader
from bridge.postgres.listen import listen
from bridge.values.cursor import parse_cursor
from bridge.values.message import Gap

ENCODINGS = (
    "EUC_CN EUC_JP EUC_JIS_2004 EUC_KR EUC_TW ISO_8859_5 ISO_8859_6 ISO_8859_7 "
    "ISO_8859_8 KOI8R KOI8U LATIN1 LATIN2 LATIN3 LATIN4 LATIN5 LATIN6 LATIN7 LATIN8 "
    "LATIN9 LATIN10 MULE_INTERNAL SQL_ASCII UTF8 WIN866 WIN874 WIN1250 WIN1251 WIN1252 "
    "WIN1253 WIN1254 WIN1255 WIN1256 WIN1257 WIN1258"
).split()
"""Every encoding that a database may have (PostgreSQL, Character Set Support)."""

STORED = """
CREATE FUNCTION stored(bytes bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN convert_from(bytes, getdatabaseencoding());
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$
"""
"""The bytes as a text of the database; NULL: it takes no such text."""

Texts = list[bytes]


def candidates() -> Iterator[bytes]:
    """Every byte, and characters of two, three and four bytes."""
    yield from (bytes([byte]) for byte in range(1, 256))
    high, trail = range(0x80, 0x100), (0xA1, 0xC0, 0xFE)
    yield from (bytes(pair) for pair in itertools.product(high, trail))
    for lead, first in itertools.product((0x8E, 0x8F, 0x91, 0x9A, 0xE0, 0xE2), trail):
        yield from (bytes([lead, first, last]) for last in trail)
        yield bytes([lead, first, 0xA1, 0xA1])


@pytest.fixture(params=ENCODINGS)
def strange(request: pytest.FixtureRequest, server_url: str) -> Iterator[Database]:
    """A database in one of them, with schema bridge; d_* is durable."""
    database = made(server_url, request.param)
    yield database
    database.drop()


def made(server_url: str, encoding: str) -> Database:
    options = f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    # The test's own sessions: psycopg2 itself refuses two of them otherwise.
    raw = make_dsn(**parse_dsn(server_url) | {"client_encoding": "SQL_ASCII"})
    database = Database(raw, options)
    make_durable(database, "d_*")
    database.execute(STORED)
    return database


def stored(database: Database) -> Texts:
    """Return those of the candidates that the database takes."""
    found = database.execute(
        "SELECT bytes FROM unnest(%s::bytea[]) AS bytes "
        "WHERE stored(bytes) IS NOT NULL",
        [psycopg2.Binary(bytes_) for bytes_ in candidates()],
    )
    return [bytes(one) for (one,) in found]


def readable(database: Database, texts: Texts) -> list[str]:
    """Return what a reader gets of each text's bytes."""
    [(encoding,)] = database.execute("SHOW server_encoding")
    # Of EUC_TW and MULE_INTERNAL Python reads the ASCII alone.
    codec = "utf-8" if encoding == "SQL_ASCII" else codecs.get(encoding, "ascii")
    return [text.decode(codec, "replace") for text in texts]


def url(database: Database) -> str:
    """Return what a user would write."""
    parameters = parse_dsn(database.url)
    del parameters["client_encoding"]
    dsn: str = make_dsn(**parameters)
    return dsn


def connect(database: Database) -> Connection:
    return Connection(Address(url(database)), timeout=5, application_name="test")


def test_everything_that_can_be_stored_is_read_and_stops_nothing(
    strange: Database,
) -> None:
    texts = stored(strange)
    assert len(texts) > 100
    strange.execute(
        "SELECT count(bridge.publish('d_a', stored(bytes))) "
        "FROM unnest(%s::bytea[]) AS bytes",
        [psycopg2.Binary(text) for text in texts],
    )
    strange.execute(
        "SELECT count(bridge.publish('d_' || stored(bytes), 'named')) "
        "FROM unnest(%s::bytea[]) AS bytes",
        [psycopg2.Binary(text) for text in texts],
    )
    strange.execute("SELECT bridge.publish('d_a', 'last')")
    strange.execute("SELECT bridge.step()")

    with closing(connect(strange)) as connection:
        reader = JournalReader(connection, 1000, never_a_gap)
        rows = []
        while more := reader.tail(len(rows)).rows:
            rows += more
        entries = [
            entry
            for part in reader.entries(rows, lambda channel: True)
            for entry in part
        ]
        pages = []
        position = 0
        while position < len(rows):
            page = reader.page(Need("d_a", position, len(rows)))
            pages += page.entries
            position = page.upto

    expected = readable(strange, texts)
    names = ["d_" + text for text in expected]
    assert [entry.payload for entry in entries] == [
        *expected,
        *["named"] * len(names),
        "last",
    ]
    assert [entry.channel for entry in entries] == [
        *["d_a"] * len(texts),
        *names,
        "d_a",
    ]
    # One of the names is that of the channel.
    assert [payload for _, payload in pages] == [*expected, "named", "last"]


def never_a_gap(channel: str, position: int, reason: str) -> Gap:
    raise AssertionError(f"{channel} {position}: {reason}")


def test_everything_that_can_be_stored_is_heard_as_a_notification(
    strange: Database,
) -> None:
    texts = stored(strange)
    with closing(connect(strange)) as connection:
        connection.execute("LISTEN a")
        strange.execute(
            "SELECT count(pg_notify('a', stored(bytes))) "
            "FROM unnest(%s::bytea[]) AS bytes",
            [psycopg2.Binary(text) for text in texts],
        )
        heard = []
        until = time.monotonic() + 20
        while len(heard) < len(texts) and time.monotonic() < until:
            connection.select(1.0)
            connection.read()
            heard += connection.notifications()

    assert [notify.payload for notify in heard] == readable(strange, texts)


@pytest.mark.parametrize(
    ("encoding", "byte", "read"),
    [
        ("WIN1251", 0x98, "\N{REPLACEMENT CHARACTER}"),
        ("WIN1253", 0xAA, "\N{REPLACEMENT CHARACTER}"),
        ("LATIN1", 0xE9, "é"),
        ("KOI8R", 0xC1, "а"),
        ("EUC_TW", 0x41, "A"),
    ],
)
def test_page_gets_it_and_what_comes_after_and_resumes_across_it(
    server_url: str,
    gunicorn: Callable[..., Gunicorn],
    client: Callable[..., Client],
    encoding: str,
    byte: int,
    read: str,
) -> None:
    database = made(server_url, encoding)
    try:
        server = gunicorn(url(database)).start()
        [(cursor,)] = database.execute("SELECT bridge.cursor()")
        page = client(server, path="/ws?channel=d_a")
        assert page.receive()["type"] == "subscribed"

        strange = psycopg2.Binary(bytes([byte]))
        database.execute("SELECT bridge.publish('d_a', stored(%s))", strange)
        database.execute("SELECT bridge.publish('d_' || stored(%s), 'x')", strange)
        database.publish("d_a", "after")
        assert page.payloads(2) == [read, "after"]

        later = client(server, path=f"/ws?channel=d_a&cursor={cursor}")
        assert later.receive()["resumed"] is True
        assert later.payloads(2) == [read, "after"]
        assert server.get("/readyz")[0] == 200
        assert "Traceback" not in server.log

        said = listen(Address(url(database)), ["d_a"], parse_cursor(cursor))
        with closing(said):
            listened = [next(said)["payload"] for _ in range(2)]
        assert listened == [read, "after"]
    finally:
        server.end()
        database.drop()


@pytest.mark.parametrize("cursor", [True, False])
def test_name_that_the_database_cannot_write_is_refused_to_that_client_alone(
    server_url: str,
    gunicorn: Callable[..., Gunicorn],
    client: Callable[..., Client],
    cursor: bool,
) -> None:
    database = made(server_url, "LATIN1")
    try:
        server = gunicorn(url(database)).start()
        [(now,)] = database.execute("SELECT bridge.cursor()")
        other = client(server, path="/ws?channel=d_a")
        assert other.receive()["type"] == "subscribed"

        page = client(server)
        for channel in ("d_日本", "日本"):
            given = {"cursor": now} if cursor else {}
            page.send(type="subscribe", channel=channel, id=channel, **given)
            answer = page.receive()
            assert (answer["code"], answer["id"]) == ("bad_channel", channel)
            assert "encoding" in answer["message"]
        database.publish("d_a", "after")

        assert other.payloads(1) == ["after"]
        assert server.get("/readyz")[0] == 200
        assert "Traceback" not in server.log
        assert "journal_lost" not in server.log
        assert "cannot be read" not in server.log
    finally:
        server.end()
        database.drop()
