"""The worker's moving parts: built, started, drained and stopped.

`create_app` makes a `Runtime`, which starts nothing: `flask routes`, tests and
mounted applications must be able to. The worker starts every runtime of its
process after it has loaded the application (`start_all`), and stops it.

This is the one place that joins the hub to its edges: the pool below, the
connections above.
"""

from __future__ import annotations

import functools
import time
import weakref

import gevent

from bridge.access.gatekeeper import Gatekeeper
from bridge.access.origin import OriginRules, Proxies
from bridge.access.policy import Policy
from bridge.clients.connection import (
    CLOSE_TIMEOUT,
    ConnectionOptions,
    ReadingOptions,
)
from bridge.clients.connections import Connections
from bridge.clients.outlet import OutletOptions, write_all
from bridge.clients.websocket import MISSED_HEARTBEATS
from bridge.core.fan_out import FanOut
from bridge.core.hub import Hub
from bridge.core.service import Service
from bridge.core.subscription import State
from bridge.postgres.address import Address
from bridge.postgres.continuity import Continuity
from bridge.postgres.journal import Journal
from bridge.postgres.journal_options import JournalOptions
from bridge.postgres.listener import ListenerOptions
from bridge.postgres.pool import Pool
from bridge.postgres.sequencer import Sequencer
from bridge.postgres.witness import Witness
from bridge.server.lag import LagWatch
from bridge.server.run_folder import RunFolder
from bridge.values.channels import Patterns
from bridge.values.limits import Addresses, Rate
from bridge.values.settings import Settings

__all__ = [
    "SPARE_CONNECTIONS",
    "Runtime",
    "created",
    "drain_all",
    "start_all",
    "stop_all",
]

SESSIONS_PER_HOST = 4
"""Sessions that listen, over the workers of a host: each one that listens
makes every NOTIFY of the whole cluster slower (docs/design.md has figures)."""

JOURNAL_SESSIONS = 2
"""Sessions of a worker on the journal: one reads it, one is or may become the
sequencer. Without the schema it has none."""

APPLICATION_NAME = "pgbridge"

SPARE_CONNECTIONS = 100
"""Room that is left for /healthz and the like when clients fill a worker."""

SUBSCRIBE_BURST = 256
"""Subscribes of one client at once: twice the default of BRIDGE_MAX_CHANNELS."""

MESSAGE_BURST = 500
"""Messages of one client at once; or twice the channels that it may have, where
that is more: a page that comes back asks for all of them in one go."""

REQUEST_BURST = 10.0
"""Seconds' worth of the requests of one address that are served at once."""

STOP_TIMEOUT = 1.0
"""Seconds for closing the sessions on PostgreSQL."""

HURRIED_CLOSE_TIMEOUT = 0.3
"""Seconds that the clients of an interrupted worker have for their answer."""

_created: weakref.WeakSet[Runtime] = weakref.WeakSet()


