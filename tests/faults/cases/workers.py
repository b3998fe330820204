"""Processes of the bridge that end, are replaced or stand still."""

from __future__ import annotations

import os
import signal

from support.postgres import Cluster
from support.waiting import wait_until

from faults.fault import Fault
from faults.stage import Stage
from faults.witness import Witness


class WorkerKilled(Fault):
    """The worker that is also the sequencer: the worst one."""

    name = "worker-killed"
    says = "`kill -9` of the worker that sequences, one of two"

    def strike(self, stage: Stage) -> None:
        self._victim = stage.leader()
        os.kill(self._victim, signal.SIGKILL)

    def cuts(self, stage: Stage, witness: Witness) -> bool:
        return stage.workers[witness] == self._victim

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return self.cuts(stage, witness) or witness.kept


class Reload(Fault):
    name = "reload"
    says = "HUP: every worker is replaced (counted from the end of the last old one)"

    def strike(self, stage: Stage) -> None:
        old = set(stage.server.workers)
        assert stage.server.process is not None
        stage.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: stage.server.workers and not old & set(stage.server.workers))

    def cuts(self, stage: Stage, witness: Witness) -> bool:
        return True


class NewStart(Fault):
    name = "new-start"
    says = "SIGTERM, and a new start (counted from when it is ready)"

    def strike(self, stage: Stage) -> None:
        stage.server.stop()
        stage.past_log = stage.server.log

    def heal(self, stage: Stage) -> None:
        stage.server.start()

    def cuts(self, stage: Stage, witness: Witness) -> bool:
        return True


class WorkerFrozen(Fault):
    """The sequencer again. Its sessions must not pin the queue in the end."""

    name = "worker-frozen"
    says = "SIGSTOP of the worker that sequences, for {fault.hold:g} s"
    hold = 20.0
    padding = 7000  # more than the sockets' buffers hold for it
    quick_hold = 3.0

    def make_cluster(self) -> Cluster:
        # Small, so that it can be seen.
        return Cluster(synchronous_commit="on", max_notify_queue_pages="2048")

    def strike(self, stage: Stage) -> None:
        self._victim = stage.leader()
        os.kill(self._victim, signal.SIGSTOP)

    def heal(self, stage: Stage) -> None:
        self._usage = _queue_usage(stage)
        os.kill(self._victim, signal.SIGCONT)

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return stage.workers[witness] == self._victim or witness.kept

    def problems(self, stage: Stage) -> list[str]:
        try:
            wait_until(lambda: _queue_usage(stage) == 0.0)
        except AssertionError:
            return [f"the queue is still pinned: {_queue_usage(stage):.0%}"]
        self.notes.append(
            f"The notification queue of 16 MiB was {self._usage:.0%} full in the end "
            "of the freeze, and empty at the end of the run."
        )
        return []


def _queue_usage(stage: Stage) -> float:
    [(usage,)] = stage.database.execute("SELECT pg_notification_queue_usage()")
    return float(usage)


FAULTS = (WorkerKilled, Reload, NewStart, WorkerFrozen)
