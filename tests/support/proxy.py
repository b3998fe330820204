"""A TCP proxy in front of PostgreSQL that can cut, stall and refuse."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading


class Proxy:
    """Forwards one port of 127.0.0.1 to another.

    Args:
        receive_buffer: bytes that the kernel takes from the target before they
            are passed on; None: what it sees fit.
    """

    def __init__(self, target_port: int, receive_buffer: int | None = None) -> None:
        self._target = target_port
        self._receive_buffer = receive_buffer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Pass nothing on, both ways, without a reset."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on again, what was held back first."""
        self._flowing.set()

    def refuse(self, refusing: bool = True) -> None:
        """Close new connections at once."""
        self._refusing = refusing

    def reset(self) -> None:
        """End every connection with an RST, as a firewall does."""
        for pair in self._pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    # Its thread reads the end, and closes.
                    sock.shutdown(socket.SHUT_RD)
        self._pairs.clear()

    def cut(self) -> None:
        """End every connection."""
        for pair in self._pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        self._closed = True
        self._flowing.set()
        # A shutdown wakes the accept; a close alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            self._pairs.append((client, server))
            threading.Thread(
                target=self._forward, args=(client, server), daemon=True
            ).start()

    def _connect(self) -> socket.socket:
        sock = socket.socket()
        if self._receive_buffer is not None:
            size = self._receive_buffer
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        try:
            sock.connect(("127.0.0.1", self._target))
        except OSError:
            sock.close()
            raise
        return sock

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        with client, server, contextlib.suppress(OSError, ValueError):
            while True:
                for sock in select.select([client, server], [], [])[0]:
                    data = sock.recv(65536)
                    self._flowing.wait()
                    if not data:
                        return
                    other[sock].sendall(data)
