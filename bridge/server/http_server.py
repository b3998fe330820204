"""The HTTP side of a connection: heads, deadlines, and the hand-over.

gevent's pywsgi has no deadline for a request head or an idle connection, and
believes in large heads. What is bounded here, and how a client is told:

    a head not complete in time            408, or closed if it said nothing
    a head of more than 32 KiB or 100 lines    431
    an idle keep-alive connection          closed
    a request that takes a minute in all   closed
    too many requests of one address       they wait, see `admission`
    a TLS handshake not finished in time   closed
    as many connections as there is room   the longest silent one is closed,
                                           or, if none is silent, 503

Who calls this: gevent, one greenlet a connection, until it becomes a
WebSocket (`bridge.clients.websocket`) or ends.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.pywsgi import WSGIHandler
from gevent.server import StreamServer
from geventwebsocket.handler import WebSocketHandler
from gunicorn.workers.ggevent import PyWSGIHandler, PyWSGIServer

from bridge.clients.handshake import UPGRADE
from bridge.clients.transport import take_over
from bridge.clients.websocket import OnOpen
from bridge.server.admission import Admission
from bridge.server.head import (
    MAX_HEAD_BYTES,
    HeadReader,
    HeadTimeout,
    HeadTooLarge,
)
from bridge.server.refusals import FULL, TIMED_OUT, TOO_LARGE, too_many_requests
from bridge.server.turnstile import Turnstile

__all__ = ["SPARE_SLOTS", "BridgeHandler", "BridgeServer"]

KEEP_ALIVE_TIMEOUT = 75.0
"""Seconds that an idle connection is kept; nginx's own default is 60."""

REQUEST_TIMEOUT = 60.0
"""Seconds for a request once its head is there, its body and answer included."""

SPARE_SLOTS = 32
"""Room in the pool beyond worker_connections, to refuse in."""

GIVE_WAY = 0.004
"""Seconds that a connection is left to a worker that has fewer."""

LINGER = 2.0
"""Seconds that a refused client has to read why."""

_ABSOLUTE = re.compile(r"^https?://[^/?#]*", re.IGNORECASE)


def _drain(sock: Any) -> None:
    """End our direction and read until the peer ends its own.

    Closing a socket with unread bytes in it sends a reset, which would
    overtake what was written.
    """
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(65536):
        pass


