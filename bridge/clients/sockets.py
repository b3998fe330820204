"""Sockets taken over from the HTTP server, plain or TLS, in non-blocking mode.

A plain socket is used as it is: the standard library's own object, without
gevent's wrapper. (Never the descriptor's number: after a close the kernel
gives it to the next client.)
"""

from __future__ import annotations

import _socket
import ssl
from typing import Any, cast

from gevent.ssl import SSLSocket

from bridge.clients.outlet import ClientSocket

__all__ = ["TlsSocket", "take_over"]


def take_over(sock: Any) -> ClientSocket:
    """Make our own socket of gevent's, which must not be used afterwards."""
    if isinstance(sock, SSLSocket):
        return TlsSocket(sock)
    family, type, proto = sock.family, sock.type, sock.proto
    plain = _socket.socket(family, type, proto, sock.detach())
    plain.setblocking(False)
    return cast(ClientSocket, plain)


class TlsSocket:
    """A TLS connection, written and read without waiting.

    OpenSSL's object is called directly: `send` of gevent's SSL socket waits
    whatever its timeout argument says, and its inner socket would put clear
    text on the wire.
    """

    __slots__ = ("_socket", "_tls")

    def __init__(self, sock: Any) -> None:
        sock.settimeout(0.0)
        self._socket = sock
        self._tls = sock._sslobj

    def send(self, data: bytes | memoryview, /) -> int:
        """Encrypt and hand to the kernel."""
        try:
            return int(self._tls.write(data))
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise BlockingIOError from None

    def recv(self, size: int, /) -> bytes:
        """Take what has arrived."""
        try:
            data: bytes = self._tls.read(size)
            # The rest of a record is inside OpenSSL, where it wakes no watcher.
            while rest := self._tls.pending():
                data += self._tls.read(rest)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        return data

    def fileno(self) -> int:
        """The file descriptor's number."""
        return int(self._socket.fileno())

    def setsockopt(self, level: int, name: int, value: int, /) -> None:
        """Set a socket option."""
        self._socket.setsockopt(level, name, value)

    def shutdown(self, how: int, /) -> None:
        """End one direction of the TCP connection."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
