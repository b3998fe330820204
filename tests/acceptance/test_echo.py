"""The echo that Autobahn's suite talks to (`make autobahn`) is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rfc6455.__main__ import echo_server, summary
from support.gunicorn import Gunicorn
from websockets.sync.client import connect


@pytest.fixture(scope="module")
def server() -> Iterator[Gunicorn]:
    server = echo_server()
    yield server.start(ready=False)
    server.end()


def test_every_kind_of_message_comes_back(server: Gunicorn) -> None:
    large = "ü" * 1_000_000
    with connect(f"ws://127.0.0.1:{server.port}/echo", max_size=None) as client:
        client.send("text")
        assert client.recv() == "text"
        client.send(["in ", "three ", "frames"])
        assert client.recv() == "in three frames"
        client.send(b"\x00\xff")
        assert client.recv() == b"\x00\xff"
        client.send(large)
        assert client.recv() == large
        assert client.ping(b"still there").wait(10)


def test_server_ends_the_closing_handshake(server: Gunicorn) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/echo") as client:
        client.close(1000, "enough")

        assert client.close_code == 1000


def test_results_are_counted() -> None:
    results = {"1": "OK", "2": "OK", "3": "FAILED", "4": "UNCLEAN", "5": "NON-STRICT"}

    assert summary(results) == "5 cases: 2 OK, 0 INFORMATIONAL, 1 NON-STRICT, 2 failed"