def _has_spoken(sock: Any) -> bool:
    """Tell whether a request has arrived that nobody has read yet."""
    try:
        # The socket inside gevent's, which would wait.
        return bool(sock._sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


class RequestTimeout(OSError):
    """The request took too long; to pywsgi the client is gone."""

    def __init__(self) -> None:
        super().__init__(errno.EPIPE, "the request took too long")


class BridgeHandler(PyWSGIHandler, WebSocketHandler):
    """One HTTP connection, until it becomes a WebSocket or ends.

    The order of the bases matters: Gunicorn's handler has its access log and
    environ, gevent-websocket's would hide them.
    """

    socket: Any
    environ: Any
    application: Any
    close_connection: bool
    path: Any
    #: What takes the socket over after the 101; set by the view.
    _on_open: OnOpen | None = None
    #: A request has been read on this connection.
    _served = False
    #: When the head must be complete, monotonic seconds.
    _head_due = 0.0

    def handle(self) -> None:
        """Serve the connection; a client that vanishes is no error."""
        try:
            super().handle()
        except OSError:
            pass

    def handle_one_request(self) -> Any:
        """Serve one request; tell what was wrong with one that is none."""
        result = super().handle_one_request()
        if not isinstance(result, tuple):
            return result
        self.status, body = result
        self.server.turnstile.wait()
        with gevent.Timeout(LINGER, OSError):
            self.socket.sendall(body)
            self.log_request()
            _drain(self.socket)
        return None

    # The head.

    def read_requestline(self) -> str:
        """Read the next request's first line; a drain ends the wait."""
        timeout = KEEP_ALIVE_TIMEOUT if self._served else self.server.head_timeout
        self._head_due = time.monotonic() + timeout
        self.server.silent[self] = None
        try:
            with gevent.Timeout(timeout, HeadTimeout):
                line: str = super().read_requestline()
        finally:
            self.server.silent.pop(self, None)
        if self._served:
            self._head_due = time.monotonic() + self.server.head_timeout
        self._served = True
        return line

    def read_request(self, raw_requestline: str) -> bool:
        """Read the rest of the head, for as long as it may take."""
        if not raw_requestline.isascii():
            raise ValueError("the address is not ASCII")
        left = max(0.001, self._head_due - time.monotonic())
        with gevent.Timeout(left, HeadTimeout):
            self.server.turnstile.wait()
            super().read_request(raw_requestline)
        hosts = self.headers.get_all("host", [])
        if len(hosts) > 1 or (not hosts and self.request_version == "HTTP/1.1"):
            raise ValueError("there must be one Host")
        if len(set(self.headers.get_all("content-length", []))) > 1:
            raise ValueError("two lengths differ")
        # RFC 9112, 3.2.2: an address may have its scheme and host in front.
        self.path = _ABSOLUTE.sub("", self.path, count=1) or "/"
        return True

    def MessageClass(self, file: Any, *args: Any) -> Any:
        """Parse the header lines; pywsgi's hook."""
        return super().MessageClass(HeadReader(file), *args)

    def _handle_client_error(self, ex: BaseException) -> tuple[str, bytes]:
        if isinstance(ex, HeadTimeout):
            return "408", TIMED_OUT
        if isinstance(ex, (HeadTooLarge, http.client.HTTPException)):
            return "431", TOO_LARGE
        if isinstance(ex, OSError):
            raise ex  # The client is gone; there is nobody to answer.
        if not isinstance(ex, ValueError):
            # "HTTP/1" for one: pywsgi trips over it and would print where.
            ex = ValueError(f"the head cannot be read ({type(ex).__name__})")
        answer: tuple[str, bytes] = super()._handle_client_error(ex)
        return answer

    # The request.

    def run_application(self) -> None:
        """Run the application first: it answers an upgrade like any request.

        gevent-websocket would write the 101 before any view could refuse.
        """
        WSGIHandler.run_application(self)

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        if "HTTP_UPGRADE" in environ:
            environ[UPGRADE] = self._upgrade
        return environ

    def _upgrade(self, on_open: OnOpen) -> None:
        self._on_open = on_open

    def finalize_headers(self) -> None:
        super().finalize_headers()
        # A body may be left unread: what follows would be read as a request.
        body = self.content_length or "HTTP_TRANSFER_ENCODING" in self.environ
        if (self.server.draining or body) and self.code != 101:
            if not self.close_connection:
                self.response_headers.append((b"Connection", b"close"))
            self.close_connection = True
            # Its other use: pywsgi then does not read what is left of the body.
            self.wsgi_input._chunked_input_error = True

    def handle_one_response(self) -> None:
        if not self.server.admission.wait(self.environ):
            self.application = too_many_requests
        with gevent.Timeout(REQUEST_TIMEOUT, RequestTimeout):
            super().handle_one_response()
        self.environ.pop(UPGRADE, None)  # it refers to this handler
        on_open, self._on_open = self._on_open, None
        # An error, also one while the 101 was written, changes the code.
        if on_open is not None and self.code == 101:
            self._hand_over(on_open)

    def _hand_over(self, on_open: OnOpen) -> None:
        """Give the socket up. The handler ends as if it had been closed."""
        self.close_connection = True
        sock, self.socket = self.socket, None
        sock.settimeout(0.0)
        try:
            early = self.rfile.read1(65536)
        except OSError:
            early = b""
        self.rfile.close()
        self.environ = None
        on_open(take_over(sock), early or b"")

    def log_request(self) -> None:
        # Gunicorn's access log cannot write a request that was not understood.
        if self.environ is not None:
            super().log_request()


class BridgeServer(PyWSGIServer):
    """The HTTP server on one listening socket."""

    #: Connections taken in one turn of the event loop: gevent's 100 take as
    #: long as writing to a thousand subscribers.
    max_accept = 8

    def __init__(
        self,
        *args: Any,
        max_connections: int,
        websockets: Callable[[], int],
        should_wait: Callable[[int], bool],
        head_timeout: float,
        admission: Admission,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        #: Connections that may be open in all: Gunicorn's worker_connections.
        self._max_connections = max_connections
        #: How many of them have become WebSockets and left the pool.
        self._websockets = websockets
        #: Whether another worker has fewer connections than so many.
        self._should_wait = should_wait
        #: The others had their chance to take the next connection.
        self._waited = False
        #: Seconds for the head of a connection's first request, and for TLS.
        self.head_timeout = head_timeout
        #: Connections that handlers serve. (The pool counts one for a moment
        #: longer, when its socket is a WebSocket's already.)
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
        """How many connections are open, WebSockets included."""
        return self._serving + self._websockets()

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
        """Accept nothing more and end the connections that wait for a request."""
        self.draining = True
        self.admission.end()
        self.stop_accepting()
        while self._close_silent():
            pass

    def _close_silent(self) -> bool:
        """Close the connection that has been silent for longest."""
        for handler in self.silent:
            if not _has_spoken(handler.socket):
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
                _drain(sock)
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
            if handler.code != 101:
                tls.close()
