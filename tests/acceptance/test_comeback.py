"""Everybody comes back at once: after a restart, a deploy, a lost network."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

from support.files import raise_file_limit
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database, make_durable
from support.raw import PONG, cut_frames, raw_websocket
from support.waiting import wait_until

CROWD = 5000


class Page:
    """A raw WebSocket that remembers what it was told."""

    def __init__(self, server: Gunicorn, path: str) -> None:
        self.socket = raw_websocket(server, path)
        self.socket.setblocking(False)
        self._rest = b""
        self.told: list[dict[str, object]] = []

    def read(self) -> list[dict[str, object]]:
        try:
            while data := self.socket.recv(262144):
                frames, self._rest = cut_frames(self._rest + data)
                for opcode, payload in frames:
                    if opcode == 0x9:
                        self.socket.send(PONG)
                    elif opcode == 0x1:
                        self.told.append(json.loads(payload))
        except (BlockingIOError, ConnectionError):
            pass
        return self.told

    def types(self) -> list[object]:
        return [m["type"] for m in self.read() if m["type"] != "heartbeat"]


def test_crowd_is_told_to_spread_its_loads_after_a_restart(
    gunicorn: Callable[..., Gunicorn], cluster: Cluster
) -> None:
    raise_file_limit()
    cluster.start()
    server = gunicorn(cluster.url, workers=2).start()
    pages = [Page(server, "/ws?channel=news") for _ in range(CROWD)]
    try:
        wait_until(lambda: all("subscribed" in page.types() for page in pages))

        cluster.restart()

        wait_until(lambda: all("gap" in page.types() for page in pages))
        Database.of(cluster.url).notify("news", "after")
        wait_until(lambda: all("notification" in page.types() for page in pages))
        assert all(
            page.types()
            == ["welcome", "subscribed", "interrupted", "gap", "notification"]
            for page in pages
        )
        windows = {
            m["reload_window"] for p in pages for m in p.told if m["type"] == "gap"
        }
        # 100 loads a second; each of two workers knows its own clients.
        assert all(40.0 <= float(str(window)) <= 60.0 for window in windows)
    finally:
        for page in pages:
            page.socket.close()


def test_crowd_that_resumes_at_once_gets_everything_once(
    gunicorn: Callable[..., Gunicorn], durable_database: Database
) -> None:
    raise_file_limit()
    server = gunicorn(durable_database.url).start()
    [(cursor,)] = durable_database.execute("SELECT bridge.cursor()")
    durable_database.execute(
        "SELECT count(bridge.publish('kept_a', n::text)) FROM generate_series(0, 19) n"
    )
    wait_until(lambda: durable_database.positions() == 20)

    path = f"/ws?channel=kept_a&cursor={cursor}"
    pages = [Page(server, path) for _ in range(CROWD)]
    try:
        wait_until(lambda: all(len(page.read()) >= 22 for page in pages), 60)
        for page in pages:
            texts = [m["text"] for m in page.told if m["type"] == "notification"]
            assert texts == [str(number) for number in range(20)]
    finally:
        for page in pages:
            page.socket.close()


def test_drained_clients_are_told_different_moments_to_come_back(
    gunicorn: Callable[..., Gunicorn], durable_database: Database
) -> None:
    make_durable(durable_database)
    server = gunicorn(durable_database.url).start()
    pages = [Page(server, "/ws?channel=kept_a") for _ in range(100)]
    try:
        wait_until(lambda: all("subscribed" in page.types() for page in pages))

        assert server.stop() == 0

        delays = set()
        for page in pages:
            assert page.types()[-1] == "bye"
            delays.add(page.told[-1]["reconnect_delay"])
        assert len(delays) > 50
        assert "ERROR" not in server.log
        assert "Traceback" not in server.log
    finally:
        for page in pages:
            page.socket.close()


def test_sockets_of_the_crowd_are_given_back(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url).start()
    pages = [Page(server, "/ws?channel=a") for _ in range(300)]
    for page in pages:
        page.socket.shutdown(socket.SHUT_RDWR)
        page.socket.close()

    wait_until(lambda: server.readiness()["connections"]["open"] == 0)
