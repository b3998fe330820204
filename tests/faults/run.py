"""One fault from beginning to end, and what became of everybody."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from support.files import raise_file_limit
from support.gunicorn import Gunicorn
from support.tracebacks import first_traceback
from support.waiting import wait_until

from faults.account import Received, Verdict, judge
from faults.fault import Fault
from faults.stage import Stage
from faults.witness import Witness, Witnesses
from faults.writers import KEPT, PLAIN, Writers

WRITERS = 4

REST = 60.0
"""Seconds until everybody is there, and until everybody has everything."""


@dataclass
class Outcome:
    """What was found.

    Attributes:
        says: what the fault was.
        not_run: why it could not be shown; then nothing else says anything.
        flows_after: seconds from the heal until everybody whom the fault
            disturbed had an event again that was published after it.
        undisturbed: how many subscribers the fault must not touch.
        closed: connections lost of those that must lose none.
        before, during: of the undisturbed, the 99th percentile of seconds from
            publish to receive; None: there is nobody.
        notes: what else was seen.
        problems: what is wrong beside the account, in words.
    """

    name: str
    says: str
    not_run: str | None = None
    verdict: Verdict = field(default_factory=Verdict)
    flows_after: float = 0.0
    undisturbed: int = 0
    closed: int = 0
    before: float | None = None
    during: float | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Say which promises were broken; the bound is 0 for all of them."""
        found = [*self.problems, *self.verdict.examples]
        if self.closed:
            found.append(f"{self.closed} connections were closed")
        if self.name == "none" and self.verdict.gaps:
            found.append(f"{self.verdict.gaps} gaps were told without a fault")
        return found

    def __str__(self) -> str:
        if self.not_run is not None:
            return f"{self.name}: not run: {self.not_run}"
        told = self.verdict
        latency = (
            ""
            if self.before is None or self.during is None
            else f", p99 {1000 * self.before:.0f} → {1000 * self.during:.0f} ms"
        )
        found = "; ".join(self.broken)
        return (
            f"{self.name}: {told.events} events, {told.lost} lost, {told.twice} twice, "
            f"{told.disorder} out of order, {told.uncommitted} not committed, "
            f"{told.gaps} gaps ({told.needless} for nothing), flows after "
            f"{self.flows_after:.2f} s, {self.closed} closed{latency}"
            + (f": {found}" if found else "")
        )


def run(kind: type[Fault], *, quick: bool) -> Outcome:
    """Let one fault happen.

    Args:
        quick: for a test; the figures mean little.
    """
    fault = kind(quick)
    outcome = Outcome(fault.name, str(fault), notes=fault.notes)
    outcome.not_run = fault.impossible()
    if outcome.not_run is not None:
        return outcome
    raise_file_limit()
    with ExitStack() as stack:
        stage = _set_up(fault, stack)
        began = time.time()
        stage.writers.start(WRITERS, fault.per_second)
        time.sleep(0.7 if quick else 8.0)
        stage.look_who_serves()
        struck = time.time()
        fault.strike(stage)
        time.sleep(fault.hold)
        fault.heal(stage)
        healed = time.time()
        if not _flows(stage, fault, healed):
            outcome.problems.append(f"after {fault.flows_within:g} s nothing flows")
        time.sleep(0.3 if quick else 5.0)
        stage.writers.stop()
        if not stage.publish_until_all_have_it(REST):
            outcome.problems.append("some never got the last event")
        outcome.problems += fault.problems(stage)
        traceback = first_traceback(stage.log)
        if traceback is not None and not fault.tracebacks:
            outcome.problems.append(f"in the log: {traceback}")
        stage.witnesses.stop()
        _account(fault, stage, outcome)
        _time(fault, stage, outcome, (began, struck, healed))
    return outcome


def _set_up(fault: Fault, stack: ExitStack) -> Stage:
    cluster = fault.make_cluster()
    stack.callback(cluster.delete)
    cluster.start()
    stage = Stage(stack, cluster, fault.make_database(cluster))
    stage.url = stage.database.url
    fault.prepare(stage)
    stage.server = Gunicorn(
        stage.url, workers=fault.workers, arguments=fault.arguments, **fault.settings()
    )
    fault.dress(stage)
    stack.callback(stage.server.end)
    stage.server.start()
    wait_until(lambda: len(stage.listening_backends()) == fault.workers)
    wait_until(lambda: "sequencer elected" in stage.server.log)
    stage.writers = Writers(stage.database, fault.padding)
    stack.callback(stage.writers.stop)
    stage.witnesses = Witnesses(stage.server)
    stack.callback(stage.witnesses.stop)
    for _ in range(fault.witnesses):
        for channel in PLAIN + KEPT:
            stage.witnesses.add(channel, kept=channel in KEPT)
    for _ in range(fault.crowd):
        stage.witnesses.add(PLAIN[0], kept=False)
    wait_until(lambda: all(one.subscribed for one in stage.witnesses.all), REST)
    return stage


def _flows(stage: Stage, fault: Fault, healed: float) -> bool:
    """Wait until everybody has got something that was published after."""
    waiting = list(stage.witnesses.all)

    def nobody_waits() -> bool:
        waiting[:] = [one for one in waiting if one.newest() < healed]
        return not waiting

    with suppress(AssertionError):
        wait_until(nobody_waits, fault.flows_within)
    return not waiting


def _account(fault: Fault, stage: Stage, outcome: Outcome) -> None:
    published = {channel: [] for channel in PLAIN + KEPT}
    for event in stage.writers.published:
        published[event.channel].append(event)
    for witness in stage.witnesses.all:
        outcome.verdict += judge(
            published[witness.channel], witness.entries(), kept=witness.kept
        )
        outcome.problems += witness.problems[:1]
        if not fault.cuts(stage, witness):
            outcome.closed += len(witness.closes)


def _time(
    fault: Fault, stage: Stage, outcome: Outcome, times: tuple[float, float, float]
) -> None:
    began, struck, healed = times
    everybody = stage.witnesses.all
    disturbed = [one for one in everybody if fault.delays(stage, one)]
    firsts = [_first(one, healed) for one in disturbed or everybody]
    outcome.flows_after = max(firsts) - healed
    calm = [one for one in everybody if one not in set(disturbed)]
    outcome.undisturbed = len(calm)
    end = max(healed + outcome.flows_after, healed + 1.0)
    outcome.before = _p99(_latencies(calm, began, struck))
    outcome.during = _p99(_latencies(calm, struck, end))


def _first(witness: Witness, moment: float) -> float:
    """When the first event came that was published after a moment."""
    return next(
        (
            one.at
            for one in witness.entries()
            if isinstance(one, Received) and one.began >= moment
        ),
        moment + REST,
    )


def _latencies(witnesses: list[Witness], since: float, until: float) -> list[float]:
    """Seconds from publish to receive of what was published in between."""
    return [
        one.at - one.began
        for witness in witnesses
        for one in witness.entries()
        if isinstance(one, Received) and since <= one.began < until
    ]


def _p99(values: list[float]) -> float | None:
    return sorted(values)[int(len(values) * 0.99)] if values else None
