"""Requests wait for their turn, in order, and others run between two."""

from __future__ import annotations

import gevent
import pytest

from bridge.server.turnstile import Turnstile
from unit.loop import run_until


def test_each_turn_of_the_loop_lets_one_pass_in_the_order_they_came() -> None:
    turnstile = Turnstile()
    seen: list[object] = []
    turns = gevent.get_hub().loop.check()
    turns.start(seen.append, "turn")

    def visit(name: int) -> None:
        turnstile.wait()
        seen.append(name)

    for name in range(3):
        gevent.spawn(visit, name)
    run_until(lambda: 2 in seen)
    turns.stop()
    turns.close()

    assert [one for one in seen if one != "turn"] == [0, 1, 2]
    assert "turn" in seen[seen.index(0) : seen.index(1)]
    assert "turn" in seen[seen.index(1) : seen.index(2)]


def test_what_arrived_in_the_same_turn_goes_first() -> None:
    turnstile = Turnstile()
    seen: list[str] = []

    def visit() -> None:
        turnstile.wait()
        seen.append("request")

    visitor = gevent.spawn(visit)
    gevent.sleep(0)  # it waits now
    assert len(turnstile) == 1
    event = gevent.get_hub().loop.timer(0)
    event.start(seen.append, "event")
    visitor.join()
    event.close()

    assert seen == ["event", "request"]


def test_who_gives_up_leaves_the_place_to_the_next() -> None:
    turnstile = Turnstile()
    passed: list[str] = []

    def give_up() -> None:
        with gevent.Timeout(0):
            turnstile.wait()

    def visit() -> None:
        turnstile.wait()
        passed.append("second")

    first = gevent.spawn(give_up)
    second = gevent.spawn(visit)
    first.kill()
    second.join(10)

    assert passed == ["second"]
    assert len(turnstile) == 0


def test_exception_reaches_the_one_who_waits() -> None:
    turnstile = Turnstile()

    with pytest.raises(OSError, match="late"):
        with gevent.Timeout(0, OSError("late")):
            for _ in range(1000):
                turnstile.wait()
    assert len(turnstile) == 0
