"""`pgbridge doctor`: what would not work, or not for long, and what to do.

Looks at the settings, this host and the database as the workers would, with
sessions of its own. Every check says one line: what was found, and what to do
where that is not well.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from gunicorn.app.wsgiapp import WSGIApplication

from bridge.postgres.address import Address
from bridge.postgres.connection import Connection
from bridge.postgres.probe import probe
from bridge.postgres.schema import (
    VERSION,
    EmptyTable,
    NoSchema,
    check_presence,
    check_version,
)
from bridge.server.deployment import problems
from bridge.server.http_server import SPARE_SLOTS
from bridge.server.runtime import JOURNAL_SESSIONS, listeners
from bridge.values.errors import BridgeError, DatabaseError, SettingsError
from bridge.values.settings import Settings
from bridge.worker import SPARE_FILES, BridgeWorker

__all__ = ["Finding", "diagnose"]

TIMEOUT = 5.0
"""Seconds for connecting, and for each answer."""

MAX_CLOCK_DIFFERENCE = 1.0
"""Seconds; `since` of a gap and the latency of events compare two clocks."""

HIGH_USAGE = 0.5
"""Of the queue of notifications."""

MIN_SERVER = 130_000
"""PostgreSQL 13."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        level: ok, warn or FAIL.
    """

    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:5}{self.text}"


def diagnose(gunicorn_options: Sequence[str]) -> Iterator[Finding]:
    """Yield what is found, in the order that it is looked for.

    Args:
        gunicorn_options: those that the server is started with.
    """
    try:
        settings, _, warnings = Settings.from_environ(os.environ)
        address = Address(
            settings.required_database_url, settings.database_password_file
        )
    except SettingsError as exc:
        yield from (Finding("FAIL", problem) for problem in exc.problems)
        return
    yield Finding("ok", "the settings can be read")
    yield from (Finding("warn", text) for text in warnings)
    yield from _access(settings)
    config = _Gunicorn(gunicorn_options).cfg
    yield from _gunicorn(config, settings)
    yield from _database(address, settings, config.workers)


def _access(settings: Settings) -> Iterator[Finding]:
    if settings.access is None and not settings.public_channels:
        yield Finding(
            "warn",
            "every channel is closed: set BRIDGE_PUBLIC_CHANNELS or BRIDGE_ACCESS",
        )
    for name in ("max_connections_per_address", "max_request_rate_per_address"):
        if getattr(settings, name) and not settings.trusted_proxies:
            yield Finding(
                "warn",
                f"BRIDGE_{name.upper()} counts a proxy as one address: "
                "set BRIDGE_TRUSTED_PROXIES",
            )


# Gunicorn and this host.


class _Gunicorn(WSGIApplication):
    """Reads a configuration as `pgbridge serve` would."""

    def __init__(self, options: Sequence[str]) -> None:
        arguments = list(options)
        if not any(one.startswith(("-c", "--config")) for one in arguments):
            arguments = ["-c", "python:bridge.hooks.gunicorn_conf", *arguments]
        before, sys.argv = sys.argv, ["pgbridge", *arguments, "bridge.app:create_app()"]
        try:
            super().__init__(prog="pgbridge doctor")
        finally:
            sys.argv = before


class _Log:
    """Takes what the worker class says of a configuration."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, text: str, *arguments: object) -> None:
        self.said.append(text % arguments)

    error = warning


def _gunicorn(config: Any, settings: Settings) -> Iterator[Finding]:
    for problem in problems(config, settings, BridgeWorker):
        yield Finding("FAIL", problem)
    log = _Log()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        BridgeWorker.check_config(config, log)
    except SystemExit:
        yield Finding("FAIL", log.said.pop())
    else:
        files = config.worker_connections + SPARE_SLOTS + SPARE_FILES
        yield Finding("ok", f"{files} open files a worker of {hard} allowed")
    yield from (Finding("warn", text) for text in log.said)
    if any(bind.startswith("unix:") for bind in config.bind) and (
        "unix" not in settings.trusted_proxies
    ):
        yield Finding(
            "warn",
            "clients on the Unix socket have no address: with a proxy in front set "
            "BRIDGE_TRUSTED_PROXIES=unix",
        )


