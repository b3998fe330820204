"""The Gunicorn worker: gevent-websocket's, with the upgrade left to the view.

What differs from the stock classes, and why, is docs/design.md, "The worker".

Who calls this: Gunicorn. Signals arrive in whichever greenlet runs, so their
handlers only spawn.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

import gevent
from gevent.pywsgi import LoggingLogAdapter, WSGIHandler
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from geventwebsocket.handler import WebSocketHandler
from gunicorn.workers.ggevent import PyWSGIHandler, PyWSGIServer

from bridge import runtime
from bridge.clients.handshake import UPGRADE
from bridge.clients.transport import take_over
from bridge.clients.websocket import CLOSE_TIMEOUT, OnOpen
from bridge.errors import SettingsError
from bridge.settings import Settings

__all__ = ["BridgeWorker"]

IGNORED_SETTINGS = (
    "forwarded_allow_ips",
    "keepalive",
    "limit_request_field_size",
    "limit_request_fields",
    "limit_request_line",
    "max_requests",
    "post_request",
    "pre_request",
    "proxy_protocol",
    "secure_scheme_headers",
)
"""Gunicorn settings that do nothing under a pywsgi worker."""

STOP_MARGIN = CLOSE_TIMEOUT + 1.5
"""Seconds that a stop takes beyond the drain: the last Close frames, and the
worker's loop, which looks once a second."""


class BridgeHandler(PyWSGIHandler, WebSocketHandler):
    """One HTTP connection, until it becomes a WebSocket or ends.

    The order of the bases matters: Gunicorn's handler has its access log and
    environ, gevent-websocket's would hide them.
    """

    socket: Any
    environ: Any
    close_connection: bool
    #: What takes the socket over after the 101; set by the view.
    _on_open: OnOpen | None = None

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

    def read_requestline(self) -> str:
        """Read the next request's first line; a drain ends the wait."""
        self.server.idle.add(self)
        try:
            line: str = super().read_requestline()
            return line
        finally:
            self.server.idle.discard(self)

    def finalize_headers(self) -> None:
        super().finalize_headers()
        if self.server.draining and not self.close_connection:
            self.response_headers.append((b"Connection", b"close"))
            self.close_connection = True

    def handle_one_response(self) -> None:
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Handlers that wait for a request.
        self.idle: set[BridgeHandler] = set()
        self.draining = False

    def start_accepting(self) -> None:
        # The pool calls this whenever a slot becomes free.
        if not self.draining:
            super().start_accepting()

    def drain(self) -> None:
        """Accept nothing more and end the connections that wait for a request."""
        self.draining = True
        self.stop_accepting()
        for handler in list(self.idle):
            try:
                handler.socket.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # The client was first.

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> None:
        """Serve a TLS connection; one that was handed over stays open."""
        tls = self.wrap_socket(client_socket, **self.ssl_args)
        handler = self.handler_class(tls, address, self)
        taken = False
        try:
            handler.handle()
            taken = handler.code == 101
        finally:
            if not taken:
                tls.close()


class BridgeWorker(GeventWebSocketWorker):
    """Gunicorn's worker class for pgbridge."""

    wsgi_handler = BridgeHandler

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._servers: list[BridgeServer] = []
        self._draining = False

    @staticmethod
    def check_config(cfg: Any, log: Any) -> None:
        """Warn, once and in the master, about settings that do nothing or harm."""
        for name in IGNORED_SETTINGS:
            setting = cfg.settings[name]
            if setting.get() != type(setting)().get():
                log.warning("%s does nothing under this worker class", name)
        if cfg.preload_app:
            log.warning("preload_app loads the application before gevent can patch it")
        if cfg.reuse_port:
            log.warning("reuse_port resets connections at each reload")
        try:
            settings, _, warnings = Settings.from_environ(os.environ)
        except SettingsError:
            return  # The application says it better.
        for warning in warnings:
            log.warning(warning)
        needed = settings.drain_window + STOP_MARGIN
        if needed > cfg.graceful_timeout:
            log.warning(
                "graceful_timeout = %s is too short: a full worker's drain takes up "
                "to %g s; raise it or lower BRIDGE_DRAIN_WINDOW",
                cfg.graceful_timeout,
                needed,
            )

    def server_class(self, *args: Any, **kwargs: Any) -> BridgeServer:
        """Make a server; Gunicorn only calls it, so it need not be a class."""
        server = BridgeServer(
            *args, error_log=LoggingLogAdapter(self.log, logging.WARNING), **kwargs
        )
        self._servers.append(server)
        return server

    def load_wsgi(self) -> None:
        """Load the application, then start what belongs to it."""
        self._log_through_gunicorn()
        super().load_wsgi()
        runtime.start_all(
            workers=self.cfg.workers, worker_connections=self.cfg.worker_connections
        )

    def run(self) -> None:
        """Serve until told to stop."""
        try:
            super().run()
        finally:
            runtime.stop_all()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: drain first; the stock worker would just cut everybody off."""
        if not self._draining:
            self._draining = True
            gevent.spawn(self._drain)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT, SIGQUIT: say goodbye to everybody, wait for nobody."""
        gevent.spawn(self._quit, sig, frame)

    def _drain(self) -> None:
        for server in self._servers:
            server.drain()
        try:
            runtime.drain_all()
        finally:
            self.alive = False

    def _quit(self, sig: int, frame: Any) -> None:
        if not self._draining:
            self._draining = True
            runtime.drain_all(hurry=True)
        super().handle_quit(sig, frame)

    def _log_through_gunicorn(self) -> None:
        """Send our log where Gunicorn's goes, unless it was configured."""
        logger = logging.getLogger("bridge")
        if not logger.handlers:
            gunicorn = self.log.error_log
            logger.handlers = list(gunicorn.handlers)
            logger.setLevel(gunicorn.level)
            logger.propagate = gunicorn.propagate
