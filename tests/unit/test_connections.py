"""Every open connection: their limit, their heartbeats, their drain."""

from __future__ import annotations

import gc
import random
import time
import weakref
from collections.abc import Callable, Iterator

import gevent
import pytest

from bridge.clients.connections import Connections
from bridge.values.errors import CloseCode
from unit.loop import TIMEOUT, run_until


class Caller:
    """A connection; what is done to it goes into `log` with its name.

    Args:
        leaves: it ends as soon as it is dismissed.
        on_beat: called at each heartbeat.
    """

    def __init__(
        self,
        connections: Connections,
        log: list[tuple[str, str]],
        name: str,
        *,
        leaves: bool = True,
        on_beat: Callable[[], None] | None = None,
    ) -> None:
        self._connections = connections
        self._log = log
        self.name = name
        self._leaves = leaves
        self._on_beat = on_beat
        self.on_dismiss: Callable[[], None] | None = None
        #: What it was told first; as with a real one nothing follows.
        self.dismissed: tuple[CloseCode, str, float] | None = None
        self.dismissed_at = 0.0
        connections.add(self)

    def beat(self) -> None:
        self._log.append(("beat", self.name))
        if self._on_beat is not None:
            self._on_beat()

    def dismiss(self, code: CloseCode, reason: str, reconnect_delay: float) -> None:
        if self.dismissed is not None:
            return
        self._log.append(("dismiss", self.name))
        self.dismissed = (code, reason, reconnect_delay)
        self.dismissed_at = time.monotonic()
        if self.on_dismiss is not None:
            self.on_dismiss()
        if self._leaves:
            self._connections.remove(self)

    def abandon(self) -> None:
        self._log.append(("abandon", self.name))
        self._connections.remove(self)


@pytest.fixture
def connections() -> Iterator[Connections]:
    """Connections with a heartbeat every 50 ms."""
    connections = Connections(heartbeat_interval=0.05, max_connections=3)
    yield connections
    connections.stop()