# The database.


def _database(address: Address, settings: Settings, workers: int) -> Iterator[Finding]:
    def connect() -> Connection:
        return Connection(address, timeout=TIMEOUT, application_name="pgbridge doctor")

    try:
        with closing(connect()) as connection:
            yield Finding("ok", f"connected to {address}")
            for check in (_version, _listens(connect), _clock, _queue):
                yield from check(connection)
            yield from _sessions(connection, settings, workers)
            yield from _schema(connection)
    except DatabaseError as exc:
        yield Finding("FAIL", f"{address}: {exc}")


def _version(connection: Connection) -> Iterator[Finding]:
    [(number, version)] = connection.execute(
        "SELECT current_setting('server_version_num')::int, "
        "current_setting('server_version')"
    )
    good = number >= MIN_SERVER
    yield Finding(
        "ok" if good else "FAIL",
        f"PostgreSQL {version}" + ("" if good else ": 13 or newer is needed"),
    )
    if connection.is_sql_ascii:
        yield Finding(
            "warn", "the database's encoding is SQL_ASCII: texts are taken for UTF-8"
        )


def _listens(
    connect: Callable[[], Connection],
) -> Callable[[Connection], Iterator[Finding]]:
    def check(connection: Connection) -> Iterator[Finding]:
        probe(connection, connect, TIMEOUT)
        yield Finding("ok", "a notification was sent, and came")

    return check


def _clock(connection: Connection) -> Iterator[Finding]:
    before = time.time()
    [(theirs,)] = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp())::float8"
    )
    difference = theirs - (before + time.time()) / 2
    good = abs(difference) <= MAX_CLOCK_DIFFERENCE
    yield Finding(
        "ok" if good else "warn",
        f"the server's clock differs by {difference:.1f} s"
        + ("" if good else ": run NTP on both"),
    )


def _queue(connection: Connection) -> Iterator[Finding]:
    [(usage,)] = connection.execute("SELECT pg_notification_queue_usage()")
    good = usage < HIGH_USAGE
    yield Finding(
        "ok" if good else "warn",
        f"the queue of notifications is {usage:.0%} full"
        + ("" if good else ": some session listens and does not read"),
    )


def _sessions(
    connection: Connection, settings: Settings, workers: int
) -> Iterator[Finding]:
    needed = 2 * workers * (listeners(settings, workers) + JOURNAL_SESSIONS)
    [(most, used)] = connection.execute(
        "SELECT current_setting('max_connections')::int "
        "- current_setting('superuser_reserved_connections')::int, "
        "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
        "AND application_name NOT LIKE 'pgbridge%')"
    )
    free = most - used
    yield Finding(
        "ok" if needed <= free else "warn",
        f"{needed} sessions are needed during a reload, {free} are free"
        + (
            ""
            if needed <= free
            else ": raise max_connections, or lower workers or BRIDGE_MAX_LISTENERS"
        ),
    )


def _schema(connection: Connection) -> Iterator[Finding]:
    try:
        check_presence(connection)
        check_version(connection)
    except NoSchema:
        yield Finding("ok", "no schema bridge: channels are plain ones")
        return
    except BridgeError as exc:
        yield Finding("FAIL", str(exc))
        return
    [(version,)] = connection.execute("SELECT version FROM bridge.state")
    if version < VERSION:
        yield Finding(
            "warn", f"schema bridge has version {version}: run  pgbridge upgrade"
        )
        return
    found = connection.execute(
        "SELECT position, lag, sequencer, overflow FROM bridge.status"
    )
    if not found:
        yield Finding("FAIL", str(EmptyTable()))
        return
    [(position, lag, sequencer, overflow)] = found
    yield Finding("ok", f"schema bridge, version {version}, at position {position}")
    if overflow:
        yield Finding(
            "FAIL", "the outbox is full and publishing has stopped: start the server"
        )
    if sequencer is None:
        yield Finding("warn", "nobody gives positions: is the server running?")
    else:
        yield Finding("ok", f"the sequencer is backend {sequencer}, {lag:.1f} s behind")
