"""The Gunicorn worker: gevent-websocket's, with a life of its own.

What differs from the stock classes, and why, is docs/design.md, "The worker".

Who calls this: Gunicorn. Signals arrive in whichever greenlet runs, so their
handlers only spawn.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import sys
import time
from typing import Any, ClassVar

import gevent
from gevent.pywsgi import LoggingLogAdapter
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from gunicorn.arbiter import Arbiter

from bridge.access.origin import Proxies
from bridge.clients.connection import CLOSE_TIMEOUT
from bridge.operations.reporter import Reporter
from bridge.server import runtime
from bridge.server.admission import Admission
from bridge.server.balance import Table
from bridge.server.handler import BridgeHandler
from bridge.server.http_server import SPARE_SLOTS, BridgeServer
from bridge.server.run_folder import RunFolder
from bridge.values.errors import SettingsError
from bridge.values.settings import Settings

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

SPARE_FILES = 200
"""Open files beside clients: listening sockets, PostgreSQL, logs, libraries."""

REFUSE_INTERVAL = 0.1
"""Seconds between two looks for connections during a drain."""

MIDDLE_COLLECTIONS = 1000
"""Garbage collections of the middle generation to one of the oldest; Python's
default is 10."""

STOP_MARGIN = CLOSE_TIMEOUT + 1.5
"""Seconds that a stop takes beyond the drain: the last Close frames, and the
worker's loop, which looks once a second."""


class BridgeWorker(GeventWebSocketWorker):
    """Gunicorn's worker class for pgbridge."""

    wsgi_handler = BridgeHandler

    #: How many connections each worker has; made in the master by the first.
    _table: ClassVar[Table | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What is beyond the limit is used to refuse, see `BridgeServer`.
        self.worker_connections = self.cfg.worker_connections + SPARE_SLOTS
        self._servers: list[BridgeServer] = []
        self._reporters: list[Reporter] = []
        self._draining = False
        # This runs in the master, before the fork: the memory is shared.
        if BridgeWorker._table is None:
            BridgeWorker._table = Table(time.monotonic)
        self._row = BridgeWorker._table.row(self.age)

    @staticmethod
    def check_config(cfg: Any, log: Any) -> None:
        """Warn, once and in the master, about settings that do nothing or harm."""
        for name in IGNORED_SETTINGS:
            setting = cfg.settings[name]
            if setting.get() != type(setting)().get():
                log.warning("%s does nothing under this worker class", name)
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
        _raise_file_limit(cfg.worker_connections + SPARE_SLOTS + SPARE_FILES, log)

    def server_class(self, *args: Any, **kwargs: Any) -> BridgeServer:
        """Make a server; Gunicorn only calls it, so it need not be a class."""
        settings, _, _ = Settings.from_environ(os.environ)
        server = BridgeServer(
            *args,
            error_log=LoggingLogAdapter(self.log, logging.WARNING),
            max_connections=self.cfg.worker_connections,
            clients=runtime.open_connections,
            should_wait=self._row.should_wait,
            head_timeout=settings.handshake_timeout,
            admission=Admission(
                runtime.request_rate(settings),
                Proxies(settings.trusted_proxies).client_address,
            ),
            **kwargs,
        )
        self._servers.append(server)
        return server

    def load_wsgi(self) -> None:
        """Load the application, then start what belongs to it."""
        self._log_through_gunicorn()
        try:
            super().load_wsgi()
            _tame_garbage_collector()
            self._start_runtimes()
        except SettingsError as exc:
            # `bridge.hooks.server.on_starting` says it in the master, and earlier.
            for problem in exc.problems:
                self.log.error("pgbridge: %s", problem)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def _start_runtimes(self) -> None:
        runtime.start_all(
            workers=self.cfg.workers, worker_connections=self.cfg.worker_connections
        )
        for one in runtime.created():
            reporter = Reporter(one, RunFolder(one.settings.run_folder))
            reporter.start()
            self._reporters.append(reporter)

    def notify(self) -> None:
        """Give a sign of life, to the master and to the other workers."""
        super().notify()
        if not self._draining:
            self._row.update(sum(server.connections for server in self._servers))

    def run(self) -> None:
        """Serve until told to stop."""
        try:
            super().run()
        finally:
            runtime.stop_all()
            for reporter in self._reporters:
                reporter.stop()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: drain first; the stock worker would just cut everybody off."""
        if not self._draining:
            self._draining = True
            gevent.spawn(self._drain)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGINT, SIGQUIT: say goodbye to everybody, wait for nobody."""
        gevent.spawn(self._quit, sig, frame)

    def _drain(self) -> None:
        self._row.leave()
        for server in self._servers:
            server.drain()
        refusing = gevent.spawn(self._refuse_while_alone)
        try:
            runtime.drain_all()
        finally:
            refusing.kill()
            self.alive = False

    def _refuse_while_alone(self) -> None:
        """A health check must not hang because nobody else would answer it."""
        while True:
            if self._row.is_alone:
                for server in self._servers:
                    server.refuse_waiting()
            gevent.sleep(REFUSE_INTERVAL)

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


def _tame_garbage_collector() -> None:
    """Have it look through everything once in a while, not again and again.

    With thousands of connections that stops every client for 50 to 100 ms, and
    a crowd that comes and goes made it happen every second. What a request
    leaves in cycles is young, and found by the collections that are cheap.
    """
    gc.collect()
    gc.freeze()  # nothing that is loaded by now will be garbage
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, MIDDLE_COLLECTIONS)


def _raise_file_limit(needed: int, log: Any) -> None:
    """Raise the limit of open files for the workers to come, or refuse to start.

    A worker that runs out of files fails to accept, again and again, and
    cannot reach PostgreSQL either.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        log.error(
            "a worker may need %d open files, the limit is %d: raise it "
            "(LimitNOFILE, ulimit -n) or lower worker_connections",
            needed,
            hard,
        )
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
