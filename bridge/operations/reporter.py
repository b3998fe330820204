"""Says what a worker does: its numbers once a second, its clients when asked.

Who calls this: the worker; whoever asks for clients is a process of the same
user, since the folder is closed to others.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from typing import Any

import gevent
from gevent import socket
from gevent.server import StreamServer

from bridge.operations.metrics import numbers
from bridge.server.run_folder import RunFolder
from bridge.server.runtime import Runtime

__all__ = ["Reporter"]

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two times that the numbers are left."""

ANSWER_TIMEOUT = 10.0
"""Seconds that one who asks may take to read."""


class Reporter:
    """Leaves what it knows of a runtime in the run folder."""

    def __init__(self, runtime: Runtime, folder: RunFolder) -> None:
        self._runtime = runtime
        self._folder = folder
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self._server: Any = None

    def start(self) -> None:
        """Start writing and answering."""
        self._folder.tidy()
        path = self._folder.socket_path(os.getppid(), os.getpid())
        with suppress(OSError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        self._server = StreamServer(listener, self._answer)
        self._server.start()
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Write the last numbers, and stop."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._server.close()
            self._write()

    def _run(self) -> None:
        while True:
            self._write()
            gevent.sleep(INTERVAL)

    def _write(self) -> None:
        try:
            self._folder.write(os.getppid(), os.getpid(), numbers(self._runtime))
        except OSError as exc:
            log.warning(
                "cannot write to the run folder: %s",
                exc,
                extra={"action": "run_folder"},
            )

    def _answer(self, sock: Any, address: object) -> None:
        with suppress(OSError), gevent.Timeout(ANSWER_TIMEOUT, OSError):
            for connection in self._runtime.connections or ():
                line = json.dumps(connection.describe(), ensure_ascii=False)
                sock.sendall(line.encode(errors="replace") + b"\n")
