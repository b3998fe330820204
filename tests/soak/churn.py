"""Clients that come, subscribe, leave and vanish, and writers that publish."""

from __future__ import annotations

import logging
import random
import socket
import struct
import threading
import time
from contextlib import closing, suppress

import psycopg2
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from websockets.exceptions import WebSocketException

# It logs a traceback when it is closed while it reads.
logging.getLogger("websockets.client").disabled = True

CHANNELS = 40
CLIENTS = 12
"""Threads, each with one client after another."""


class Churn:
    """Threads that go on until `stop`; nobody is connected afterwards."""

    def __init__(self, server: Gunicorn, database: Database, seed: int) -> None:
        self._server = server
        self._database = database
        self._stop = threading.Event()
        self.connections = 0
        self.notifications = 0
        jobs = [
            threading.Thread(target=self._visit, args=(random.Random(f"{seed}/{n}"),))
            for n in range(CLIENTS)
        ]
        jobs.append(threading.Thread(target=self._publish, args=(random.Random(seed),)))
        self._threads = jobs
        for thread in jobs:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, chance: random.Random) -> None:
        while not self._stop.is_set():
            with suppress(OSError, WebSocketException, AssertionError):
                client = Client(self._server)
                self.connections += 1
                try:
                    self._behave(client, chance)
                finally:
                    self._leave(client, chance)

    def _behave(self, client: Client, chance: random.Random) -> None:
        until = time.monotonic() + chance.choice((0.0, 0.2, 2.0))
        mine: list[str] = []
        for _ in range(chance.randint(1, 12)):
            kind = chance.choice(("plain", "kept"))
            mine.append(f"{kind}_{chance.randrange(CHANNELS)}")
            client.send("subscribe", channel=mine[-1], resume=chance.random() < 0.3)
            if chance.random() < 0.3:
                client.send("unsubscribe", channel=chance.choice(mine))
        while time.monotonic() < until and not self._stop.is_set():
            with suppress(TimeoutError):
                self.notifications += client.receive(0.1)["type"] == "notification"

    @staticmethod
    def _leave(client: Client, chance: random.Random) -> None:
        if chance.random() < 0.3:  # without a word
            sock = client.socket.socket
            linger = struct.pack("ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.close()
        client.socket.close()

    def _publish(self, chance: random.Random) -> None:
        while not self._stop.is_set():
            with suppress(psycopg2.Error), closing(self._database.connect()) as session:
                with session.cursor() as cursor:
                    while not self._stop.is_set():
                        number = chance.randrange(CHANNELS)
                        size = chance.choice((10, 500, 5000))
                        cursor.execute(
                            "SELECT pg_notify(%s, %s), bridge.publish(%s, %s)",
                            (
                                f"plain_{number}",
                                "x" * size,
                                f"kept_{number}",
                                "y" * size,
                            ),
                        )
                        self._stop.wait(0.005)
            self._stop.wait(0.2)
