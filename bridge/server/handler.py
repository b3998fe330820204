"""One HTTP connection: heads, deadlines, and the hand-over of its socket.

gevent's pywsgi has no deadline for a request head or an idle connection, and
accepts heads of any size. What is bounded here, and how a client is told:

    a head not complete in time            408, or closed if it said nothing
    a head of more than 32 KiB or 100 lines    431
    an idle keep-alive connection          closed
    a request that takes a minute in all   closed
    too many requests of one address       they wait, see `admission`

Who calls this: gevent, one greenlet a connection, until a transport takes the
socket over (`bridge.clients.connection`) or it ends.
"""

from __future__ import annotations

import errno
import http.client
import re
import time
from typing import Any

import gevent
from gevent.pywsgi import WSGIHandler
from geventwebsocket.handler import WebSocketHandler
from gunicorn.workers.ggevent import PyWSGIHandler

from bridge.clients.connection import HAND_OVER, OnOpen
from bridge.clients.sockets import take_over
from bridge.server.head import HeadReader, HeadTimeout, HeadTooLarge
from bridge.server.refusals import (
    LINGER,
    TIMED_OUT,
    TOO_LARGE,
    linger,
    too_many_requests,
)

__all__ = ["BridgeHandler"]

KEEP_ALIVE_TIMEOUT = 75.0
"""Seconds that an idle connection is kept; nginx's own default is 60."""

REQUEST_TIMEOUT = 60.0
"""Seconds for a request once its head is there, its body and answer included."""

_ABSOLUTE = re.compile(r"^https?://[^/?#]*", re.IGNORECASE)


class RequestTimeout(OSError):
    """The request took too long; to pywsgi the client is gone."""

    def __init__(self) -> None:
        super().__init__(errno.EPIPE, "the request took too long")


class BridgeHandler(PyWSGIHandler, WebSocketHandler):
    """One HTTP connection, until a transport takes its socket over or it ends.

    The order of the bases matters: Gunicorn's handler has its access log and
    environ, gevent-websocket's would hide them.
    """

    socket: Any
    environ: Any
    application: Any
    close_connection: bool
    path: Any
    #: What takes the socket over, if the answer has this status; set by the view.
    _promised: tuple[int, OnOpen] | None = None
    #: Whether somebody has.
    handed_over = False
    #: A request has been read on this connection.
    served = False
    #: When the head must be complete, monotonic seconds.
    _head_due = 0.0

    def handle(self) -> None:
        """Serve the connection; a client that vanishes is no error."""
        try:
            super().handle()
        except OSError:
            pass

    def handle_one_request(self) -> Any:
        """Serve one request; answer one that is malformed."""
        result = super().handle_one_request()
        if not isinstance(result, tuple):
            return result
        self.status, body = result
        self.server.turnstile.wait()
        with gevent.Timeout(LINGER, OSError):
            self.socket.sendall(body)
            self.log_request()
            linger(self.socket)
        return None

    # The head.

    def read_requestline(self) -> str:
        """Read the next request's first line; a drain ends the wait."""
        timeout = KEEP_ALIVE_TIMEOUT if self.served else self.server.head_timeout
        self._head_due = time.monotonic() + timeout
        self.server.silent[self] = None
        try:
            with gevent.Timeout(timeout, HeadTimeout):
                line: str = super().read_requestline()
        finally:
            self.server.silent.pop(self, None)
        if self.served:
            self._head_due = time.monotonic() + self.server.head_timeout
        self.served = True
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
        environ[HAND_OVER] = self._promise
        return environ

    def _promise(self, status: int, on_open: OnOpen) -> None:
        """Promise the socket to `on_open`, if the answer has this status."""
        self._promised = (status, on_open)

    @property
    def _keeps_promise(self) -> bool:
        # An error, also one while the head was written, changes the code.
        return self._promised is not None and self._promised[0] == self.code

    def finalize_headers(self) -> None:
        super().finalize_headers()
        # A body may be left unread: what follows would be read as a request.
        body = self.content_length or "HTTP_TRANSFER_ENCODING" in self.environ
        if (self.server.draining or body) and not self._keeps_promise:
            if not self.close_connection:
                self.response_headers.append((b"Connection", b"close"))
            self.close_connection = True
            # Makes pywsgi skip the rest of the body.
            self.wsgi_input._chunked_input_error = True

    def handle_one_response(self) -> None:
        if not self.server.admission.wait(self.environ):
            self.application = too_many_requests
        with gevent.Timeout(REQUEST_TIMEOUT, RequestTimeout):
            super().handle_one_response()
        self.environ.pop(HAND_OVER, None)  # it refers to this handler
        if self._promised is not None and self._keeps_promise:
            self._hand_over(self._promised[1])
        self._promised = None

    def _hand_over(self, on_open: OnOpen) -> None:
        """Give the socket up. The handler ends as if it had been closed."""
        self.close_connection = self.handed_over = True
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
