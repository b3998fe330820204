"""Gunicorn's configuration for pgbridge, as the wheel ships it.

    gunicorn -c python:bridge.hooks.gunicorn_conf 'bridge.app:create_app()'

`pgbridge serve` uses it. Options on the command line win over this file, and
so does everything that a configuration of your own sets after importing it.
"""

from __future__ import annotations

import os

from bridge.hooks.server import child_exit as child_exit
from bridge.hooks.server import on_starting as on_starting
from bridge.hooks.server import when_ready as when_ready
from bridge.hooks.server import worker_abort as worker_abort

bind = ["127.0.0.1:8001"]
workers = int(os.environ.get("WEB_CONCURRENCY") or os.cpu_count() or 1)
worker_class = "bridge.worker.BridgeWorker"
worker_connections = 10_000
backlog = 2048

# A worker that does not report for so long is killed, and with it every client
# that it serves. It is also what frees PostgreSQL's notification queue from a
# worker that is frozen.
timeout = 30
# Must exceed BRIDGE_DRAIN_WINDOW by 4 s.
graceful_timeout = 30
# The workers' heartbeat files; a disk may stall for longer than `timeout`.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None

# gevent patches the standard library in the worker, before the application is
# loaded there.
preload_app = False
# Gunicorn's control socket in the home directory: one a user, so a second
# Gunicorn of the same user would take it over.
control_socket_disable = True

accesslog = None
errorlog = "-"
loglevel = "info"
