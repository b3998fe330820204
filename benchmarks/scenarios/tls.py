"""A crowd on one worker that ends TLS itself.

15,000 connections, opened one after another, all subscribed to one channel.
The client is Python: what it takes to shake hands is part of the time.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path

from harness import DELIVERY_TIMEOUT, Bench, Scenario
from load import PREFIX
from processes import rss_bytes
from rivals.systems import SPARE_CONNECTIONS
from support.files import raise_file_limit
from support.gunicorn import Gunicorn
from support.raw import HANDSHAKE
from support.tls import context, make_certificate
from support.waiting import wait_until

from scenarios.memory import NOTIFICATIONS

__all__ = ["SCENARIOS"]

QUIET = 3600
"""Seconds between heartbeats: the client answers none."""


def measure(bench: Bench) -> None:
    """As many connections as one worker should carry, over TLS."""
    clients = bench.scale.crowd
    raise_file_limit()
    for run, system in bench.rounds("pgbridge"):
        with bench.attempt(system, run, "crowd_tls") as attempt, ExitStack() as stack:
            server = _start(bench.url, clients, stack)
            empty = rss_bytes(server.workers)
            began = time.monotonic()
            socks = [stack.enter_context(_subscriber(server)) for _ in range(clients)]
            subscribed = time.monotonic() - began
            bench.publisher.paced(NOTIFICATIONS, 2)
            published = time.monotonic()
            short = sum(_read(sock) != NOTIFICATIONS for sock in socks)
            attempt.record(
                "crowd_tls",
                {"connections": clients},
                {
                    "subscribed_seconds": subscribed,
                    "bytes_per_connection": (rss_bytes(server.workers) - empty)
                    / clients,
                    "read_seconds": time.monotonic() - published,
                },
                [f"{short:,} clients did not get everything"] if short else [],
            )


def _start(url: str, clients: int, stack: ExitStack) -> Gunicorn:
    server = Gunicorn(
        url,
        heartbeat_interval=QUIET,
        arguments=("--worker-connections", str(clients + SPARE_CONNECTIONS)),
    )
    stack.callback(server.end)
    key, certificate = make_certificate(Path(server.folder))
    server.command += ["--keyfile", str(key), "--certfile", str(certificate)]
    server.launch()
    wait_until(lambda: "listener connected" in server.log)
    return server


_context = context()


def _subscriber(server: Gunicorn) -> ssl.SSLSocket:
    sock = _context.wrap_socket(server.connect())
    sock.settimeout(DELIVERY_TIMEOUT)
    path = f"/ws?channel={PREFIX}0"
    sock.sendall(HANDSHAKE.format(path=path).encode())
    answer = b""
    while b'"subscribed"' not in answer:
        part = sock.recv(4096)
        if not part:
            raise OSError(f"closed by the server after {answer!r}")
        answer += part
    return sock


def _read(sock: socket.socket) -> int:
    """Return how many notifications came, at most those that should."""
    data = b""
    while (found := data.count(b'"notification"')) < NOTIFICATIONS:
        try:
            part = sock.recv(4096)
        except OSError:
            part = b""
        if not part:
            break
        data += part
    return found


SCENARIOS = (Scenario("crowd_tls", measure),)
