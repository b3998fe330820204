"""How long to wait before the next try."""

from __future__ import annotations

import pytest

from bridge.postgres import back_off
from bridge.postgres.back_off import MAX_BOUND, MIN_BOUND, STABLE_AFTER, BackOff
from unit.doubles import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tries(clock: Clock) -> BackOff:
    return BackOff(clock)


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance gives the longest wait that is possible."""
    monkeypatch.setattr(back_off.random, "uniform", lambda low, high: high)


@pytest.fixture
def shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance gives the shortest wait that is possible."""
    monkeypatch.setattr(back_off.random, "uniform", lambda low, high: low)


def delays(tries: BackOff, count: int) -> list[float]:
    return [round(tries.delay(), 6) for _ in range(count)]


@pytest.mark.usefixtures("longest")
def test_bound_doubles_until_its_maximum(tries: BackOff) -> None:
    assert delays(tries, 9) == [
        0.15,
        0.25,
        0.45,
        0.85,
        1.65,
        3.25,
        6.45,
        MAX_BOUND + 0.05,
        MAX_BOUND + 0.05,
    ]


@pytest.mark.usefixtures("shortest")
def test_wait_is_never_none(tries: BackOff) -> None:
    assert delays(tries, 3) == [MIN_BOUND / 2] * 3


def test_wait_is_random_within_its_bound(tries: BackOff) -> None:
    delays(tries, 10)

    found = delays(tries, 50)

    assert len(set(found)) > 25
    assert all(MIN_BOUND / 2 <= delay <= MAX_BOUND + MIN_BOUND / 2 for delay in found)


@pytest.mark.usefixtures("longest")
def test_session_that_lasted_begins_anew(tries: BackOff, clock: Clock) -> None:
    delays(tries, 5)
    tries.there()
    clock.now += STABLE_AFTER + 0.001

    assert delays(tries, 2) == [0.15, 0.25]


@pytest.mark.usefixtures("longest")
def test_session_that_did_not_last_goes_on(tries: BackOff, clock: Clock) -> None:
    delays(tries, 2)
    tries.there()
    clock.now += STABLE_AFTER

    assert delays(tries, 1) == [0.45]


@pytest.mark.usefixtures("longest")
def test_good_session_counts_once(tries: BackOff, clock: Clock) -> None:
    tries.there()
    clock.now += STABLE_AFTER + 1
    delays(tries, 2)
    clock.now += STABLE_AFTER + 1

    assert delays(tries, 1) == [0.45]
