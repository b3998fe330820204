"""Subscribers that come back with their cursor, whatever happens."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from typing import Any

from support.client import Client
from support.gunicorn import Gunicorn
from websockets.exceptions import WebSocketException

from bridge.values.cursor import parse_cursor


class Reader:
    """A page that keeps the cursor of the last event it handled.

    Attributes:
        events: position and payload of each, in the order they came.
        told: messages that should not come: gaps and errors.
    """

    def __init__(self, server: Gunicorn, channel: str, seed: str) -> None:
        self.channel = channel
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.told: list[dict[str, Any]] = []
        self.connections = 0
        self._server = server
        self._chance = random.Random(seed)
        self._cursor: str | None = None
        self._stop = threading.Event()
        self.subscribed = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError, WebSocketException, AssertionError):
                with Client(self._server) as client:
                    self.connections += 1
                    self._read(client)
            self._stop.wait(0.05)

    def _read(self, client: Client) -> None:
        fields = {} if self._cursor is None else {"cursor": self._cursor}
        client.send("subscribe", channel=self.channel, **fields)
        # Some stay for long, some are always on the move.
        left = self._chance.choice((5, 50, 5000))
        while left and not self._stop.is_set():
            try:
                message = client.receive(timeout=0.5)
            except TimeoutError:
                continue
            kind = message["type"]
            if kind == "notification":
                self._cursor = message["cursor"]
                position = parse_cursor(message["cursor"]).position
                self.events.append((position, message["data"]))
                left -= 1
            elif kind == "subscribed":
                if self._cursor is None:
                    self._cursor = message["cursor"]
                elif not message["resumed"]:
                    self.told.append(message)
                self.subscribed.set()
            elif kind == "gap" or (kind == "error" and "retry_delay" not in message):
                self.told.append(message)
            elif kind in ("bye", "error"):
                return
