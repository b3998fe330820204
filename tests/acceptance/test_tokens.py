"""Signed tokens, from the handshake to their expiry; limits of one client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.waiting import wait_until

Connect = Callable[..., Client]

SECRET = "a secret of the tests, 32 bytes and more"


def token(sub: str = "anna", seconds: float = 60, *channels: str) -> str:
    claims = {
        "sub": sub,
        "exp": int(time.time() + seconds),
        "channels": list(channels) or ["inbox_*"],
    }
    return jwt.encode(claims, SECRET, "HS256", headers={"kid": "one"})


@pytest.fixture
def server(
    gunicorn: Callable[..., Gunicorn], database: Database, tmp_path: Path
) -> Gunicorn:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"kid": "one", "alg": "HS256", "key": SECRET}]))
    return gunicorn(
        database.url,
        public_channels="news",
        access="bridge.hooks.signed_token.SignedToken",
        token_keys_file=keys,
        token_cookie="bridge_token",
        authenticate_timeout=1,
        arguments=("--access-logfile", "-"),
    ).start()


@pytest.mark.parametrize(
    "headers",
    [
        lambda: {"Authorization": f"Bearer {token()}"},
        lambda: {"Cookie": f"a=b; bridge_token={token()}"},
    ],
    ids=["header", "cookie"],
)
def test_token_of_the_handshake_opens_its_channels(
    server: Gunicorn, client: Connect, headers: Callable[[], dict[str, str]]
) -> None:
    subscriber = client(server, additional_headers=headers())

    assert subscriber.welcome["authenticated"] is True
    assert subscriber.subscribe("inbox_anna")["type"] == "subscribed"
    assert subscriber.subscribe("outbox")["code"] == "forbidden"


def test_channels_of_the_url_wait_for_the_token(
    server: Gunicorn, database: Database, client: Connect
) -> None:
    subscriber = client(server, "inbox_1", "news")
    assert subscriber.receive()["channel"] == "news"
    assert subscriber.settle() == []
    sent = token()

    answer = subscriber.request("authenticate", token=sent, id="t")
    confirmed = subscriber.receive()
    database.notify("inbox_1", "private")

    assert (answer["type"], answer["id"]) == ("authenticated", "t")
    assert 50 < answer["expires_in"] <= 60
    assert (confirmed["type"], confirmed["channel"]) == ("subscribed", "inbox_1")
    assert subscriber.payloads(1) == ["private"]
    assert not [part for part in sent.split(".") if part in server.log]


def test_token_that_does_not_come_ends_the_connection(
    server: Gunicorn, client: Connect
) -> None:
    messages, code = client(server, "inbox_1").rest()

    assert messages == [
        {"type": "bye", "reason": "authenticate_timeout", "reconnect_delay": 0}
    ]
    assert code == 4002


def test_client_without_a_token_is_told_that_it_needs_one(
    server: Gunicorn, client: Connect
) -> None:
    subscriber = client(server)

    assert subscriber.subscribe("inbox_1")["code"] == "not_authenticated"
    assert subscriber.subscribe("news")["type"] == "subscribed"
    assert subscriber.request("authenticate", token="x")["code"] == "token_invalid"
    expired = subscriber.request("authenticate", token=token("anna", -5))
    assert expired["code"] == "token_expired"


@pytest.mark.parametrize(
    ("bad", "error", "code"),
    [("nonsense", "token_invalid", 4501), (None, "token_expired", 4001)],
)
def test_bad_token_of_the_handshake_is_told_and_closed(
    server: Gunicorn, bad: str | None, error: str, code: int
) -> None:
    from websockets.sync.client import connect

    bad = bad or token("anna", -5)
    with connect(
        f"ws://127.0.0.1:{server.port}/ws",
        additional_headers={"Authorization": f"Bearer {bad}"},
        proxy=None,
    ) as subscriber:
        assert json.loads(subscriber.recv(10))["type"] == "welcome"
        message = json.loads(subscriber.recv(10))
        with pytest.raises(Exception) as closed:
            subscriber.recv(10)

    assert (message["type"], message["code"]) == ("error", error)
    assert closed.value.rcvd.code == code
    assert bad not in server.log


def test_connection_ends_when_its_token_expires(
    server: Gunicorn, client: Connect
) -> None:
    subscriber = client(
        server, additional_headers={"Authorization": f"Bearer {token('anna', 2)}"}
    )
    subscriber.subscribe("inbox_1")

    messages, code = subscriber.rest()

    assert [message["reason"] for message in messages] == ["token_expired"]
    assert code == 4001


def test_renewed_token_keeps_the_connection(
    server: Gunicorn, database: Database, client: Connect
) -> None:
    subscriber = client(
        server, additional_headers={"Authorization": f"Bearer {token('anna', 2)}"}
    )
    subscriber.subscribe("inbox_1")

    assert subscriber.request("authenticate", token=token())["type"] == "authenticated"
    expired = time.time() + 2
    wait_until(lambda: time.time() > expired)
    database.notify("inbox_1", "still here")

    assert subscriber.payloads(1) == ["still here"]


def test_token_of_another_subject_is_refused(server: Gunicorn, client: Connect) -> None:
    subscriber = client(
        server, additional_headers={"Authorization": f"Bearer {token('anna')}"}
    )

    answer = subscriber.request("authenticate", token=token("bert"))

    assert answer["code"] == "token_invalid"
    assert answer["message"] == "the token is another subject's"
    assert subscriber.subscribe("inbox_1")["type"] == "subscribed"


def test_new_token_that_allows_less_takes_channels_away(
    server: Gunicorn, database: Database, client: Connect
) -> None:
    subscriber = client(
        server,
        additional_headers={"Authorization": f"Bearer {token('anna', 60, 'a', 'b')}"},
    )
    for channel in ("a", "b", "news"):
        subscriber.subscribe(channel)

    subscriber.request("authenticate", token=token("anna", 60, "b"))
    revoked = subscriber.receive()
    database.notify("a", "not for anna any more")
    database.notify("b", "for anna")

    assert revoked == {"type": "unsubscribed", "channel": "a", "reason": "revoked"}
    assert subscriber.payloads(1) == ["for anna"]
    assert subscriber.settle() == []


def test_subscribes_that_come_too_fast_are_limited(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, max_subscribes_per_second=2).start()
    subscriber = client(server)
    for _ in range(128):
        subscriber.send("subscribe", channel="a")
        subscriber.send("unsubscribe", channel="a")
        subscriber.send("subscribe", channel="a")
        subscriber.send("unsubscribe", channel="a")
    subscriber.send("subscribe", channel="a", id="late")

    answers = subscriber.settle()
    late: dict[str, Any] = answers[-1]

    # Left before they were listened to, some of them; none came too fast.
    assert "rate_limited" not in {answer.get("code") for answer in answers[:-1]}
    assert (late["id"], late["code"]) == ("late", "rate_limited")
    assert 0 < late["retry_delay"] <= 0.6


def test_address_may_have_so_many_connections(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(
        database.url,
        unix=True,
        max_connections_per_address=2,
        trusted_proxies="unix, 10.0.0.0/8",
    ).start()

    def open(forwarded: str) -> Client:
        return client(server, additional_headers={"X-Forwarded-For": forwarded})

    def refused(forwarded: str) -> bool:
        status, headers, _ = server.upgrade("/ws", X_Forwarded_For=forwarded)
        assert status == 101 or headers["retry-after"] == "5"
        return status == 503

    first = open("192.0.2.1")
    open("spoofed, 192.0.2.1, 10.1.2.3")
    assert refused("192.0.2.1")
    assert not refused("192.0.2.2")
    open("2001:db8:1:2::1"), open("2001:db8:1:2:ffff::1")
    assert refused("2001:db8:1:2:3::1")
    assert not refused("2001:db8:1:3::1")
    for _ in range(3):
        client(server)  # without an address

    first.socket.close()
    wait_until(lambda: not refused("192.0.2.1"))
