"""Who gives positions: one at a time, and another when it fails."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.waiting import wait_until

LATE = 3.0
"""Seconds; another worker steps after 1 to 1.3 s, and a machine may be busy."""


@pytest.fixture
def server(gunicorn: Callable[..., Gunicorn], durable_database: Database) -> Gunicorn:
    server = gunicorn(durable_database.url, workers=2, heartbeat_interval=60).start()
    wait_until(lambda: leader(server) in server.workers)
    return server


def leader(server: Gunicorn) -> int | None:
    """The worker that was elected last."""
    found = re.findall(r"\[(\d+)\] \[INFO\] sequencer elected", server.log)
    return int(found[-1]) if found else None


def door_is_shut(database: Database) -> bool:
    [(shut,)] = database.execute(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' "
        "AND classid = bridge.lock_class()::oid AND objid = 1 "
        "AND mode = 'ExclusiveLock' AND granted "
        "AND database = (SELECT oid FROM pg_database "
        "WHERE datname = current_database()))"
    )
    return bool(shut)


@contextmanager
def page_of_another_worker(server: Gunicorn, worker: int | None) -> Iterator[Client]:
    """Subscribe with a worker that is not `worker`."""
    made: list[Client] = []
    try:
        while True:
            page = Client(server, "kept_a")
            made.append(page)
            page.receive()
            if any(_serves(pid, page) for pid in server.workers if pid != worker):
                yield page
                return
    finally:
        for page in made:
            page.socket.close()


def _serves(pid: int, page: Client) -> bool:
    """Whether a worker holds the other end of a page's connection."""
    port = page.socket.local_address[1]
    with open(f"/proc/{pid}/net/tcp") as file:
        inodes = {
            line.split()[9] for line in file if line.split()[2].endswith(f":{port:04X}")
        }
    links = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            links.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return any(f"socket:[{inode}]" in links for inode in inodes)


def test_one_of_two_candidates_is_the_sequencer(
    server: Gunicorn, durable_database: Database
) -> None:
    [(backend,)] = durable_database.execute("SELECT sequencer FROM bridge.status")
    elected = server.log.count("sequencer elected")

    durable_database.publish("kept_a", "x")
    wait_until(lambda: durable_database.positions() == 1)

    assert backend is not None
    assert elected == server.log.count("sequencer elected") == 1


def test_terminated_backend_is_replaced(
    server: Gunicorn, durable_database: Database
) -> None:
    with closing(Client(server, "kept_a").socket):
        durable_database.execute(
            "SELECT pg_terminate_backend(sequencer) FROM bridge.status"
        )
        began = time.monotonic()
        durable_database.publish("kept_a", "x")
        wait_until(lambda: durable_database.positions() == 1)

    assert time.monotonic() - began < LATE
    wait_until(lambda: server.log.count("sequencer elected") == 2)


def test_sequencer_killed_asleep_is_replaced(
    server: Gunicorn, durable_database: Database
) -> None:
    wait_until(lambda: door_is_shut(durable_database))
    dead = leader(server)
    assert dead is not None

    os.kill(dead, signal.SIGKILL)
    began = time.monotonic()
    durable_database.publish("kept_a", "x")

    wait_until(lambda: durable_database.positions() == 1)
    assert time.monotonic() - began < LATE


def test_sequencer_frozen_asleep_does_not_hold_up_the_others(
    server: Gunicorn, durable_database: Database
) -> None:
    frozen = leader(server)
    assert frozen is not None
    with page_of_another_worker(server, frozen) as page:
        wait_until(lambda: door_is_shut(durable_database))
        os.kill(frozen, signal.SIGSTOP)
        try:
            began = time.monotonic()
            durable_database.publish("kept_a", "1")
            assert page.payloads(1) == ["1"]
            assert time.monotonic() - began < LATE
        finally:
            os.kill(frozen, signal.SIGCONT)


def test_sequencer_frozen_awake_is_ended(
    server: Gunicorn, durable_database: Database
) -> None:
    frozen = leader(server)
    assert frozen is not None
    with page_of_another_worker(server, frozen) as page:
        wait_until(lambda: _froze_awake(frozen, durable_database))
        try:
            for number in range(4):
                began = time.monotonic()
                durable_database.publish("kept_a", str(number))
                message = page.receive()
                while message.get("text") != str(number):  # of what kept it awake
                    message = page.receive()
                assert time.monotonic() - began < LATE
            wait_until(lambda: leader(server) != frozen)
        finally:
            os.kill(frozen, signal.SIGCONT)
    assert "sequencer does nothing" in server.log
    durable_database.publish("kept_a", "after")


def _froze_awake(worker: int, database: Database) -> bool:
    """Freeze a sequencer; whether the door was open then."""
    database.publish("kept_a", "wake")
    os.kill(worker, signal.SIGSTOP)
    if not door_is_shut(database):
        return True
    os.kill(worker, signal.SIGCONT)
    return False


def test_sequencer_that_nobody_rings_for_is_not_ended(
    gunicorn: Callable[..., Gunicorn], durable_database: Database
) -> None:
    """Others find work again and again, between its looks once a second."""
    server = gunicorn(durable_database.url, workers=4).start()
    wait_until(lambda: "sequencer elected" in server.log)
    with closing(durable_database.connect()) as writer, writer.cursor() as cursor:
        cursor.execute("SET bridge.wake = off")
        for number in range(15):
            began = time.monotonic()
            cursor.execute("SELECT bridge.publish('kept_a', 'x')")
            wait_until(lambda: durable_database.positions() == number + 1)  # noqa: B023
            # When the journal has not moved for so long, others step.
            wait_until(lambda: time.monotonic() - began > 1.7)  # noqa: B023

    assert server.log.count("sequencer elected") == 1
    assert "sequencer does nothing" not in server.log


@pytest.mark.measures
def test_no_event_waits_for_the_look_once_a_second(
    gunicorn: Callable[..., Gunicorn], durable_database: Database
) -> None:
    server = gunicorn(durable_database.url).start()
    chance = random.Random(1)
    slow = durable_database.connect(autocommit=False)
    with Client(server, "kept_a") as page, closing(slow), slow.cursor() as cursor:
        page.receive()
        worst = 0.0
        for number in range(100):
            # All phases of a sequencer that wakes, steps and shuts the door.
            cursor.execute("SELECT bridge.publish('kept_a', %s)", (str(number),))
            time.sleep(chance.choice((0, 0.001, 0.01, 0.02, 0.03)))
            slow.commit()
            began = time.monotonic()
            assert page.payloads(1) == [str(number)]
            worst = max(worst, time.monotonic() - began)
            time.sleep(chance.uniform(0, 0.03))

    assert server.readiness()["sequencer"] == {"leading": True, "found_late": 0}
    assert worst < 0.9
