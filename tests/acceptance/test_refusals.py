"""Who is refused, how, and what the log tells the operator to set."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed

Connect = Callable[..., Client]

FOREIGN = "https://evil.example"


def test_foreign_origin_is_refused_and_the_log_names_the_setting(
    bridge: Gunicorn,
) -> None:
    status, _, body = bridge.upgrade("/ws", Origin=FOREIGN)

    assert (status, body) == (403, f"Origin {FOREIGN!r} is not allowed\n")
    line = next(line for line in bridge.log.splitlines() if FOREIGN in line)
    assert "add it to BRIDGE_ALLOWED_ORIGINS" in line


@pytest.mark.parametrize(
    "origin",
    ["null", "https://127.0.0.1:1", "file://", "http://127.0.0.1.evil.example", ""],
)
def test_origin_of_another_kind_is_refused(bridge: Gunicorn, origin: str) -> None:
    assert bridge.upgrade("/ws", Origin=origin)[0] == 403


def test_own_and_listed_origins_are_let_in(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(
        database.url, allowed_origins="https://www.example.com, null"
    ).start()

    for origin in (
        f"http://127.0.0.1:{server.port}",
        "https://www.example.com",
        "null",
        None,
    ):
        assert client(server, origin=origin).settle() == []
    assert server.upgrade("/ws", Origin="https://example.com")[0] == 403


def test_host_that_is_not_served_is_refused(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, allowed_hosts="127.0.0.1").start()

    assert client(server).settle() == []
    status, _, body = server.upgrade("/ws", Host="rebound.example")
    assert (status, body) == (403, "Host 'rebound.example' is not served here\n")
    assert "add it to BRIDGE_ALLOWED_HOSTS" in server.log


def test_unknown_path_is_not_found(bridge: Gunicorn) -> None:
    assert bridge.get("/nothing")[0] == 404
    assert bridge.upgrade("/nothing")[0] == 404


def test_plain_get_is_told_to_upgrade(bridge: Gunicorn) -> None:
    status, headers, body = bridge.get("/ws?channel=a")

    assert status == 426
    assert headers["sec-websocket-version"] == "13"
    assert headers["upgrade"] == "websocket"
    assert body == "this is a WebSocket address: connect with ws://\n"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Key": "!" * 24}, 400),
        ({"Connection": "keep-alive"}, 400),
        ({"Content-Length": "5"}, 400),
    ],
)
def test_malformed_handshake_is_refused(
    bridge: Gunicorn, headers: dict[str, str], status: int
) -> None:
    assert bridge.upgrade("/ws", **headers)[0] == status
    assert "Traceback" not in bridge.log


def test_channel_that_is_not_public_is_forbidden_and_stays_silent(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, public_channels="watchers_*, news").start()
    subscriber = client(server, "secret", "news")

    assert subscriber.receive() == {
        "type": "error",
        "code": "forbidden",
        "message": "channel 'secret' is not open to you",
        "channel": "secret",
    }
    assert subscriber.receive()["type"] == "subscribed"
    database.notify("secret", "for nobody")
    database.notify("news", "for all")
    assert subscriber.payloads(1) == ["for all"]
    assert subscriber.settle() == []
    assert "set BRIDGE_PUBLIC_CHANNELS=secret" in server.log


def test_nothing_is_public_by_default(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, public_channels="").start()

    assert client(server).subscribe("anything")["code"] == "forbidden"


def test_policy_decides_about_what_is_not_public(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(
        database.url,
        public_channels="",
        access="support.policies.ByUserHeader",
        arguments=("--pythonpath", _tests_folder()),
    ).start()
    anna = client(server, additional_headers={"X-User": "anna"})
    nobody = client(server)

    assert anna.welcome["authenticated"] is True
    assert nobody.welcome["authenticated"] is False
    assert anna.subscribe("inbox_anna")["type"] == "subscribed"
    assert anna.subscribe("inbox_bert")["code"] == "forbidden"
    assert nobody.subscribe("inbox_anna")["code"] == "forbidden"


def test_client_that_the_policy_does_not_let_in_is_told_to_stay_away(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(
        database.url,
        access="support.policies.ByUserHeader",
        arguments=("--pythonpath", _tests_folder()),
    ).start()

    messages, code = client(server, additional_headers={"X-User": "banned"}).rest()

    assert [(each["type"], each["code"]) for each in messages] == [
        ("error", "forbidden")
    ]
    assert code == 4503


def test_policy_that_fails_or_hangs_disturbs_nobody_else(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(
        database.url,
        public_channels="open",
        access="support.policies.ByUserHeader",
        access_timeout=0.5,
        arguments=("--pythonpath", _tests_folder()),
    ).start()
    bystander = client(server, "open")
    bystander.receive()
    victim = client(server)

    victim.send("subscribe", channel="hang", id=1)
    database.notify("open", "meanwhile")
    assert bystander.receive(timeout=0.4)["text"] == "meanwhile"
    hung = victim.receive()
    raised = victim.subscribe("raise", id=2)

    for answer, id in ((hung, 1), (raised, 2)):
        assert (answer["code"], answer["id"]) == ("unavailable", id)
        assert answer["retry_delay"] == 5.0
    assert server.upgrade("/ws", X_User="raise")[0] == 503
    assert "BRIDGE_ACCESS_TIMEOUT" in server.log


def _tests_folder() -> str:
    return __file__.rsplit("/acceptance/", 1)[0]


def test_full_worker_refuses_with_retry_after(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, max_connections=2).start()
    first, _ = client(server), client(server)

    status, headers, _ = server.upgrade("/ws")
    assert (status, headers["retry-after"]) == (503, "5")
    assert server.get("/healthz")[0] == 200
    assert server.readiness()["reason"] == "connections: full"

    first.socket.close()
    wait_until(lambda: server.upgrade("/ws")[0] == 101)


def test_too_many_channels_and_errors(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, max_channels=2, max_errors=3).start()
    subscriber = client(server, "a", "b")
    assert subscriber.welcome["max_channels"] == 2
    assert {subscriber.receive()["type"] for _ in "ab"} == {"subscribed"}

    assert subscriber.subscribe("c")["code"] == "too_many_channels"
    assert subscriber.request("nonsense", id="n")["code"] == "unknown_type"
    subscriber.socket.send("no json")
    messages, code = subscriber.rest()

    assert [message["code"] for message in messages] == ["bad_message"]
    assert code == 4500


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x01x", 1002),  # not masked
        (b"\xc1\x80....", 1002),  # a reserved bit
        (b"\x81\xfe\x20\x00....", 1009),  # more than the limit, from the head
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # no UTF-8
        (b"\x82\x81\0\0\0\0x", 1003),  # binary
    ],
)
def test_broken_frame_is_answered_with_the_code_that_is_meant(
    gunicorn: Callable[..., Gunicorn],
    database: Database,
    client: Connect,
    frame: bytes,
    code: int,
) -> None:
    server = gunicorn(database.url, max_message_bytes=1024).start()
    subscriber = client(server)

    subscriber.socket.socket.sendall(frame)

    try:
        subscriber.receive()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        assert closed.rcvd.code == code


def test_sync_worker_says_which_class_is_needed(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(
        database.url, application="bridge.app:create_app()", arguments=("-k", "sync")
    ).start(ready=False)

    for status, _, body in (
        server.upgrade("/ws"),
        server.get("/ws"),
        server.get("/readyz"),
    ):
        assert status in (501, 503)
        assert "bridge.worker.BridgeWorker" in body
    assert database.listeners() == []
