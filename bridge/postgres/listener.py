"""LISTEN: one greenlet, one autocommit connection, `select()`.

The greenlet owns the connection. Others change the demand (`add`, `release`)
and wake it; the greenlet makes the session's LISTENs match, so that requests
which come together go in one round trip and a request made while the database
is away is met when it is back.

Invariants: the sink knows that a channel's LISTEN is in force exactly while
`Demand` says so. All calls into the sink come from this greenlet, so a
channel's messages have one order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import gevent
from gevent.event import Event
from psycopg2.extensions import Notify

from bridge.core.subscription import State
from bridge.postgres.address import Address
from bridge.postgres.back_off import BackOff
from bridge.postgres.connection import Connection
from bridge.postgres.demand import Demand
from bridge.postgres.probe import probe
from bridge.values.channels import not_encodable
from bridge.values.counters import COUNTERS
from bridge.values.errors import ClientError, DatabaseError
from bridge.values.message import Batch

__all__ = ["Control", "Listener", "ListenerOptions", "Sink"]

log = logging.getLogger(__name__)

MAX_NAMES_PER_STATEMENT = 500
"""A larger LISTEN would hold notifications up for tens of milliseconds."""

CLOCK_MARGIN = 1.0
"""Seconds by which the last moment known complete is set back: a round trip
can end a moment before the notification of an earlier commit is signalled."""


class Sink(Protocol):
    """Where notifications go: the hub."""

    def publish(self, batch: Batch) -> None:
        """Take a batch."""

    def in_force(self, channels: Iterable[str]) -> None:
        """The channels' LISTENs are in force."""

    def interrupted(self, channels: Iterable[str], since: float | None) -> None:
        """The channels' source is away; complete until `since` (Unix seconds)."""

    def refuse(self, channel: str, error: ClientError) -> None:
        """PostgreSQL cannot listen to the channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions:
    """What all listeners share.

    Attributes:
        health_interval: seconds between two round trips on an idle connection.
        health_timeout: seconds within which each must be answered.
        unlisten_delay: seconds from the last subscriber's leaving to UNLISTEN.
    """

    address: Address
    health_interval: float
    health_timeout: float
    unlisten_delay: float
    application_name: str

    def connect(self) -> Connection:
        """Open a session.

        Raises:
            DatabaseError: it cannot be had.
        """
        return Connection(
            self.address,
            timeout=self.health_timeout,
            application_name=self.application_name,
        )


Control = Mapping[str, Callable[[str], None]]
"""Channels of our own, and who is called with each payload that comes there."""


class Listener:
    """A session that listens to any number of channels.

    Args:
        control: listened to from the start; each is called with "" when that
            begins, since something may have been missed.
        on_given_up: told, in the listener's greenlet, which channels it has
            given up.
    """

    def __init__(
        self,
        sink: Sink,
        options: ListenerOptions,
        on_given_up: Callable[[Listener, list[str]], None],
        control: Control | None = None,
    ) -> None:
        self._control = control or {}
        self._sink = sink
        self._options = options
        self._on_given_up = on_given_up
        self._demand = Demand(options.unlisten_delay, time.monotonic)
        #: LIVE: its first LISTENs are in force; PENDING: before the first try.
        self.state = State.PENDING
        #: Unix seconds of the last change of state.
        self._changed_at = time.time()
        #: How full the cluster's queue of notifications was, 0 to 1.
        self.queue_usage = 0.0
        #: The reason of the last loss, for the log.
        self._problem = ""
        #: Unix seconds: everything committed before then has arrived.
        self._complete_until: float | None = None
        #: The same, and it was handed on as well.
        self._published_until: float | None = None
        #: The session; None while there is none.
        self._connection: Connection | None = None
        self._stopping = Event()
        self._greenlet: gevent.Greenlet[[], None] | None = None

    # For others.

    @property
    def load(self) -> int:
        """How many channels it carries."""
        return len(self._demand)

    def describe(self) -> dict[str, object]:
        """Its state for /readyz: what everybody may know."""
        return {
            "state": self.state.value,
            "since": round(self._changed_at, 3),
            "channels": len(self._demand),
        }

    def start(self) -> None:
        """Start the greenlet."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Tell the greenlet to end; subscribers are told nothing."""
        self._stopping.set()
        self._wake()

    def join(self, timeout: float) -> None:
        """Wait for the greenlet to end."""
        if self._greenlet is not None:
            self._greenlet.join(timeout)

    def add(self, channel: str) -> State:
        """Want a channel; returns how it stands now."""
        if self._demand.add(channel):
            return State.LIVE
        self._wake()
        return State.AWAY if self.state is State.AWAY else State.PENDING

    def release(self, channel: str) -> None:
        """Give a channel up, unless it is wanted again within the delay."""
        self._demand.release(channel)
        self._wake()

    def _wake(self) -> None:
        if self._connection is not None:
            self._connection.wake()

    # The greenlet.

    def _run(self) -> None:
        back_off = BackOff(time.monotonic)
        while not self._stopping.is_set():
            try:
                with closing(self._connect()) as connection:
                    self._connection = connection
                    self._listen_to_control(connection)
                    self._listen(connection)
                    self._set_state(State.LIVE, "")
                    back_off.there()
                    self._serve(connection)
                    continue
            except DatabaseError as exc:
                self._lost(str(exc))
            except Exception:
                log.exception("listener failed", extra={"action": "listener_failed"})
                self._lost("internal error, see the log")
            self._connection = None
            self._give_up(self._demand.overdue())
            self._stopping.wait(back_off.delay())

    def _connect(self) -> Connection:
        connection = self._options.connect()
        try:
            probe(connection, self._options.connect, self._options.health_timeout)
        except BaseException:
            connection.close()
            raise
        if connection.is_sql_ascii:
            log.warning(
                "the database's encoding is SQL_ASCII: texts are taken for UTF-8, "
                "and what is none of it is replaced",
                extra={"action": "sql_ascii"},
            )
        log.info(
            "listener connected, backend %d",
            connection.pid,
            extra={"action": "listener_connected"},
        )
        return connection

    def _serve(self, connection: Connection) -> None:
        """Listen until stopped, or until the connection is lost (it raises)."""
        health_due = time.monotonic() + self._options.health_interval
        while not self._stopping.is_set():
            connection.read()
            if self._publish(connection):
                gevent.sleep(0)  # a flood must leave others their turn
            else:
                self._wait(connection, health_due)
            self._listen(connection)
            self._unlisten(connection)
            if time.monotonic() >= health_due:
                self._check(connection)
                health_due = time.monotonic() + self._options.health_interval

    def _publish(self, connection: Connection) -> bool:
        """Hand on what has arrived, a batch a channel; False if nothing."""
        batches: dict[str, list[Notify]] = {}
        complete_until = self._complete_until
        for notify in connection.notifications():
            channel = notify.channel
            # A channel that was given up may be another listener's by now; what
            # still comes here would be told twice.
            if self._demand.listens_to(channel):
                batches.setdefault(channel, []).append(notify)
            elif channel in self._control:
                self._control[channel](notify.payload)
        for channel, found in batches.items():
            payloads = tuple([notify.payload for notify in found])
            self._sink.publish(
                Batch(
                    channel,
                    payloads,
                    pid=found[-1].pid,
                    complete_until=self._published_until,
                )
            )
        self._published_until = complete_until
        return bool(batches)

    def _wait(self, connection: Connection, health_due: float) -> None:
        due = self._demand.next_due()
        due = health_due if due is None else min(due, health_due)
        connection.select(max(0.0, due - time.monotonic()))

    def _listen_to_control(self, connection: Connection) -> None:
        self._execute(connection, "LISTEN", self._control)
        for call in self._control.values():
            call("")

    def _listen(self, connection: Connection) -> None:
        for names in _slices(self._demand.pending()):
            # What came for an earlier LISTEN of the same names is not theirs.
            self._publish(connection)
            quoted = self._quoted(connection, names)
            self._execute(connection, "LISTEN", quoted.values())
            self._demand.in_force(quoted)
            self._sink.in_force(quoted)

    def _quoted(self, connection: Connection, names: list[str]) -> dict[str, str]:
        """Quote names; those that the database cannot write are refused."""
        found = {}
        for name in names:
            try:
                found[name] = connection.quote(name)
            except UnicodeEncodeError:
                self._give_up([name])
                self._sink.refuse(name, not_encodable(name))
        return found

    def _unlisten(self, connection: Connection) -> None:
        for names in _slices(self._give_up(self._demand.overdue())):
            self._execute(
                connection, "UNLISTEN", self._quoted(connection, names).values()
            )

    def _give_up(self, names: list[str]) -> list[str]:
        """Forget channels; returns those that were listened to."""
        listening = self._demand.forget(names)
        if names:
            self._on_given_up(self, names)
        return listening

    def _execute(
        self, connection: Connection, verb: str, quoted: Iterable[str]
    ) -> None:
        statements = ";".join(f"{verb} {name}" for name in quoted)
        if statements:
            self._round_trip(connection, statements)

    def _check(self, connection: Connection) -> None:
        # Asking also heals: a queue that was full only shrinks when asked.
        query = "SELECT pg_catalog.pg_notification_queue_usage()"
        [(self.queue_usage,)] = self._round_trip(connection, query)

    def _round_trip(self, connection: Connection, query: str) -> list[Any]:
        began = time.time()
        rows = connection.execute(query)
        # Notifications that came with the answer count as arrived.
        self._complete_until = began - CLOCK_MARGIN
        return rows

    def _set_state(self, state: State, problem: str) -> None:
        if state is not self.state:
            self._changed_at = time.time()
        self.state, self._problem = state, problem

    def _lost(self, reason: str) -> None:
        COUNTERS.reconnects["listener"] += 1
        # Constant repetitions of one reason would bury everything else.
        level = logging.WARNING if reason != self._problem else logging.DEBUG
        self._set_state(State.AWAY, reason)
        log.log(
            level,
            "listener lost PostgreSQL at %s, trying again: %s",
            self._options.address,
            reason,
            extra={"action": "listener_lost"},
        )
        self._sink.interrupted(self._demand.lost(), self._published_until)


def _slices(names: list[str]) -> Iterable[list[str]]:
    for start in range(0, len(names), MAX_NAMES_PER_STATEMENT):
        yield names[start : start + MAX_NAMES_PER_STATEMENT]
