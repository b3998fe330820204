"""A client that sends too much is read later, and nobody else notices."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.client import Client
from support.crowd import Audience, publish
from support.flood import (
    CLOSE,
    CONTROL,
    PING,
    PINGS,
    PONG,
    SUBSCRIBES,
    Flooder,
    FloodSocket,
    control_frame,
)
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.raw import text_frame
from support.tls import make_certificate
from support.waiting import wait_until

TEXT = 0x1

BURST = 500
"""What is read at once, also from a client that then sends no more."""

RATE = 200
BEYOND = 200
"""Messages after the burst: they take a second."""

NEVER = 0.01
"""A rate at which nothing beyond the burst is read while a test runs."""

Serve = Callable[[bool], Gunicorn]


def with_tls(folder: Path) -> tuple[str, ...]:
    key, certificate = make_certificate(folder)
    return ("--keyfile", str(key), "--certfile", str(certificate))


def start(server: Gunicorn, tls: bool) -> Gunicorn:
    """Start it; a TLS one answers no plain health check."""
    if not tls:
        return server.start()
    server.launch()
    wait_until(lambda: "listener connected" in server.log)
    return server


@pytest.fixture(scope="module")
def serve(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serve]:
    """Give a server that reads `RATE` messages a second of a client."""
    running: dict[bool, Gunicorn] = {}

    def get(tls: bool) -> Gunicorn:
        if tls not in running:
            running[tls] = server = Gunicorn(
                shared_database.url,
                max_message_rate=RATE,
                max_subscribes_per_second=0,
                arguments=with_tls(tmp_path_factory.mktemp("tls")) if tls else (),
            )
            start(server, tls)
        return running[tls]

    yield get
    for server in running.values():
        server.end()


both = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def answers(flood: FloodSocket, count: int) -> list[tuple[int, bytes]]:
    """Read so many frames that are no heartbeat, no ping and no welcome."""
    found: list[tuple[int, bytes]] = []
    while len(found) < count:
        found += [
            (opcode, payload)
            for opcode, payload in flood.frames()
            if opcode != PING
            and b'"heartbeat"' not in payload
            and b'"welcome"' not in payload
        ]
    return found


def messages(found: list[tuple[int, bytes]]) -> list[tuple[str, int]]:
    return [
        (message["type"], message["id"])
        for message in (json.loads(payload) for _, payload in found)
    ]


def test_every_ping_of_a_flood_is_answered_once_in_order_and_late(
    serve: Serve,
) -> None:
    total = BURST + BEYOND
    sent = b"".join(text_frame({"type": "ping", "id": n}) for n in range(total))
    with FloodSocket(serve(False)) as flood:
        began = time.monotonic()
        flood.socket.sendall(sent)

        found = messages(answers(flood, total))
        seconds = time.monotonic() - began

    assert found == [("pong", n) for n in range(total)]
    assert seconds > 0.9 * BEYOND / RATE


@both
def test_every_subscribe_and_unsubscribe_of_a_flood_is_answered_once(
    serve: Serve, tls: bool
) -> None:
    total = BURST + BEYOND
    types = ("subscribe", "unsubscribe")
    sent = b"".join(
        text_frame({"type": types[n % 2], "channel": "flood", "id": n})
        for n in range(total)
    )
    # The channel is listened to: it is another test what happens before.
    with FloodSocket(serve(tls), "/ws?channel=flood", tls=tls) as other:
        answers(other, 1)
        with FloodSocket(serve(tls), tls=tls) as flood:
            began = time.monotonic()
            flood.socket.sendall(sent)

            found = messages(answers(flood, total))
            seconds = time.monotonic() - began

    assert found == [(f"{types[n % 2]}d", n) for n in range(total)]
    assert seconds > 0.9 * BEYOND / RATE


@both
def test_every_control_ping_of_a_flood_is_answered_once(
    serve: Serve, tls: bool
) -> None:
    total = BURST + BEYOND
    payloads = [str(n).encode() for n in range(total)]
    with FloodSocket(serve(tls), tls=tls) as flood:
        began = time.monotonic()
        flood.socket.sendall(b"".join(control_frame(PING, one) for one in payloads))

        found = answers(flood, total)
        seconds = time.monotonic() - began

    assert found == [(PONG, one) for one in payloads]
    assert seconds > 0.9 * BEYOND / RATE


def test_pongs_that_nobody_asked_for_count(serve: Serve) -> None:
    with FloodSocket(serve(False)) as flood:
        began = time.monotonic()
        flood.socket.sendall(control_frame(PONG) * (BURST + BEYOND) + PINGS)

        answers(flood, 1)

        assert time.monotonic() - began > 0.9 * BEYOND / RATE


def test_fragments_of_a_message_count(serve: Serve) -> None:
    text = json.dumps({"type": "ping", "id": 1, "pad": "x" * 700}).encode()
    first = [0x01] + [0x00] * (len(text) - 2) + [0x80]
    sent = b"".join(
        bytes((head, 0x81)) + b"\0\0\0\0" + bytes((byte,))
        for head, byte in zip(first, text, strict=True)
    )
    with FloodSocket(serve(False)) as flood:
        began = time.monotonic()
        flood.socket.sendall(sent)

        found = messages(answers(flood, 1))
        seconds = time.monotonic() - began

    assert found == [("pong", 1)]
    assert seconds > 0.9 * (len(text) - BURST) / RATE


def test_close_behind_a_flood_is_answered_behind_its_answers(serve: Serve) -> None:
    total = BURST + BEYOND
    with FloodSocket(serve(False)) as flood:
        flood.socket.sendall(PINGS * total + control_frame(CLOSE, b"\x03\xe8"))

        found = answers(flood, total + 1)

    assert [opcode for opcode, _ in found] == [TEXT] * total + [CLOSE]
    assert found[-1] == (CLOSE, b"\x03\xe8")


def test_page_that_comes_back_to_all_its_channels_is_not_slowed(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, max_message_rate=NEVER).start()
    with FloodSocket(server) as flood:
        flood.socket.sendall(
            b"".join(
                text_frame({"type": "subscribe", "channel": f"c{n}", "id": n})
                for n in range(128)
            )
        )

        found = messages(answers(flood, 128))

    assert sorted(found) == [("subscribed", n) for n in range(128)]


def test_more_channels_than_usual_make_a_larger_burst(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, max_message_rate=NEVER, max_channels=400).start()
    with FloodSocket(server) as flood:
        flood.socket.sendall(PINGS * 800)

        assert len(answers(flood, 800)) == 800


@pytest.mark.parametrize(
    "sent", [PINGS, SUBSCRIBES, CONTROL], ids=["pings", "subscribes", "control"]
)
def test_others_get_everything_while_one_floods(
    serve: Serve, shared_database: Database, sent: bytes
) -> None:
    server = serve(False)
    writer = threading.Thread(target=publish, args=(shared_database, "news", 200, 100))
    with closing(Audience(server, "news", 20)) as audience:
        with Flooder(FloodSocket(server), sent) as flooder:
            writer.start()
            try:
                assert audience.read_until(last=199, timeout=30)
            finally:
                writer.join()
            with Client(server) as other:
                assert other.request("ping", id=1) == {"type": "pong", "id": 1}

        assert list(audience.numbers.values()) == [list(range(200))] * 20
        assert audience.closed == 0
    assert flooder.error is None
    # Of the control frames half are pongs, which nobody answers.
    assert len(flooder.opcodes) >= BURST // 2


@both
def test_flood_is_held_up_in_the_clients_own_socket(
    gunicorn: Callable[..., Gunicorn], database: Database, tmp_path: Path, tls: bool
) -> None:
    server = gunicorn(
        database.url,
        max_message_rate=NEVER,
        heartbeat_interval=600,
        arguments=with_tls(tmp_path) if tls else (),
    )
    start(server, tls)
    (worker,) = server.workers
    before = resident_bytes(worker)

    floods = [Flooder(FloodSocket(server, tls=tls), PINGS) for _ in range(10)]
    for flooder in floods:
        flooder.__enter__()
    try:
        wait_until(lambda: all(len(one.opcodes) > BURST for one in floods))
        wait_until(lambda: stands_still(floods))
        grown = resident_bytes(worker) - before
    finally:
        for flooder in floods:
            flooder.__exit__()

    assert [flooder.error for flooder in floods] == [None] * 10
    # The welcome, and no answer more than was paid for.
    assert [one.opcodes.count(TEXT) for one in floods] == [1 + BURST] * 10
    # One read each, and what ten connections take anyhow.
    assert grown < 10 * 400_000


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def stands_still(floods: list[Flooder]) -> bool:
    """Whether nobody has got rid of a byte for half a second."""
    before = [flooder.sent_bytes for flooder in floods]
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        if [flooder.sent_bytes for flooder in floods] != before:
            return False
        time.sleep(0.05)
    return True


def test_flooder_is_not_closed_as_silent(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    # Slower than its flood, and slower than heartbeats: nothing is read between.
    server = gunicorn(
        database.url, max_message_rate=NEVER, heartbeat_interval=0.5
    ).start()

    with Flooder(FloodSocket(server), PINGS) as flooder:
        wait_until(lambda: flooder.opcodes.count(PING) >= 6)

    assert flooder.error is None
    assert CLOSE not in flooder.opcodes


@both
@pytest.mark.parametrize("how", ["reset", "end"])
def test_flooder_that_vanishes_is_let_go(
    gunicorn: Callable[..., Gunicorn],
    database: Database,
    tmp_path: Path,
    how: str,
    tls: bool,
) -> None:
    server = gunicorn(
        database.url,
        max_message_rate=NEVER,
        heartbeat_interval=600,
        arguments=with_tls(tmp_path) if tls else (),
    )
    start(server, tls)
    flood = FloodSocket(server, tls=tls)
    flood.frames()  # Unread it would make a reset of the end.
    flood.socket.sendall(control_frame(PONG) * 2 * BURST + PINGS)
    with FloodSocket(server, tls=tls) as other:
        other.socket.sendall(PINGS)
        answers(other, 1)  # by now the burst of the first was read

        if how == "reset":
            flood.vanish()
        else:
            flood.socket.close()

        wait_until(lambda: server.log.count("closed after") == 1)


def test_flooder_on_a_unix_socket_that_vanishes_is_let_go(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(
        database.url, unix=True, max_message_rate=NEVER, heartbeat_interval=600
    ).start()
    flood = FloodSocket(server)
    flood.socket.sendall(control_frame(PONG) * 2 * BURST)
    wait_until(lambda: server.readiness()["connections"]["open"] == 1)

    flood.socket.close()

    wait_until(lambda: server.readiness()["connections"]["open"] == 0)


@both
def test_flooder_is_drained_like_everybody(
    gunicorn: Callable[..., Gunicorn], database: Database, tmp_path: Path, tls: bool
) -> None:
    server = gunicorn(
        database.url,
        max_message_rate=NEVER,
        arguments=with_tls(tmp_path) if tls else (),
    )
    start(server, tls)
    with FloodSocket(server, tls=tls) as flood:
        flood.socket.sendall(PINGS * 4 * BURST)
        pongs = answers(flood, BURST)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)

        found = answers(flood, 2)
        # As a browser does; it is behind what was not read.
        flood.socket.sendall(control_frame(CLOSE, found[1][1]))
        with pytest.raises((ConnectionError, socket.timeout)) as ended:
            answers(flood, 1)

    assert len(pongs) == BURST
    assert [opcode for opcode, _ in found] == [TEXT, CLOSE]
    assert json.loads(found[0][1])["type"] == "bye"
    assert found[1][1][:2] == (1012).to_bytes(2, "big")
    assert str(ended.value) == "the server has ended the connection"
    assert server.process.wait(20) == 0
    assert "Traceback" not in server.log
