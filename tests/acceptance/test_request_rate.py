"""Requests of one address: paced where the operator says so."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.waiting import wait_until

Make = Callable[..., Gunicorn]


@pytest.fixture
def serve(gunicorn: Make, database: Database) -> Callable[[float], Gunicorn]:
    """Start a server behind a proxy, with so many requests a second."""

    def start(rate: float) -> Gunicorn:
        return gunicorn(
            database.url,
            unix=True,
            trusted_proxies="unix",
            max_request_rate_per_address=rate,
        ).start()

    return start


def ask(server: Gunicorn, address: str) -> tuple[int, dict[str, str], str]:
    return server.get("/healthz", {"X-Forwarded-For": address})


@contextmanager
def asking(
    server: Gunicorn, address: str, times: int = 1
) -> Iterator[list[tuple[int, dict[str, str], str]]]:
    """Ask at the same time, each in a thread; yields the answers so far."""
    answers: list[tuple[int, dict[str, str], str]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(server, address)))
        for _ in range(times)
    ]
    for thread in threads:
        thread.start()
    yield answers
    for thread in threads:
        thread.join()


def test_requests_beyond_the_rate_are_served_later(
    serve: Callable[[float], Gunicorn],
) -> None:
    server = serve(5)  # and 50 at once
    began = time.monotonic()

    statuses = [ask(server, "192.0.2.1")[0] for _ in range(55)]

    assert statuses == [200] * 55
    assert time.monotonic() - began > 0.95


def test_handshakes_count(
    serve: Callable[[float], Gunicorn], client: Callable[..., Client]
) -> None:
    server = serve(5)
    began = time.monotonic()

    for _ in range(55):
        client(server, additional_headers={"X-Forwarded-For": "192.0.2.1"})

    assert time.monotonic() - began > 0.95


def test_request_that_waits_holds_nobody_else_up(
    serve: Callable[[float], Gunicorn],
) -> None:
    server = serve(0.5)  # and 5 at once
    for _ in range(5):
        ask(server, "192.0.2.1")

    with asking(server, "192.0.2.1") as late:
        others = [ask(server, f"192.0.2.{n}")[0] for n in range(2, 20)]
        # Their own network's, and one without an address.
        others.append(ask(server, "2001:db8::1")[0])
        others.append(server.get("/healthz")[0])
        assert late == []

    assert others == [200] * 20
    assert [status for status, _, _ in late] == [200]


def test_request_that_would_wait_for_too_long_is_refused(
    serve: Callable[[float], Gunicorn],
) -> None:
    server = serve(0.5)
    for _ in range(5):
        ask(server, "192.0.2.1")

    with asking(server, "192.0.2.1", times=6) as answers:
        wait_until(lambda: answers)
        # Those that wait are let go: a stop must not take longer.
        assert server.stop(signal.SIGTERM) == 0

    refused = [answer for answer in answers if answer[0] == 503]
    assert [status for status, _, _ in answers].count(200) == 5
    assert [(headers["retry-after"], text) for _, headers, text in refused] == [
        ("10", "too many requests from your address, try again\n")
    ]
    assert "Traceback" not in server.log


def test_connections_of_a_proxy_are_shared_by_many(
    serve: Callable[[float], Gunicorn],
) -> None:
    """What one client has spent does not hold the next up on the same one."""
    server = serve(0.5)
    with closing(server.connect()) as proxy, proxy.makefile("rb") as answers:
        for number in range(30):
            proxy.sendall(
                b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
                b"X-Forwarded-For: 192.0.2.%d\r\n\r\n" % (number % 10)
            )
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            while answers.readline() != b"\r\n":
                pass
            answers.readline()


def test_without_the_setting_nobody_waits(gunicorn: Make, database: Database) -> None:
    server = gunicorn(database.url).start()

    assert [server.get("/healthz")[0] for _ in range(200)] == [200] * 200
