"""Sessions and servers of PostgreSQL that end."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from support.files import raise_file_limit
from support.postgres import OLD_BINARIES, Cluster, Database
from support.raw import raw_websocket
from support.waiting import wait_until

from faults.fault import Fault
from faults.stage import Stage
from faults.witness import Witness


class Nothing(Fault):
    """The control."""

    name = "none"
    says = "no fault: the control"
    hold = 10.0
    quick_hold = 1.0

    def problems(self, stage: Stage) -> list[str]:
        told = [b"gap", b"interrupted", b"restored", b"unsubscribed", b"bye"]
        return [
            f"told {message.decode()}"
            for witness in stage.witnesses.all
            for _, message in witness.log
            if any(message.startswith(b'{"type":"%s"' % word) for word in told)
        ][:1]


class ListenerEnded(Fault):
    """One worker has one listener, so all of its channels are concerned."""

    name = "listener-ended"
    says = "`pg_terminate_backend` of the session with which one worker listens"

    def settings(self) -> dict[str, object]:
        return {"max_listeners": 1}

    def strike(self, stage: Stage) -> None:
        self._worker, backend = next(iter(stage.listening_backends().items()))
        stage.database.execute("SELECT pg_terminate_backend(%s)", backend)

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return stage.workers[witness] == self._worker


class Crash(Fault):
    """PostgreSQL ends every session and recovers when one of them is killed."""

    name = "backend-killed"
    says = "`kill -9` of a listening backend: PostgreSQL crashes and recovers"

    def strike(self, stage: Stage) -> None:
        backend = next(iter(stage.listening_backends().values()))
        os.kill(backend, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{backend}"))

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return True


class SequencerEnded(Fault):
    name = "sequencer-ended"
    says = "`pg_terminate_backend` of the sequencer's session"

    def strike(self, stage: Stage) -> None:
        stage.database.execute(
            "SELECT pg_terminate_backend(sequencer) FROM bridge.status"
        )

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return witness.kept


class Restart(Fault):
    name = "database-stopped"
    says = "PostgreSQL stopped at once (`-m immediate`), started {fault.hold:g} s later"
    hold = 3.0
    quick_hold = 0.5

    def strike(self, stage: Stage) -> None:
        stage.cluster.stop("immediate")

    def heal(self, stage: Stage) -> None:
        stage.cluster.start()

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return True


class RestartUnderCrowd(Fault):
    """More clients than `select()` could count: 1,024 descriptors."""

    name = "crowd-restart"
    says = (
        "PostgreSQL restarted twice under {fault.crowd:,} clients of one worker; "
        "{fault.newcomers} more come while it is away"
    )
    workers = 1
    witnesses = 2
    crowd = 5000
    per_second = 2.0
    flows_within = 20.0
    quick_crowd = 1200
    #: They take the descriptors that the lost sessions had.
    newcomers = 100

    def impossible(self) -> str | None:
        limit, needs = raise_file_limit(), self.crowd + 500
        return None if limit >= needs else f"it needs {needs} open files, has {limit}"

    def strike(self, stage: Stage) -> None:
        sessions = len(stage.database.listeners())
        stage.cluster.restart()
        with suppress(AssertionError):
            wait_until(lambda: len(stage.database.listeners()) >= sessions)
        stage.cluster.stop("immediate")
        for _ in range(self.newcomers):
            stage.stack.enter_context(raw_websocket(stage.server))

    def heal(self, stage: Stage) -> None:
        stage.cluster.start()

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return True


class Failover(Fault):
    """The embedded PostgreSQL has no pg_basebackup."""

    name = "failover"
    says = "the primary is lost, its standby promoted {fault.hold:g} s later"
    hold = 2.0
    quick_hold = 0.2

    def impossible(self) -> str | None:
        return None if OLD_BINARIES.exists() else "PostgreSQL 15 is not installed"

    def make_cluster(self) -> Cluster:
        return Cluster(OLD_BINARIES, synchronous_commit="on")

    def prepare(self, stage: Stage) -> None:
        self._standby = stage.cluster.standby()
        stage.stack.callback(self._standby.delete)
        self._standby.start()
        stage.url = (
            f"postgresql://postgres@127.0.0.1:{stage.cluster.port},"
            f"127.0.0.1:{self._standby.port}/{stage.database.name}"
            "?target_session_attrs=read-write"
        )
        # Writers follow in the same way.
        stage.database = Database.of(stage.url)

    def strike(self, stage: Stage) -> None:
        stage.cluster.stop("immediate")

    def heal(self, stage: Stage) -> None:
        self._standby.promote()

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return True


FAULTS = (
    Nothing,
    ListenerEnded,
    Crash,
    SequencerEnded,
    Restart,
    RestartUnderCrowd,
    Failover,
)
