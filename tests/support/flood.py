"""Clients that send more than anybody can read."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Sequence

from support.gunicorn import Gunicorn
from support.raw import HANDSHAKE, cut_frames, text_frame
from support.tls import context

__all__ = [
    "CLOSE",
    "CONTROL",
    "PING",
    "PINGS",
    "PONG",
    "SUBSCRIBES",
    "FloodSocket",
    "Flooder",
    "control_frame",
]

CLOSE, PING, PONG = 0x8, 0x9, 0xA

_BLOCK_BYTES = 64 * 1024


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """Write a client's control frame, masked with nothing."""
    return bytes((0x80 | opcode, 0x80 | len(payload))) + b"\0\0\0\0" + payload


PINGS = text_frame({"type": "ping"})
SUBSCRIBES = text_frame({"type": "subscribe", "channel": "flood"}) + text_frame(
    {"type": "unsubscribe", "channel": "flood"}
)
CONTROL = control_frame(PING) + control_frame(PONG)


class FloodSocket:
    """A WebSocket, plain or TLS, that takes the server's frames apart."""

    def __init__(
        self, server: Gunicorn, path: str = "/ws", *, tls: bool = False
    ) -> None:
        self.socket: socket.socket = server.connect()
        if tls:
            self.socket = context().wrap_socket(self.socket)
        self.socket.sendall(HANDSHAKE.format(path=path).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        self._rest = b""

    def __enter__(self) -> FloodSocket:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def frames(self) -> list[tuple[int, bytes]]:
        """Return the next (opcode, payload), at least one.

        Raises:
            ConnectionError: the server has ended the connection.
        """
        while True:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the server has ended the connection")
            found, self._rest = cut_frames(self._rest + data)
            if found:
                return found

    def vanish(self) -> None:
        """End without a word, with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


class Flooder:
    """Sends the same again and again, as fast as it is taken; a thread.

    It reads what it is answered, so nothing piles up for it.
    """

    def __init__(self, flood: FloodSocket, messages: bytes) -> None:
        self._flood = flood
        self._block = messages * (_BLOCK_BYTES // len(messages))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        #: Bytes that the kernel took.
        self.sent_bytes = 0
        #: The opcodes of what came.
        self.opcodes: list[int] = []
        #: Why it ended before it was told to; None: it did not.
        self.error: OSError | None = None

    def __enter__(self) -> Flooder:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()
        self._flood.socket.close()

    def _run(self) -> None:
        sock = self._flood.socket
        sock.setblocking(False)
        rest = self._block
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            try:
                while not self._stop.is_set():
                    selector.select(0.1)
                    with contextlib.suppress(*_LATER):
                        self.opcodes += [opcode for opcode, _ in self._flood.frames()]
                    with contextlib.suppress(*_LATER):
                        sent = sock.send(rest)
                        self.sent_bytes += sent
                        rest = rest[sent:] or self._block
            except OSError as exc:
                self.error = exc


_LATER: Sequence[type[OSError]] = (
    BlockingIOError,
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
)
