"""What is done to the database that keeps the journal."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection
from support.attack.journal_life import keep_little
from support.waiting import wait_until

from faults.cases.contents import BURST
from faults.fault import Fault
from faults.stage import Stage
from faults.witness import Witness
from faults.writers import KEPT


class Restored(Fault):
    """The timeline stays the same: nothing but the positions tells of it."""

    name = "restored"
    says = (
        "PostgreSQL stopped, its data folder put back to where it was "
        "{fault.hold:g} s ago, started, and {fault.count:,} events published at once"
    )
    hold = 10.0
    quick_hold = 1.5
    #: More than were lost: the journal's end is past what everybody had.
    count = 3000

    def strike(self, stage: Stage) -> None:
        self._copy = Path(tempfile.mkdtemp(prefix="pgbridge-test-"))
        stage.stack.callback(shutil.rmtree, self._copy)
        stage.cluster.stop("fast")
        _copy(stage.cluster.folder, self._copy / "data")
        stage.cluster.start()

    def heal(self, stage: Stage) -> None:
        folder = stage.cluster.folder
        stage.cluster.stop("immediate")
        shutil.rmtree(folder)
        _copy(self._copy / "data", folder)
        # Before any session of the bridge has looked at what is there.
        burst = threading.Thread(target=self._publish, args=(stage,))
        burst.start()
        stage.cluster.start()
        burst.join()

    def _publish(self, stage: Stage) -> None:
        session = wait_until(lambda: _try_to_connect(stage))
        with closing(session), session.cursor() as cursor:
            began = time.time()
            query = BURST.format(publish="bridge.publish")
            cursor.execute(query, (KEPT[0], began, self.count))
            stage.writers.commit(session, KEPT[0], "burst", range(self.count), began)

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return True


class OpenPurge(Fault):
    """Retention wants rows that somebody else holds; no other worker can help."""

    name = "open-purge"
    says = (
        "a transaction that has called `bridge.purge` stays open for "
        "{fault.hold:g} s, while retention wants the same rows"
    )
    workers = 1
    hold = 20.0
    quick_hold = 13.0  # the sequencer forgets every ten seconds
    rows = 50

    #: Seconds without an event after which durable channels stand still.
    patience = 2.0

    def prepare(self, stage: Stage) -> None:
        keep_little(stage.database, self.rows)

    def strike(self, stage: Stage) -> None:
        self._session = stage.database.connect(autocommit=False)
        stage.stack.callback(self._session.close)
        with self._session.cursor() as cursor:
            cursor.execute("SELECT bridge.purge(%s)", (KEPT[0],))

    def heal(self, stage: Stage) -> None:
        now = time.time()
        kept = [one for one in stage.witnesses.all if one.kept]
        self._silent = [now - one.newest() for one in kept]
        self._session.rollback()
        self._session.close()

    def problems(self, stage: Stage) -> list[str]:
        longest = max(self._silent)
        if longest > self.patience:
            return [f"durable channels stood still for {longest:.0f} s"]
        return []


def _try_to_connect(stage: Stage) -> Connection | None:
    try:
        return stage.writers.connect()
    except psycopg2.Error:
        return None


def _copy(source: Path, target: Path) -> None:
    """Copy a data folder with its owner and its modes."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


FAULTS = (Restored, OpenPurge)
