"""Many inputs for one target, and the bounds that hold for all targets.

The law: `run` returns, in less than `MAX_SECONDS` of processor time and with
memory in proportion to the input, and `judge` agrees with what it returned.

Input number n of a seed is always the same, so that one is found again by its
number alone.
"""

from __future__ import annotations

import gc
import resource
import signal
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import FrameType
from typing import Any, Generic, TypeVar

__all__ = ["Report", "Target", "fuzz", "size_of"]

MAX_SECONDS = 0.1
"""Of processor time, for one input."""

HANG_SECONDS = 10.0
"""Of the clock, after which an input is given up."""

MEMORY_EVERY = 100
"""Every so many inputs the memory is measured, which takes ten times as long."""

MAX_MEMORY = 1 << 20
"""Bytes that any input may take for a moment, and then:"""

MAX_MEMORY_FACTOR = 100
"""Bytes for each byte or character of an input; small JSON values take 60."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target(Generic[T]):
    """Something that takes what strangers send.

    Attributes:
        make: makes an input.
        run: what is measured; a value of ours or an error of ours is returned.
        judge: says in a word what the outcome was, for the report; raises
            AssertionError when it is wrong.
    """

    make: Callable[[Random], T]
    run: Callable[[T], Any]
    judge: Callable[[T, Any], str]


@dataclass(slots=True)
class Report:
    """What a run has seen."""

    name: str
    inputs: int = 0
    #: Of the clock.
    seconds: float = 0.0
    #: Seconds of processor time of the slowest input.
    slowest: float = 0.0
    #: Most bytes that one of the measured inputs took.
    memory: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    #: What was wrong with an input, and how to see it again; None: nothing.
    failure: str | None = None

    def __str__(self) -> str:
        rate = self.inputs / self.seconds if self.seconds else 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        common = ", ".join(f"{n} {word}" for word, n in self.outcomes.most_common(6))
        line = (
            f"{self.name:<14} {self.inputs:>9} inputs {self.seconds:>7.1f} s "
            f"{rate:>8.0f} inputs/s, slowest {self.slowest * 1000:.1f} ms, "
            f"largest {self.memory / 1024:.0f} KiB, process {peak:.0f} MiB\n"
            f"    {common}"
        )
        return line if self.failure is None else f"{line}\n{self.failure}"


class _Hang(BaseException):
    """An input is not done with in time; no handler of ours may catch it."""


def fuzz(
    name: str,
    target: Target[Any],
    seed: str,
    seconds: float,
    only: int | None = None,
) -> Report:
    """Try inputs until the time is over or one is wrong.

    Args:
        only: try this one and no other.
    """
    report = Report(name)
    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, _hang)
    try:
        number = only or 0
        while report.failure is None:
            _try(report, target, seed, number)
            report.inputs += 1
            number += 1
            report.seconds = time.monotonic() - began
            if only is not None or report.seconds >= seconds:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return report


def _hang(number: int, frame: FrameType | None) -> None:
    raise _Hang


def _try(report: Report, target: Target[Any], seed: str, number: int) -> None:
    value = target.make(Random(f"{seed}/{report.name}/{number}"))
    measured = number % MEMORY_EVERY == 0
    try:
        outcome = _run(report, target, value, measured)
        report.outcomes[target.judge(value, outcome)] += 1
    # The law is that nothing comes here, whatever it is.
    except (Exception, _Hang) as exc:
        where = traceback.extract_tb(exc.__traceback__)[-1]
        again = f"python -m fuzz --seed {seed} --only {report.name} --input {number}"
        report.failure = (
            f"    {type(exc).__name__}: {str(exc)[:500]}\n"
            f"    {where.filename}:{where.lineno}: {where.line}\n"
            f"    input {repr(value)[:500]}\n"
            f"    again: {again}"
        )


def _run(report: Report, target: Target[Any], value: Any, measured: bool) -> Any:
    if measured:
        tracemalloc.start()
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    gc.disable()  # what others have left is not the input's time
    began = time.thread_time()
    try:
        outcome = target.run(value)
    finally:
        took = time.thread_time() - began
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        memory = 0
        if measured:
            memory = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    report.memory = max(report.memory, memory)
    most = MAX_MEMORY + MAX_MEMORY_FACTOR * size_of(value)
    assert memory <= most, f"took {memory} bytes, {most} are allowed"
    if not measured:
        report.slowest = max(report.slowest, took)
        assert took <= MAX_SECONDS, f"took {took * 1000:.0f} ms"
    return outcome


def size_of(value: Any) -> int:
    """Return the bytes and characters in an input, whatever it is made of."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        return sum(size_of(key) + size_of(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(size_of, value))
    return 8
