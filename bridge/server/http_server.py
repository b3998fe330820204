"""The listening socket's side of HTTP: who is let in, and who makes room.

    a TLS handshake not finished in time   closed
    as many connections as there is room   the longest silent one is closed,
                                           or, if none is silent, 503
    another worker has fewer               it may take the next one

Who calls this: gevent's event loop, for each connection that comes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

import gevent
from gevent.server import StreamServer
from gunicorn.workers.ggevent import PyWSGIServer

from bridge.server.admission import Admission
from bridge.server.handler import BridgeHandler
from bridge.server.head import MAX_HEAD_BYTES
from bridge.server.refusals import FULL, LINGER, linger
from bridge.server.turnstile import Turnstile

__all__ = ["SPARE_SLOTS", "BridgeServer"]

SPARE_SLOTS = 32
"""Room in the pool beyond worker_connections, to refuse in."""

FIRST_REQUEST = 1.0
"""Seconds that a drain leaves to a connection that has just been made: on a busy
machine its request may come later than the drain."""

GIVE_WAY = 0.004
"""Seconds that a connection is left to a worker that has fewer."""


class BridgeServer(PyWSGIServer):
    """The HTTP server on one listening socket."""

    #: Connections taken in one turn of the event loop: gevent's 100 take as
    #: long as writing to a thousand subscribers.
    max_accept = 8

    def __init__(
        self,
        *args: Any,
        max_connections: int,
        clients: Callable[[], int],
        should_wait: Callable[[int], bool],
        head_timeout: float,
        admission: Admission,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        #: Connections that may be open in all: Gunicorn's worker_connections.
        self._max_connections = max_connections
        #: How many of them a transport has taken over: they have left the pool.
        self._clients = clients
        #: Whether another worker has fewer connections than so many.
        self._should_wait = should_wait
        #: The others had their chance to take the next connection.
        self._waited = False
        #: Seconds for the head of a connection's first request, and for TLS.
        self.head_timeout = head_timeout
        #: Connections that handlers serve. (The pool counts one for a moment
        #: longer, when its socket is handed over already.)
        self._serving = 0
        #: Handlers that wait for a request, the longest waiting first.
        self.silent: dict[BridgeHandler, None] = {}
        #: Lets the requests of one address in at a pace.
        self.admission = admission
        #: Lets all requests in, so that fan-out goes before them.
        self.turnstile = Turnstile()
        self.draining = False

    def start_accepting(self) -> None:
        # The pool calls this whenever a slot becomes free.
        if not self.draining:
            super().start_accepting()

    @property
    def connections(self) -> int:
        """How many connections are open, clients included."""
        return self._serving + self._clients()

    def do_read(self) -> Any:
        """Accept, or leave the connection to a worker that has fewer.

        Only for a moment: then it is taken, whoever has how many.
        """
        if not self._waited and self._should_wait(self.connections):
            self.stop_accepting()
            self._timer = self.loop.timer(GIVE_WAY)
            self._timer.start(self._accept_now)
            return None
        self._waited = False
        return super().do_read()

    def _accept_now(self) -> None:
        self._waited = True
        self.start_accepting()

    def do_handle(self, sock: Any, address: Any) -> None:
        """Serve a new connection, or make room for it, or refuse it.

        The pool has `SPARE_SLOTS` more than worker_connections, so it is never
        full, and no client, a health check least of all, hangs in the backlog.
        """
        full = self.connections >= self._max_connections
        if full and not self._close_silent():
            if self.ssl_enabled:
                sock.close()
            elif self.pool.free_count() <= 1:
                self._turn_away(sock)
            else:
                self.pool.spawn(self._refuse, sock)
            return
        self._serving += 1
        super().do_handle(sock, address)

    def do_close(self, sock: Any, *args: Any) -> None:
        """A handler has ended; gevent's hook, called once for each."""
        self._serving -= 1
        super().do_close(sock, *args)

    def refuse_waiting(self) -> None:
        """Take what has come during a drain: the application answers 503."""
        while accepted := StreamServer.do_read(self):
            self.do_handle(*accepted)

    def drain(self) -> None:
        """Accept nothing more and end the connections that wait for a request.

        Whose first request is still on its way is given a moment.
        """
        self.draining = True
        self.admission.end()
        self.stop_accepting()
        self._close_all_silent(new=False)
        gevent.spawn_later(FIRST_REQUEST, self._close_all_silent)

    def _close_all_silent(self, new: bool = True) -> None:
        while self._close_silent(new):
            pass

    def _close_silent(self, new: bool = True) -> bool:
        """Close the connection that has been silent for longest.

        Args:
            new: also one that has never sent a request.
        """
        for handler in self.silent:
            if (new or handler.served) and not _has_spoken(handler.socket):
                break
        else:
            return False
        del self.silent[handler]
        try:
            handler.socket.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # The client was first.
        return True

    @staticmethod
    def _refuse(sock: Any) -> None:
        """Answer 503, and wait a moment so that no reset overtakes it."""
        try:
            with sock, gevent.Timeout(LINGER, OSError):
                sock.sendall(FULL)
                linger(sock)
        except OSError:
            pass

    @staticmethod
    def _turn_away(sock: Any) -> None:
        """Answer 503 without waiting; what has not come yet meets a reset."""
        # The socket inside gevent's, which would wait.
        with sock, contextlib.suppress(OSError):
            with contextlib.suppress(BlockingIOError):
                sock._sock.recv(MAX_HEAD_BYTES)
            sock._sock.send(FULL)

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> None:
        """Serve a TLS connection; one that was handed over stays open."""
        try:
            # An OSError, for only then gevent closes the socket.
            with gevent.Timeout(self.head_timeout, ssl.SSLError):
                tls = self.wrap_socket(client_socket, **self.ssl_args)
        except OSError:
            return  # A port scan, or a client that does not trust us.
        handler = self.handler_class(tls, address, self)
        try:
            handler.handle()
        finally:
            if not handler.handed_over:
                tls.close()


def _has_spoken(sock: Any) -> bool:
    """Tell whether a request has arrived that nobody has read yet."""
    try:
        # The socket inside gevent's, which would wait.
        return bool(sock._sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
