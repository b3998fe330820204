"""Clients that are slow, silent or too many hold nothing for long."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from resource import RLIMIT_NOFILE, setrlimit

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.raw import HANDSHAKE
from support.tls import context, make_certificate
from support.waiting import wait_until

from bridge.server.http_server import SPARE_SLOTS

Connect = Callable[..., Client]


@pytest.fixture
def server(gunicorn: Callable[..., Gunicorn], database: Database) -> Gunicorn:
    return gunicorn(database.url, handshake_timeout=0.5).start()


def answer(sock: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    data = b""
    try:
        while part := sock.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


def test_connection_that_says_nothing_is_closed(server: Gunicorn) -> None:
    with closing(server.connect()) as silent:
        began = time.monotonic()
        assert answer(silent) == b""
    assert 0.3 < time.monotonic() - began < 5
    assert "Traceback" not in server.log


def test_head_that_is_not_finished_is_told_so(server: Gunicorn) -> None:
    with closing(server.connect()) as half:
        half.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: web")
        assert answer(half).startswith(b"HTTP/1.1 408 ")
    assert "Traceback" not in server.log


@pytest.mark.parametrize("start", [b"GE", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"])
def test_dripped_head_ends_at_the_deadline(server: Gunicorn, start: bytes) -> None:
    with closing(server.connect()) as dripping:
        dripping.sendall(start)
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    dripping.sendall(b"a")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        answer(dripping)
        stop.set()
        thread.join()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n" + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + (b"X: " + b"y" * 900 + b"\r\n") * 50 + b"\r\n",
    ],
    ids=["long line", "many lines", "large"],
)
def test_large_head_is_refused(server: Gunicorn, head: bytes) -> None:
    with closing(server.connect()) as sock:
        sock.sendall(head)
        assert answer(sock).startswith(b"HTTP/1.1 431 ")
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /x HTTP/9.9\r\n\r\n", b"400"),
        (b"GET /x HTTP/1\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    ],
)
def test_request_that_is_none_is_refused_without_a_traceback(
    gunicorn: Callable[..., Gunicorn],
    database: Database,
    request_: bytes,
    status: bytes,
) -> None:
    # With an access log: Gunicorn's own handler fails to write these.
    server = gunicorn(database.url, arguments=("--access-logfile", "-")).start()

    with closing(server.connect()) as sock:
        sock.sendall(request_)
        assert answer(sock).startswith(b"HTTP/1.1 " + status)

    assert server.get("/healthz")[0] == 200
    assert "Traceback" not in server.log


def test_body_that_comes_late_is_not_taken_for_a_request(server: Gunicorn) -> None:
    with closing(server.connect()) as sock:
        head = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n"
        sock.sendall(head + b"x")
        body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        sock.sendall(body * 20)
        data = answer(sock)

    assert data.count(b"HTTP/1.1 ") == 1
    assert data.startswith(b"HTTP/1.1 405 ")


def test_silent_connections_make_room_for_those_that_speak(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    server = gunicorn(database.url, arguments=("--worker-connections", "120")).start()
    good = client(server, "a")
    good.receive()
    silent = [server.connect() for _ in range(200)]

    began = time.monotonic()
    assert server.get("/healthz")[0] == 200
    assert time.monotonic() - began < 2
    database.notify("a", "still here")
    assert good.payloads(1) == ["still here"]

    for sock in silent:
        sock.close()


def test_connections_beyond_the_limit_are_told_so(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    # The policy keeps five of them busy with their handshakes.
    server = gunicorn(
        database.url,
        access="support.policies.Slow",
        access_timeout=10,
        access_threads=5,
        arguments=(
            "--worker-connections",
            "5",
            "--pythonpath",
            __file__.rsplit("/acceptance/", 1)[0],
        ),
    ).start()
    (worker,) = server.workers

    # All are there at once, more than there is room to wait in for a good end.
    os.kill(worker, signal.SIGSTOP)
    socks = [server.connect() for _ in range(5 + 2 * SPARE_SLOTS)]
    for sock in socks:
        sock.sendall(HANDSHAKE.format(path="/ws").encode())
    os.kill(worker, signal.SIGCONT)
    statuses = [sock.recv(65536)[9:12] for sock in socks]
    for sock in socks:
        sock.close()

    assert Counter(statuses) == {b"503": 2 * SPARE_SLOTS, b"101": 5}
    wait_until(lambda: server.get("/healthz")[0] == 200)
    assert "Traceback" not in server.log


def test_tls_handshake_that_is_not_finished_is_closed(
    gunicorn: Callable[..., Gunicorn], database: Database, tmp_path: Path
) -> None:
    key, certificate = make_certificate(tmp_path)
    server = gunicorn(
        database.url,
        handshake_timeout=0.5,
        arguments=("--keyfile", str(key), "--certfile", str(certificate)),
    )
    server.launch()
    wait_until(lambda: "listener connected" in server.log)
    (worker,) = server.workers
    files = len(os.listdir(f"/proc/{worker}/fd"))

    with closing(server.connect()) as silent, closing(server.connect()) as scanner:
        scanner.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer(silent), answer(scanner)

    with closing(context().wrap_socket(server.connect())) as good:
        good.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert good.recv(65536).startswith(b"HTTP/1.1 200")
    wait_until(lambda: len(os.listdir(f"/proc/{worker}/fd")) <= files)
    assert "Traceback" not in server.log


def test_file_limit_that_is_too_low_is_refused_with_the_number_needed(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, arguments=("--worker-connections", "3000"))
    server.launch(preexec=lambda: setrlimit(RLIMIT_NOFILE, (900, 900)))

    assert server.process is not None
    assert server.process.wait(20) == 1
    assert "a worker may need 3232 open files, the limit is 900" in server.log
    assert "Booting worker" not in server.log


def test_file_limit_is_raised_where_it_may_be(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, arguments=("--worker-connections", "1000"))
    server.start(preexec=lambda: setrlimit(RLIMIT_NOFILE, (256, 4096)))

    (worker,) = server.workers
    limits = Path(f"/proc/{worker}/limits").read_text().splitlines()
    (files,) = (line.split() for line in limits if line.startswith("Max open files"))
    assert files[3:5] == ["1232", "4096"]
