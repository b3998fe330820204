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


def test_worker_with_1100_clients_opens_another_session(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    raise_file_limit()
    server = gunicorn(database.url).start()
    pages = [Page(server, "/ws?channel=news") for _ in range(1100)]
    try:
        wait_until(lambda: all("subscribed" in page.types() for page in pages))

        # A channel has a listener of its own; its descriptor is over 1,023.
        pages.append(Page(server, "/ws?channel=other"))
        wait_until(lambda: "subscribed" in pages[-1].types())
        database.notify("other", "text")
        wait_until(lambda: "notification" in pages[-1].types())

        assert pages[-1].types() == ["welcome", "subscribed", "notification"]
        assert server.get("/readyz")[0] == 200
    finally:
        for page in pages:
            page.socket.close()


def test_worker_with_5000_clients_comes_back_twice(
    gunicorn: Callable[..., Gunicorn], cluster: Cluster
) -> None:
    raise_file_limit()
    cluster.start()
    database = Database(cluster.url)
    make_durable(database)
    server = gunicorn(database.url).start()
    plain, kept = (
        [Page(server, f"/ws?channel={channel}") for _ in range(CROWD // 2)]
        for channel in ("news", "kept_a")
    )
    late: list[Page] = []
    try:
        wait_until(lambda: all("subscribed" in page.types() for page in plain + kept))
        for restart in (1, 2):
            cluster.stop()
            wait_until(lambda: server.get("/readyz")[0] == 503)
            # They take the low descriptors of the sessions that were lost.
            late += [Page(server, "/ws?channel=news") for _ in range(20)]
            cluster.start()

            wait_until(lambda: server.get("/readyz")[0] == 200)
            database.publish("kept_a", "kept")
            database.notify("news", "plain")
            wait_until(
                lambda restart=restart: all(
                    page.types().count("notification") == restart
                    for page in plain + kept
                )
            )

        came = ["welcome", "subscribed"]
        twice = [*came, *2 * ["interrupted", "gap", "notification"]]
        assert all(page.types() == twice for page in plain)
        restored = [*came, *2 * ["interrupted", "restored", "notification"]]
        assert all(page.types() == restored for page in kept)
        wait_until(lambda: all("notification" in page.types() for page in late))
    finally:
        for page in plain + kept + late:
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
