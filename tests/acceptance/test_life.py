"""A worker's life: heartbeats, silence, slow readers, the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.raw import raw_websocket
from support.tls import context, make_certificate
from support.waiting import wait_until
from websockets.sync.client import connect

Connect = Callable[..., Client]

ALARMING = ("Traceback", "[ERROR]", "[CRITICAL]", "[WARNING]", "Error")


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_sigterm_says_goodbye_to_every_client(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect, unix: bool
) -> None:
    server = gunicorn(database.url, unix=unix, workers=2, drain_window=2).start()
    subscribers = [client(server, "a") for _ in range(40)]
    for subscriber in subscribers:
        assert subscriber.receive()["type"] == "subscribed"
    # An idle keep-alive connection, as nginx holds them, must not delay it.
    idle = server.connect()
    idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert idle.recv(65536).startswith(b"HTTP/1.1 200")

    began = time.monotonic()
    assert server.process is not None
    server.process.terminate()
    ends = [subscriber.rest() for subscriber in subscribers]
    code = server.process.wait(20)

    for messages, close_code in ends:
        (bye,) = messages
        assert close_code == 1012
        assert bye.pop("reconnect_delay") <= 2
        assert bye == {"type": "bye", "reason": "restart"}
    assert code == 0
    assert time.monotonic() - began < 6
    assert [word for word in ALARMING if word in server.log] == [], server.log
    assert database.listeners() == []
    idle.close()


def test_clients_that_never_answer_the_close_do_not_hold_the_worker(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url).start()
    deaf = raw_websocket(server)

    began = time.monotonic()
    code = server.stop()

    assert code == 0
    assert time.monotonic() - began < 6
    assert [word for word in ALARMING if word in server.log] == [], server.log
    deaf.close()


def test_worker_without_clients_stops_at_once(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url).start()

    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 3


def test_interrupt_ends_it_too(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url).start()
    subscriber = client(server, "a")
    subscriber.receive()

    assert server.process is not None
    server.process.send_signal(signal.SIGINT)
    messages, code = subscriber.rest()

    assert [message["type"] for message in messages] == ["bye"]
    assert code == 1012
    assert server.process.wait(20) == 0
    assert [word for word in ALARMING if word in server.log] == [], server.log


def test_reload_moves_clients_to_new_workers(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url).start()
    subscriber = client(server, "a")
    subscriber.receive()
    before = server.workers

    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    messages, code = subscriber.rest()
    again = client(server)
    answer = again.subscribe("a", resume=True)

    assert ([message["type"] for message in messages], code) == (["bye"], 1012)
    assert answer["type"] == "subscribed"
    assert again.receive()["reason"] == "not_kept"
    wait_until(lambda: len(server.workers) == 1 and server.workers != before)
    assert "[ERROR]" not in server.log


def test_heartbeats_come_as_text_and_as_ping(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, heartbeat_interval=0.5).start()
    raw = raw_websocket(server)

    seen = b""
    while seen.count(b"heartbeat") < 2 or b"\x89\x00" not in seen:
        seen += raw.recv(65536)

    assert b'\x81\x14{"type":"heartbeat"}\x89\x00' in seen
    raw.close()


def test_peer_that_answers_no_ping_is_closed_and_others_are_not(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, heartbeat_interval=0.5).start()
    alive = client(server, "a")
    alive.receive()
    raw = raw_websocket(server)

    seen = b""
    while part := raw.recv(65536):
        seen += part

    assert (4009).to_bytes(2, "big") + b"heartbeats not answered" in seen
    assert seen.count(b"heartbeat") <= 4
    assert alive.settle() == []
    raw.close()


def test_reader_that_stopped_is_dropped_in_the_end(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(
        database.url, write_timeout=1, backlog_bytes=65536, send_buffer_bytes=8192
    ).start()
    raw = raw_websocket(server, "/ws?channel=a", receive_buffer=4096)
    other = client(server, "a")
    other.receive()

    for _ in range(50):
        database.notify("a", *(f"{n}" + "x" * 7900 for n in range(4)))
        assert len(other.payloads(4)) == 4
    wait_until(lambda: "it does not read what it is sent" in server.log)

    wait_until(lambda: server.readiness()["connections"]["open"] == 1)
    assert other.settle() == []
    raw.close()


def test_clients_that_vanish_leave_nothing_behind(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, unlisten_delay=0.1).start()
    (worker,) = server.workers
    files = len(os.listdir(f"/proc/{worker}/fd"))
    for number in range(50):
        raw = raw_websocket(server, f"/ws?channel=c{number}")
        if number % 2:  # a reset instead of an end
            linger = b"\x01\0\0\0\0\0\0\0"
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raw.close()

    wait_until(lambda: server.readiness()["connections"]["open"] == 0)
    wait_until(lambda: sum(p["channels"] for p in server.readiness()["listeners"]) == 0)
    wait_until(lambda: len(os.listdir(f"/proc/{worker}/fd")) <= files)
    assert [word for word in ALARMING if word in server.log] == [], server.log


def test_message_that_came_with_the_handshake_is_answered(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url).start()
    ping = b'{"type":"ping","id":1}'
    frame = bytes((0x81, 0x80 | len(ping))) + b"\0\0\0\0" + ping

    raw = raw_websocket(server, early=frame)

    seen = b""
    while b"pong" not in seen:
        seen += raw.recv(65536)
    assert b'{"type":"pong","id":1}' in seen
    raw.close()


def test_websocket_works_where_gunicorn_ends_tls(
    gunicorn: Callable[..., Gunicorn], database: Database, tmp_path: Path
) -> None:
    key, certificate = make_certificate(tmp_path)
    server = gunicorn(
        database.url,
        arguments=("--keyfile", str(key), "--certfile", str(certificate)),
    )
    server.launch()
    wait_until(lambda: "listener connected" in server.log)

    with connect(
        f"wss://127.0.0.1:{server.port}/ws?channel=a", ssl=context(), proxy=None
    ) as subscriber:
        assert [json.loads(subscriber.recv())["type"] for _ in "12"] == [
            "welcome",
            "subscribed",
        ]
        payloads = ["x" * 7900 + str(n) for n in range(100)]
        database.notify("a", *payloads)
        received = [json.loads(subscriber.recv(20))["text"] for _ in payloads]
        subscriber.send('{"type":"ping"}')
        assert json.loads(subscriber.recv()) == {"type": "pong"}
    assert received == payloads
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_health_check_is_answered_while_the_only_worker_drains(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, drain_window=3).start()
    sockets = [raw_websocket(server, "/ws?channel=a") for _ in range(600)]
    assert server.process is not None

    server.process.terminate()
    wait_until(lambda: server.get("/readyz")[0] == 503)
    status, headers, _ = server.upgrade("/ws")

    assert server.readiness()["reason"] == "draining"
    assert (status, headers["retry-after"]) == (503, "5")
    assert server.get("/healthz")[0] == 200
    for sock in sockets:
        sock.close()
    assert server.process.wait(20) == 0
    assert "Traceback" not in server.log


def test_first_request_that_comes_just_after_a_drain_began_is_answered(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    """Its connection was made before; a busy machine makes that likely."""
    server = gunicorn(database.url, drain_window=3).start()
    sockets = [raw_websocket(server, "/ws?channel=a") for _ in range(300)]
    early, never = server.connect(), server.connect()
    assert server.get("/readyz")[0] == 200  # those before it are accepted
    assert server.process is not None

    server.process.terminate()
    wait_until(lambda: server.get("/readyz")[0] == 503)
    early.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")

    assert early.recv(65536).startswith(b"HTTP/1.1 503")
    assert never.recv(65536) == b""
    for sock in (*sockets, early, never):
        sock.close()


def test_reload_takes_every_new_client(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, drain_window=1).start()
    sockets = [raw_websocket(server, "/ws?channel=a") for _ in range(300)]
    before = server.workers
    assert server.process is not None

    server.process.send_signal(signal.SIGHUP)
    statuses = []
    while not server.workers or set(before) & set(server.workers):
        statuses.append(server.upgrade("/ws")[0])

    for sock in sockets:
        sock.close()
    # The new worker takes them all, but the one that the old worker was
    # shaking hands with when its drain began.
    assert set(statuses) <= {101, 503}
    assert statuses.count(503) <= 1