class Runtime:
    """What one application needs to run in one worker.

    Args:
        policy: decides about channels that are not public; None: nobody.
    """

    def __init__(self, settings: Settings, policy: Policy | None) -> None:
        self.settings = settings
        self.origins = OriginRules(
            frozenset(settings.allowed_origins), frozenset(settings.allowed_hosts)
        )
        self.proxies = Proxies(settings.trusted_proxies)
        self.metrics_peers = Proxies(settings.metrics_peers)
        self.gatekeeper = Gatekeeper(
            public=Patterns(settings.public_channels),
            policy=policy,
            threads=settings.access_threads,
            timeout=settings.access_timeout,
            max_checks=settings.max_access_checks,
        )
        self._address = Address(
            settings.required_database_url, settings.database_password_file
        )
        #: Set by `start`: the parts that move.
        self.pool: Pool | None = None
        self.journal: Journal | None = None
        self.sequencer: Sequencer | None = None
        self.connections: Connections | None = None
        self.clients: ConnectionOptions | None = None
        self.hub: Hub | None = None
        self.lag = LagWatch()
        self.draining = False
        _created.add(self)

    def start(self, *, workers: int, worker_connections: int) -> None:
        """Start what runs in this process: listeners, journal, sequencer, heartbeats.

        Args:
            workers: how many workers this host runs.
            worker_connections: Gunicorn's setting.
        """
        if self.pool is not None:
            return
        settings = self.settings
        self.hub = hub = Hub(
            want=self._want,
            unwant=self._unwant,
            fan_out=FanOut(
                clock=time.monotonic,
                pause=functools.partial(gevent.sleep, 0),
                write_all=write_all,
            ),
            workers=workers,
            tripwire=settings.tripwire,
            max_recent_bytes=settings.recent_bytes,
            journal_wanted=self._wake_journal,
        )
        journal_options = JournalOptions(
            address=self._address,
            timeout=settings.health_timeout,
            application_name=APPLICATION_NAME,
            max_payload_bytes=settings.max_payload_bytes,
        )
        folder = RunFolder(settings.run_folder).path
        continuity = Continuity(Witness(folder, str(self._address)))
        self.journal = journal = Journal(
            hub, journal_options, continuity, self._schema_is
        )
        self.sequencer = Sequencer(
            journal_options,
            continuity,
            moved_at=lambda: journal.moved_at,
            on_step=journal.hint,
            on_blocked=journal.set_stepping_blocked,
        )
        self.pool = Pool(
            hub,
            ListenerOptions(
                address=self._address,
                health_interval=settings.health_interval,
                health_timeout=settings.health_timeout,
                unlisten_delay=settings.unlisten_delay,
                application_name=APPLICATION_NAME,
            ),
            max_listeners=listeners(settings, workers),
            max_channels=settings.max_listen_channels,
            control={"bridge_journal": journal.hint},
        )
        self.connections = Connections(
            heartbeat_interval=settings.heartbeat_interval,
            max_connections=max(
                1,
                min(
                    settings.max_connections or worker_connections,
                    worker_connections - SPARE_CONNECTIONS,
                ),
            ),
        )
        self.clients = ConnectionOptions(
            service=Service(
                hub=hub,
                access=self.gatekeeper,
                heartbeat_interval=settings.heartbeat_interval,
                max_channels=settings.max_channels,
                subscribe_rate=Rate(
                    settings.max_subscribes_per_second, SUBSCRIBE_BURST
                ),
                max_errors=settings.max_errors,
                authenticate_timeout=settings.authenticate_timeout,
            ),
            connections=self.connections,
            addresses=Addresses(settings.max_connections_per_address),
            outlet=OutletOptions(settings.backlog_bytes, settings.write_timeout),
            reading=ReadingOptions(
                max_message_bytes=settings.max_message_bytes,
                rate=message_rate(settings),
                dead_after=max(
                    MISSED_HEARTBEATS * settings.heartbeat_interval,
                    settings.write_timeout,
                ),
            ),
            send_buffer_bytes=settings.send_buffer_bytes,
        )
        self.pool.start()
        self.journal.start()
        self.sequencer.start()
        self.lag.start()
        self.connections.start()

    def drain(self, hurry: bool = False) -> None:
        """Tell every client goodbye and wait until they are gone.

        Args:
            hurry: all at once, instead of at a pace.
        """
        self.draining = True
        if self.connections is not None:
            window = 0.0 if hurry else self.settings.drain_window
            timeout = HURRIED_CLOSE_TIMEOUT if hurry else CLOSE_TIMEOUT
            self.connections.drain(window, timeout)

    def stop(self) -> None:
        """Stop what `start` started; clients that are left are cut off."""
        self.draining = True
        if self.connections is not None:
            self.connections.stop()
        self.lag.stop()
        parts = (self.sequencer, self.journal)
        for part in parts:
            if part is not None:
                part.stop()
        if self.pool is not None:
            self.pool.stop(STOP_TIMEOUT)
        for part in parts:
            if part is not None:
                part.join(STOP_TIMEOUT)

    def _want(self, channel: str) -> State:
        assert self.pool is not None
        return self.pool.want(channel)

    def _unwant(self, channel: str) -> None:
        assert self.pool is not None
        self.pool.unwant(channel)

    def _wake_journal(self) -> None:
        if self.journal is not None:
            self.journal.wake()

    def _schema_is(self, present: bool) -> None:
        if self.sequencer is not None:
            self.sequencer.set_present(present)


def listeners(settings: Settings, workers: int) -> int:
    """Return how many sessions of a worker may listen."""
    return settings.max_listeners or max(1, SESSIONS_PER_HOST // workers)


def message_rate(settings: Settings) -> Rate:
    """Return what one client may send."""
    return Rate(
        settings.max_message_rate, max(MESSAGE_BURST, 2 * settings.max_channels)
    )


def request_rate(settings: Settings) -> Rate:
    """Return what one address may ask of a worker."""
    rate = settings.max_request_rate_per_address
    return Rate(rate, max(1, round(rate * REQUEST_BURST)))


def created() -> list[Runtime]:
    """Return every runtime of this process."""
    return list(_created)


def start_all(*, workers: int, worker_connections: int) -> None:
    """Start every runtime that was created in this process."""
    for runtime in list(_created):
        runtime.start(workers=workers, worker_connections=worker_connections)


def open_connections() -> int:
    """Return how many clients this process has."""
    return sum(
        len(runtime.connections)
        for runtime in _created
        if runtime.connections is not None
    )


def drain_all(hurry: bool = False) -> None:
    """Drain every runtime of this process, at the same time."""
    gevent.joinall([gevent.spawn(runtime.drain, hurry) for runtime in list(_created)])


def stop_all() -> None:
    """Stop every runtime of this process."""
    for runtime in list(_created):
        runtime.stop()
