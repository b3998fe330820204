"""A crowd at the door: silent, garbage, in a hurry; and those who came to listen."""

from __future__ import annotations

import contextlib
import json
import random
import selectors
import socket
import threading
import time
from contextlib import closing

from support.gunicorn import Gunicorn
from support.postgres import Database
from support.raw import HANDSHAKE, PONG, cut_frames, raw_websocket


class Audience:
    """Subscribers of one channel that note what they got, and when."""

    def __init__(self, server: Gunicorn, channel: str, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._rests: dict[socket.socket, bytes] = {}
        #: For each of them the numbers that arrived.
        self.numbers: dict[socket.socket, list[int]] = {}
        #: Seconds from the moment before the publish to the receive.
        self.latencies: list[float] = []
        #: How many were closed.
        self.closed = 0
        for _ in range(count):
            sock = raw_websocket(server, f"/ws?channel={channel}")
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
            self._rests[sock], self.numbers[sock] = b"", []

    def read_until(self, last: int, timeout: float) -> bool:
        """Read until everybody has `last`, or the time is over."""
        until = time.monotonic() + timeout
        waiting = {s for s, n in self.numbers.items() if not n or n[-1] != last}
        while waiting and time.monotonic() < until:
            for key, _ in self._selector.select(0.1):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if self._read(sock) and self.numbers[sock][-1:] == [last]:
                    waiting.discard(sock)
        return not waiting

    def _read(self, sock: socket.socket) -> bool:
        try:
            data = sock.recv(262144)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.closed += 1
            self._selector.unregister(sock)
            return False
        now = time.time()
        frames, self._rests[sock] = cut_frames(self._rests[sock] + data)
        for opcode, payload in frames:
            if opcode == 0x9:
                sock.send(PONG)
            elif b'"notification"' in payload:
                message = json.loads(payload)["data"]
                self.numbers[sock].append(message["n"])
                self.latencies.append(now - message["t"])
        return True

    def close(self) -> None:
        for sock in self.numbers:
            sock.close()
        self._selector.close()


class Crowd:
    """Peers that mean no good; threads, until `stop`."""

    def __init__(self, server: Gunicorn, seed: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._silent: list[socket.socket] = []
        #: What they did.
        self.connects = 0
        self.garbage_bytes = 0

    def be_silent(self, count: int) -> None:
        """Connect and say nothing; come back when closed."""

        def run() -> None:
            while not self._stop.wait(0.05):
                self._silent = [sock for sock in self._silent if not _ended(sock)]
                while len(self._silent) < count and not self._stop.is_set():
                    with contextlib.suppress(OSError):
                        self._silent.append(self._server.connect())
                        self.connects += 1

        self._start(run)

    def send_garbage(self, count: int) -> None:
        """Send bytes that are nothing, half of them after a good handshake."""
        rounds = self._random.randbytes(count * 64)

        def run() -> None:
            number = 0
            while not self._stop.is_set():
                socks = []
                for index in range(count):
                    with contextlib.suppress(OSError):
                        sock = self._server.connect()
                        sock.settimeout(0.5)
                        if index % 2:
                            sock.sendall(HANDSHAKE.format(path="/ws").encode())
                        part = rounds[index * 64 : (index + 1) * 64]
                        sock.sendall(part + bytes((number & 255,)))
                        self.garbage_bytes += 65
                        socks.append(sock)
                number += 1
                self._stop.wait(0.5)
                for sock in socks:
                    sock.close()

        self._start(run)

    def come_and_go(self, count: int) -> None:
        """Shake hands and leave as fast as can be."""

        def run() -> None:
            while not self._stop.is_set():
                socks = []
                for _ in range(count):
                    with contextlib.suppress(OSError):
                        sock = self._server.connect()
                        sock.sendall(HANDSHAKE.format(path="/ws?channel=x").encode())
                        self.connects += 1
                        socks.append(sock)
                for sock in socks:
                    sock.close()

        self._start(run)

    def _start(self, run: object) -> None:
        thread = threading.Thread(target=run)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for sock in self._silent:
            sock.close()


def _ended(sock: socket.socket) -> bool:
    try:
        sock.setblocking(False)
        ended = sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        ended = True
    if ended:
        sock.close()
    return ended


def publish(
    database: Database, channel: str, count: int, per_second: float, first: int = 0
) -> None:
    """Publish numbered notifications at a pace."""
    with closing(database.connect()) as writer, writer.cursor() as cursor:
        began = time.monotonic()
        for number in range(count):
            payload = json.dumps({"n": first + number, "t": time.time()})
            cursor.execute("SELECT pg_notify(%s, %s)", (channel, payload))
            pause = began + (number + 1) / per_second - time.monotonic()
            time.sleep(max(0.0, pause))