@pytest.fixture
def log() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def one_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections have their heartbeat in the same turn."""
    monkeypatch.setattr(random, "randrange", lambda stop: 0)


Log = list[tuple[str, str]]


# The limit.


def test_connections_are_counted(connections: Connections, log: Log) -> None:
    first = Caller(connections, log, "1")
    Caller(connections, log, "2")
    before = len(connections)

    connections.remove(first)

    assert (before, len(connections)) == (2, 1)


def test_limit_is_reached_with_the_last_connection(
    connections: Connections, log: Log
) -> None:
    found = [connections.full]
    callers = []
    for name in "123":
        callers.append(Caller(connections, log, name))
        found.append(connections.full)

    connections.remove(callers[0])

    assert found == [False, False, False, True]
    assert connections.full is False


def test_connection_that_ended_is_not_kept(connections: Connections, log: Log) -> None:
    caller = Caller(connections, log, "1")
    found = weakref.ref(caller)

    connections.remove(caller)
    del caller
    gc.collect()

    assert found() is None


def test_limit_says_how_many(connections: Connections) -> None:
    assert connections.max_connections == 3


# Heartbeats.


def test_each_connection_has_one_heartbeat_in_each_interval(
    connections: Connections, log: Log
) -> None:
    for name in "123":
        Caller(connections, log, name)

    connections.start()
    run_until(lambda: len(log) >= 9)

    first, second, third = log[0:3], log[3:6], log[6:9]
    assert sorted(first) == [("beat", "1"), ("beat", "2"), ("beat", "3")]
    assert first == second == third


def test_heartbeats_of_one_connection_are_an_interval_apart(
    connections: Connections, log: Log
) -> None:
    times: list[float] = []
    Caller(connections, log, "1", on_beat=lambda: times.append(time.monotonic()))

    connections.start()
    run_until(lambda: len(times) == 3)

    assert times[1] - times[0] > 0.045
    assert times[2] - times[1] > 0.045


def test_connection_that_ended_has_no_heartbeat(
    connections: Connections, log: Log
) -> None:
    gone = Caller(connections, log, "gone")
    Caller(connections, log, "stays")
    connections.start()

    connections.remove(gone)
    run_until(lambda: len(log) == 2)

    assert log == [("beat", "stays")] * 2


@pytest.mark.usefixtures("one_slot")
def test_connection_that_ends_during_the_turn_has_no_heartbeat(
    connections: Connections, log: Log
) -> None:
    callers: list[Caller] = []

    def end_the_others() -> None:
        for caller in callers:
            if ("beat", caller.name) not in log:
                connections.remove(caller)
        callers.clear()

    callers += [
        Caller(connections, log, name, on_beat=end_the_others) for name in "123"
    ]
    connections.start()

    run_until(lambda: len(log) == 2)

    # Whoever was first stayed alone.
    assert log[0] == log[1]
    assert len(connections) == 1


@pytest.mark.usefixtures("one_slot")
def test_long_turn_lets_others_run(connections: Connections, log: Log) -> None:
    def work() -> None:
        gevent.spawn(log.append, ("other", "greenlet"))
        until = time.monotonic() + 0.006
        while time.monotonic() < until:
            pass

    for name in "12":
        Caller(connections, log, name, on_beat=work)

    connections.start()
    run_until(lambda: len(log) >= 4)

    assert [what for what, _ in log[:4]] == ["beat", "other", "beat", "other"]


@pytest.mark.usefixtures("one_slot")
def test_short_turn_is_not_interrupted(connections: Connections, log: Log) -> None:
    def spawn() -> None:
        gevent.spawn(log.append, ("other", "greenlet"))

    for name in "12":
        Caller(connections, log, name, on_beat=spawn)

    connections.start()
    run_until(lambda: len(log) >= 4)

    assert [what for what, _ in log[:4]] == ["beat", "beat", "other", "other"]


def test_no_heartbeat_comes_after_stop(connections: Connections, log: Log) -> None:
    Caller(connections, log, "1")
    connections.start()
    run_until(lambda: len(log) == 1)

    connections.stop()
    until = time.monotonic() + 0.1
    run_until(lambda: time.monotonic() > until)

    assert log == [("beat", "1")]


def test_stop_without_start_is_allowed(connections: Connections) -> None:
    connections.stop()


# The drain.


def drain(
    connections: Connections, window: float = 0.0, close_timeout: float = TIMEOUT
) -> float:
    """Drain; return how many seconds it took."""
    began = time.monotonic()
    connections.drain(window, close_timeout)
    return time.monotonic() - began


def test_drain_of_nobody_ends_at_once(connections: Connections) -> None:
    assert drain(connections, window=TIMEOUT) < 1


def test_drain_dismisses_everybody_and_ends_when_they_are_gone(
    connections: Connections, log: Log
) -> None:
    callers = [Caller(connections, log, name) for name in "123"]

    took = drain(connections, window=TIMEOUT)

    assert log == [("dismiss", "1"), ("dismiss", "2"), ("dismiss", "3")]
    for caller in callers:
        assert caller.dismissed is not None
        code, reason, delay = caller.dismissed
        assert (code, reason) == (CloseCode.RESTART, "restart")
        assert 0 <= delay <= 2
        assert delay == round(delay, 2)
    # 200 a second, however long the window is.
    assert took < 1
    assert len(connections) == 0


def test_drain_keeps_its_pace(log: Log) -> None:
    connections = Connections(heartbeat_interval=60, max_connections=1000)
    callers = [Caller(connections, log, str(number)) for number in range(40)]
    began = time.monotonic()

    connections.drain(TIMEOUT, TIMEOUT)

    # 40 at 200 a second: none comes before its turn.
    for number, caller in enumerate(callers):
        assert caller.dismissed_at - began > number / 200 - 0.001


def test_drain_of_many_is_over_with_its_window(log: Log) -> None:
    connections = Connections(heartbeat_interval=60, max_connections=1000)
    callers = [Caller(connections, log, str(number)) for number in range(400)]
    began = time.monotonic()

    connections.drain(0.2, TIMEOUT)

    # 400 at 200 a second would take 2 s.
    assert callers[-1].dismissed_at - began < 1
    assert callers[-1].dismissed_at - began > 0.19


def test_drain_waits_for_those_who_still_answer(
    connections: Connections, log: Log
) -> None:
    caller = Caller(connections, log, "1", leaves=False)

    draining = gevent.spawn(drain, connections)
    run_until(lambda: log == [("dismiss", "1")])
    before = draining.ready()
    connections.remove(caller)

    assert before is False
    assert draining.get(timeout=TIMEOUT) < TIMEOUT
    assert log == [("dismiss", "1")]


def test_drain_abandons_those_who_do_not_answer_in_time(
    connections: Connections, log: Log
) -> None:
    Caller(connections, log, "1", leaves=False)
    Caller(connections, log, "2")

    took = drain(connections, close_timeout=0.05)

    assert log == [("dismiss", "1"), ("dismiss", "2"), ("abandon", "1")]
    assert took > 0.045
    assert len(connections) == 0


def test_connection_that_comes_during_the_drain_is_dismissed_too(
    connections: Connections, log: Log
) -> None:
    first = Caller(connections, log, "1", leaves=False)

    draining = gevent.spawn(drain, connections)
    run_until(lambda: log == [("dismiss", "1")])
    Caller(connections, log, "2")
    run_until(lambda: len(log) == 2)
    connections.remove(first)

    assert draining.get(timeout=TIMEOUT) < TIMEOUT
    assert log == [("dismiss", "1"), ("dismiss", "2")]


def test_connection_that_ends_during_the_drain_is_not_dismissed(
    connections: Connections, log: Log
) -> None:
    first = Caller(connections, log, "1")
    second = Caller(connections, log, "2")
    first.on_dismiss = lambda: connections.remove(second)

    drain(connections)

    assert log == [("dismiss", "1")]
