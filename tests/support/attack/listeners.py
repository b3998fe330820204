"""Many who only listen: so many that a batch is written in slices."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from support.gunicorn import Gunicorn
from support.raw import PONG, raw_websocket

__all__ = ["Listeners"]

SIGN_OF_LIFE = 0.5
"""Seconds between two pongs of each: the bridge's heartbeats are a second apart."""


class Listeners:
    """A thread that reads and forgets, until `stop`. Who is closed stays away."""

    def __init__(self, server: Gunicorn, channels: Sequence[str], count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets: set[socket.socket] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._new: list[socket.socket] = []
        self._thread.start()
        query = "&".join(f"channel={channel}" for channel in channels)
        for _ in range(count):
            # Taken over at once: the heartbeats have begun.
            self._new.append(raw_websocket(server, f"/ws?{query}"))

    def stop(self) -> None:
        """Safe to call twice."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = 0.0
        while not self._stop.is_set():
            while self._new:
                self._take(self._new.pop())
            for key, _ in self._selector.select(0.05):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                self._read(sock)
            if time.monotonic() > due:
                due = time.monotonic() + SIGN_OF_LIFE
                for sock in self._sockets:
                    with suppress(OSError):
                        sock.send(PONG)
        for sock in [*self._sockets, *self._new]:
            sock.close()
        self._selector.close()

    def _take(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ)
        self._sockets.add(sock)

    def _read(self, sock: socket.socket) -> None:
        try:
            if sock.recv(1 << 20):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._selector.unregister(sock)
        self._sockets.discard(sock)
        sock.close()
