"""A page's connection: raw, with a receive buffer as small as can be."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence

from support.gunicorn import Gunicorn
from support.raw import HANDSHAKE, PONG, cut_frames

__all__ = ["Link"]

RECEIVE_BUFFER = 4096
"""Bytes, set before the connect: afterwards the window is already open."""

TIMEOUT = 10.0
"""Seconds for the handshake and for a send."""

POLL = 0.02
"""Seconds that a read waits for something to arrive."""


class Link:
    """One WebSocket.

    Raises:
        OSError: it cannot be opened; later: it is over.
    """

    def __init__(
        self,
        server: Gunicorn,
        tls: ssl.SSLContext | None,
        *,
        receive_buffer: int | None = RECEIVE_BUFFER,
    ) -> None:
        sock = socket.socket()
        self._socket = sock
        self._rest = b""
        try:
            sock.settimeout(TIMEOUT)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.connect(("127.0.0.1", server.port))
            if tls is not None:
                self._socket = sock = tls.wrap_socket(sock)
            sock.sendall(HANDSHAKE.format(path="/ws").encode())
            head = b""
            while b"\r\n\r\n" not in head:
                data = sock.recv(1)
                if not data:
                    raise ConnectionError("closed in the handshake")
                head += data
            if not head.startswith(b"HTTP/1.1 101 "):
                raise ConnectionError(head.decode(errors="replace"))
        except BaseException:
            self._socket.close()
            raise

    def send(self, frames: bytes) -> None:
        self._socket.settimeout(TIMEOUT)
        self._socket.sendall(frames)

    def show_life(self) -> None:
        """Let the server hear something, as it must from who does not read."""
        self.send(PONG)

    def read(self, size: int) -> Sequence[bytes]:
        """Read at most so many bytes; returns the messages that are whole now.

        Raises:
            OSError: the connection is over.
        """
        self._socket.settimeout(POLL)
        try:
            data = self._socket.recv(size)
        except TimeoutError:
            return ()
        if not data:
            raise ConnectionError("closed")
        frames, self._rest = cut_frames(self._rest + data)
        messages = []
        for opcode, payload in frames:
            if opcode == 0x9:
                self.send(PONG)
            elif opcode == 0x1:
                messages.append(payload)
        return messages

    def vanish(self, *, reset: bool) -> None:
        """End it without a word.

        Args:
            reset: with an RST in place of a FIN.
        """
        if reset:
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()
