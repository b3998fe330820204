"""The fuzz programs, for a moment each, and that they can fail."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.gunicorn import Gunicorn
from support.postgres import Database

from fuzz import reference
from fuzz.live import attack
from fuzz.run import MAX_MEMORY, Target, fuzz
from fuzz.targets import TARGETS

SECONDS = 0.5


@pytest.mark.parametrize("name", TARGETS)
def test_target_keeps_the_law(name: str) -> None:
    seed = f"{random.getrandbits(32):x}"

    report = fuzz(name, TARGETS[name](), seed, SECONDS)

    assert report.failure is None, report
    assert report.inputs > 50


def test_running_server_takes_garbage_and_its_subscribers_lose_nothing(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url, max_listeners=1, handshake_timeout=1).start()
    seed = f"{random.getrandbits(32):x}"

    report = attack(server, database, seed, seconds=3)

    assert report.failures == [], f"seed {seed}\n{report}"
    assert report.connections > 100


# A program that finds nothing must be one that can find something.


def _digits(run: Callable[[int], object]) -> Target[int]:
    """A target whose inputs are numbers from 0 to 9."""
    return Target(lambda random: random.randrange(10), run, lambda n, _: "fine")


def test_an_exception_is_a_failure_that_its_number_brings_back() -> None:
    target = _digits(lambda number: 1 // (number - 7))

    report = fuzz("digits", target, "seed", SECONDS)

    assert report.failure is not None
    assert "ZeroDivisionError" in report.failure and "input 7" in report.failure
    number = report.inputs - 1
    assert f"--seed seed --only digits --input {number}" in report.failure
    again = fuzz("digits", target, "seed", SECONDS, only=number)
    assert (again.inputs, again.failure) == (1, report.failure)


def test_an_input_that_takes_too_long_is_a_failure() -> None:
    def run(number: int) -> None:
        until = time.thread_time() + (0.15 if number == 7 else 0)
        while time.thread_time() < until:
            pass

    report = fuzz("digits", _digits(run), "seed", SECONDS)

    assert report.failure is not None and "took 15" in report.failure


def test_an_input_that_hangs_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.run.HANG_SECONDS", 0.05)

    def run(number: int) -> None:
        while number == 7:
            time.sleep(0.01)

    report = fuzz("digits", _digits(run), "seed", SECONDS)

    assert report.failure is not None and "_Hang" in report.failure


def test_an_input_that_takes_too_much_memory_is_a_failure() -> None:
    report = fuzz("digits", _digits(lambda n: bytes(2 * MAX_MEMORY)), "seed", SECONDS)

    assert report.failure is not None and "bytes are allowed" not in report.failure
    assert f"{MAX_MEMORY + 800} are allowed" in report.failure


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        # RFC 6455, 5.7.
        ("818537fa213d7f9f4d5158", [("text", "Hello")]),
        ("8105", [("violation", 1002)]),
        ("898537fa213d7f9f4d5158", [("ping", b"Hello")]),
        ("0182000000004865808300000000" + b"llo".hex(), [("text", "Hello")]),
        ("0182000000004865", []),
        ("818100000000ff", [("violation", 1007)]),
        ("018100000000ff", [("violation", 1007)]),
        ("018100000000c3", []),
        ("018200000000eda0", []),
        ("818200000000eda0", [("violation", 1007)]),
        ("018300000000eda080", [("violation", 1007)]),
        ("81fe0065", [("violation", 1002)]),
        ("81fe0100", [("violation", 1009)]),
        ("88820000000003e88105", [("close", 1000, "")]),
        ("88820000000003ed", [("violation", 1002)]),
        ("828000000000888000000000", [("binary", b""), ("close", 1005, "")]),
    ],
)
def test_reference_parser_knows_the_rfc(stream: str, expected: list[object]) -> None:
    assert reference.events(bytes.fromhex(stream), limit=200) == expected


def test_program_prints_what_it_did() -> None:
    command = [sys.executable, "-m", "fuzz", "--seconds", "0.5", "--only", "channels"]

    done = subprocess.run(
        [*command, "--seed", "abc"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )

    seed, line, outcomes = done.stdout.splitlines()
    assert seed == "seed abc"
    assert line.split()[0] == "channels" and "inputs/s, slowest" in line
    assert "refused" in outcomes
