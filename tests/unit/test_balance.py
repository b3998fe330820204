"""The table of connections that workers share."""

from __future__ import annotations

import pytest

from bridge.server.balance import Row, Table
from unit.doubles import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rows(clock: Clock) -> list[Row]:
    table = Table(clock)
    return [table.row(number) for number in range(3)]


def test_single_worker_waits_for_nobody(rows: list[Row]) -> None:
    assert rows[0].should_wait(10_000) is False


@pytest.mark.parametrize(
    ("mine", "least", "waits"),
    [(4, 0, False), (5, 0, True), (104, 100, False), (105, 100, True)]
    + [(1020, 1000, False), (1021, 1000, True)],
)
def test_worker_waits_for_one_that_has_clearly_fewer(
    rows: list[Row], mine: int, least: int, waits: bool
) -> None:
    rows[1].update(least)
    rows[2].update(least + 50)

    assert rows[0].should_wait(mine) is waits


def test_frozen_worker_is_not_waited_for(rows: list[Row], clock: Clock) -> None:
    rows[1].update(0)
    clock.now += 2.9
    assert rows[0].should_wait(100) is True

    clock.now += 0.1

    assert rows[0].should_wait(100) is False


def test_worker_that_leaves_is_not_waited_for(rows: list[Row]) -> None:
    rows[1].update(0)
    rows[1].leave()

    assert rows[0].should_wait(100) is False


def test_worker_that_boots_is_there_and_not_waited_for(
    clock: Clock,
) -> None:
    table = Table(clock)
    old = table.row(0)
    assert old.is_alone

    young = table.row(1)

    assert not old.is_alone
    assert old.should_wait(10_000) is False
    young.leave()
    assert old.is_alone


def test_new_worker_takes_a_row_as_empty(clock: Clock) -> None:
    table = Table(clock)
    first, old = table.row(0), table.row(1)
    old.update(0)

    table.row(257)

    assert first.should_wait(100) is False
