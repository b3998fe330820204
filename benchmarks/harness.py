"""What the scenarios share: the runs, the writer, what was measured.

A scenario is a function that takes a `Bench`. It goes through the runs and
the systems, makes an `Attempt` for each, and records values and faults. What
an attempt has started ends with it, whatever happens.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg2
from build import Absent
from load import PREFIX, Load, LoadError
from processes import Server
from psycopg2.extensions import connection as Connection
from report import tables
from rivals.systems import System
from scale import Scale

__all__ = [
    "AFTERWARDS",
    "DELIVERY_TIMEOUT",
    "FAILURES",
    "Attempt",
    "Bench",
    "Publisher",
    "Record",
    "Scenario",
    "faults_of",
    "finish",
    "interleaved",
    "one_line",
    "payload",
    "say",
]

T = TypeVar("T")

WARM_UP = 20
"""Notifications before anything is measured; runtimes compile what they use."""

DELIVERY_TIMEOUT = 60.0
"""Seconds in which everything published must have arrived."""

AFTERWARDS = 0.3
"""Seconds after the last delivery in which nothing more may come."""

STATEMENT_TIMEOUT = 30_000
"""Milliseconds that a commit may take."""

FAILURES = (
    LoadError,
    AssertionError,
    OSError,
    psycopg2.Error,
    subprocess.SubprocessError,
    ValueError,
)
"""What a system under test can fail with; it spoils its own row only."""


@dataclass
class Record:
    """One measurement of one system in one run.

    Attributes:
        faults: what went wrong, in words; such a value is shown with it.
    """

    scenario: str
    system: str
    label: str
    run: int
    parameters: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def payload(n: int, size: int) -> str:
    """Return a payload of `size` bytes that the load client understands."""
    head = f'{{"n":{n},"t":{time.monotonic():.6f},"pad":"'
    return head + "x" * (size - len(head) - 2) + '"}'


class Publisher:
    """One session that commits notifications; each has its channel's number.

    Args:
        function: what publishes.
    """

    def __init__(self, url: str, function: str = "pg_notify") -> None:
        # A commit that hangs must not hang the benchmark.
        self._connection: Connection = psycopg2.connect(
            url, options=f"-c statement_timeout={STATEMENT_TIMEOUT}"
        )
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()
        self._query = f"SELECT {function}(%s, %s)"

    def close(self) -> None:
        self._connection.close()

    def publish(self, n: int, channel: int = 0, size: int = 100) -> None:
        """Commit one; t is the moment before."""
        self._cursor.execute(self._query, (f"{PREFIX}{channel}", payload(n, size)))

    def burst(self, commits: int, channels: int = 1, size: int = 100) -> float:
        """Commit as fast as the session can, round the channels; returns seconds."""
        began = time.monotonic()
        for number in range(commits):
            self.publish(number // channels, number % channels, size)
        return time.monotonic() - began

    def paced(self, commits: int, rate: float) -> None:
        """Commit `rate` a second to channel 0."""
        began = time.monotonic()
        for n in range(commits):
            time.sleep(max(0.0, began + n / rate - time.monotonic()))
            self.publish(n)


class Attempt:
    """One system in one run; what it starts is ended with it."""

    def __init__(
        self, bench: Bench, system: System, run: int, scenarios: Sequence[str]
    ) -> None:
        self.system = system
        self.run = run
        self._bench = bench
        self._pending = list(scenarios)
        self._stack = ExitStack()
        self._server: Server | None = None

    def start(self, url: str | None = None, **options: Any) -> Server:
        """Start the system; options of `System.start`.

        Args:
            url: the database; None: the bench's.
        """
        self._server = self.system.start(url or self._bench.url, **options)
        self._stack.callback(self._server.end)
        return self._server

    def load(self, server: Server, **options: Any) -> Load:
        """Start a load client; options of `Load`."""
        return self._stack.enter_context(Load(server, **options))

    def subscribe(self, load: Load, count: int, timeout: float = 120.0) -> Any:
        """Open subscribers, all of which must get through."""
        opened = load.open(count, timeout)
        if opened["subscribed"] != opened["connections"]:
            raise LoadError(
                f"{opened['subscribed']} of {opened['connections']} clients were "
                f"subscribed in time: {opened['error'] or 'no answer'}"
            )
        return opened

    def warm_up(self, load: Load, count: int) -> None:
        """Deliver some notifications to the `count` clients of channel 0."""
        load.expect(WARM_UP * count, 0, DELIVERY_TIMEOUT)
        self._bench.publisher.paced(WARM_UP, 50)
        load.done()

    def record(
        self,
        scenario: str,
        parameters: dict[str, Any],
        values: dict[str, Any],
        faults: Sequence[str] = (),
    ) -> None:
        """Keep what was measured."""
        if scenario in self._pending:
            self._pending.remove(scenario)
        self._bench.keep(
            Record(
                scenario,
                self.system.key,
                self.system.label,
                self.run,
                parameters,
                values,
                list(faults),
            )
        )

    def fail(self, reason: str) -> None:
        """Record that the scenarios not recorded so far cannot be."""
        if self._server is not None and self._server.log():
            say(f"the last that {self.system.key} wrote:\n{self._server.log()}")
        for scenario in list(self._pending):
            self.record(scenario, {}, {}, [reason])

    def end(self) -> None:
        """End what was started."""
        self._stack.close()


class Bench:
    """What a scenario works with.

    Attributes:
        url: of the database.
        absent: the systems that are wanted and not there, with the reason.
    """

    def __init__(
        self, url: str, scale: Scale, runs: int, wanted: Sequence[System]
    ) -> None:
        self.url = url
        self.scale = scale
        self.runs = runs
        self.records: list[Record] = []
        self.absent: dict[str, tuple[str, str]] = {}
        self.publisher = Publisher(url)
        self._systems: list[System] = []
        for system in wanted:
            try:
                system.prepare()
            except Absent as exc:
                self.absent[system.key] = (system.label, str(exc))
                say(f"{system.label}: left out, {exc}")
            else:
                self._systems.append(system)

    def systems(self, *keys: str) -> list[System]:
        """Return the systems present; only those named, if any are."""
        return [one for one in self._systems if not keys or one.key in keys]

    def rounds(self, *keys: str) -> Iterator[tuple[int, System]]:
        """Go through the runs, in each through the systems."""
        return interleaved(self.runs, self.systems(*keys))

    @contextmanager
    def attempt(self, system: Any, run: int, *scenarios: str) -> Iterator[Attempt]:
        """Measure; a failure of the system is recorded for what is not yet."""
        attempt = Attempt(self, system, run, scenarios)
        try:
            yield attempt
        except FAILURES as exc:
            attempt.fail(one_line(exc))
        finally:
            attempt.end()

    def keep(self, record: Record) -> None:
        """Keep a record and show it."""
        self.records.append(record)
        shown = ", ".join(
            f"{name} {tables.short(value)}" for name, value in record.values.items()
        )
        place = " ".join(f"{k}={v}" for k, v in record.parameters.items())
        say(
            f"{record.scenario} run {record.run + 1} {record.system}: {shown} ({place})"
        )
        for fault in record.faults:
            say(f"  FAULT {fault}")


@dataclass(frozen=True)
class Scenario:
    """A named function that measures."""

    name: str
    measure: Callable[[Bench], None]


def interleaved(runs: int, contestants: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Go through the runs, in each through the contestants.

    Each run begins with another one, so that none always comes after the same
    neighbour.
    """
    for run in range(runs):
        turn = run % len(contestants) if contestants else 0
        for contestant in (*contestants[turn:], *contestants[:turn]):
            yield run, contestant


def finish(load: Load) -> tuple[dict[str, Any], list[str]]:
    """Wait for what was expected; returns the counts and what was wrong."""
    done = load.done()
    time.sleep(AFTERWARDS)
    return done, faults_of(done, load.report())


def faults_of(done: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Say in words what is wrong with a delivery.

    Args:
        done: the counts at its end.
        after: the counts a moment later.
    """
    found = []
    if after["missing"]:
        found.append(
            f"{after['missing']:,} notifications missing "
            f"on {after['wrong_connections']:,} connections"
        )
    elif done["timed_out"]:
        found.append("not everything arrived in time")
    if after["extra"]:
        found.append(f"{after['extra']:,} notifications too many")
    if after["disorder"]:
        found.append(f"{after['disorder']:,} out of order")
    if after["gaps"]:
        found.append(f"{after['gaps']:,} times told of a gap")
    if after["lost"]:
        found.append(f"{after['lost']:,} connections lost: {after['error']}")
    return found


def one_line(exc: BaseException) -> str:
    """Return the last line of what an exception says."""
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    return lines[-1][:200]


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)
