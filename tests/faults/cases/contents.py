"""What PostgreSQL has to carry: too much, too long, or not a text."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import psycopg2
from support.postgres import Cluster, Database, make_durable
from support.waiting import wait_until

from faults.fault import Fault
from faults.stage import Stage
from faults.witness import Witness
from faults.writers import KEPT, PLAIN

BURST = """
SELECT count({publish}(%s, json_build_object('w', 'burst', 'n', n, 't', %s)::text))
FROM generate_series(0, %s - 1) AS n
"""


class Burst(Fault):
    name = "50000-at-once"
    says = (
        "{fault.count:,} notifications in one transaction, then as many durable events"
    )
    count = 50_000
    witnesses = 2  # that this process has time for the others
    quick_count = 5000

    def strike(self, stage: Stage) -> None:
        writers = stage.writers
        for channel, publish in ((PLAIN[0], "pg_notify"), (KEPT[0], "bridge.publish")):
            with closing(writers.connect()) as session, session.cursor() as cursor:
                began = time.time()
                query = BURST.format(publish=publish)
                cursor.execute(query, (channel, began, self.count))
                writers.commit(session, channel, "burst", range(self.count), began)

    def delays(self, stage: Stage, witness: Witness) -> bool:
        # All durable channels have one order, and so wait for one another.
        return witness.kept or witness.channel == PLAIN[0]


class QueueFull(Fault):
    """The queue has half a MiB here, in place of 8 GiB."""

    name = "queue-full"
    says = (
        "PostgreSQL's notification queue is full for {fault.hold:g} s: a session "
        "listens and does not end its transaction"
    )
    hold = 10.0
    quick_hold = 1.0

    def make_cluster(self) -> Cluster:
        return Cluster(synchronous_commit="on", max_notify_queue_pages="64")

    def settings(self) -> dict[str, object]:
        return {"health_interval": 0.5} if self.quick else {}

    def strike(self, stage: Stage) -> None:
        self._pin = stage.database.connect()
        stage.stack.callback(self._pin.close)
        with self._pin.cursor() as cursor:
            cursor.execute("LISTEN nothing")
            cursor.execute("BEGIN; SELECT 1")
        with closing(stage.database.connect()) as filler, filler.cursor() as cursor:
            for _ in range(100):
                try:
                    cursor.execute("SELECT pg_notify('filler', repeat('x', 7900))")
                except psycopg2.Error:
                    break

    def heal(self, stage: Stage) -> None:
        self._pin.close()

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return True

    def problems(self, stage: Stage) -> list[str]:
        return _refused(self, stage, "ProgramLimitExceeded")


class Encoding(Fault):
    name = "encoding"
    says = "a database in SQL_ASCII, and 200 payloads that are not UTF-8"
    hold = 5.0
    quick_hold = 0.5

    def make_database(self, cluster: Cluster) -> Database:
        database = Database(
            cluster.url,
            "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        )
        make_durable(database)
        return database

    def strike(self, stage: Stage) -> None:
        with closing(stage.writers.connect()) as session:
            session.set_client_encoding("LATIN1")  # each byte as it is
            for number in range(50):
                for channel in PLAIN + KEPT:
                    writer = f"odd {channel}"
                    stage.writers.publish(session, channel, writer, [number], "Z\xfc")


class DiskFull(Fault):
    """Everything of schema bridge is on a small disk of its own."""

    name = "disk-full"
    says = "the disk of schema bridge is full for {fault.hold:g} s"
    padding = 2000
    hold = 10.0
    quick_hold = 2.0

    def impossible(self) -> str | None:
        with tempfile.TemporaryDirectory() as folder:
            done = _mount(folder)
            if done.returncode == 0:
                _unmount(folder)
        return done.stderr.strip() or None

    def prepare(self, stage: Stage) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pgbridge-test-"))
        stage.stack.callback(folder.rmdir)
        _mount(str(folder)).check_returncode()
        stage.stack.callback(_unmount, str(folder))
        stage.stack.callback(stage.cluster.stop)
        self._ballast = folder / "ballast"
        space = folder / "space"
        space.mkdir()
        if stage.cluster.user is not None:
            os.chown(space, *_ids(stage.cluster.folder))
        stage.database.execute(f"CREATE TABLESPACE small LOCATION '{space}'")
        for kind in ("TABLE", "INDEX"):
            stage.database.execute(
                f"ALTER {kind} ALL IN TABLESPACE pg_default SET TABLESPACE small"
            )

    def strike(self, stage: Stage) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(65536)):
                    pass
            except OSError:
                pass

    def heal(self, stage: Stage) -> None:
        # Tables may have pages to spare, which last for a while.
        with suppress(AssertionError):
            wait_until(lambda: stage.writers.refusals["DiskFull"] > 0)
        self._ballast.unlink()

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return witness.kept

    def problems(self, stage: Stage) -> list[str]:
        return _refused(self, stage, "DiskFull")


def _refused(fault: Fault, stage: Stage, error: str) -> list[str]:
    """Note how often PostgreSQL refused a transaction for this."""
    count = stage.writers.refusals[error]
    fault.notes.append(f"PostgreSQL refused {count} transactions of the writers.")
    return [] if count else [f"no writer was refused: {stage.writers.refusals}"]


def _mount(folder: str) -> subprocess.CompletedProcess[str]:
    return _as_root("mount", "-t", "tmpfs", "-o", "size=32m,mode=0755", "none", folder)


def _unmount(folder: str) -> None:
    _as_root("umount", folder).check_returncode()


def _as_root(*command: str) -> subprocess.CompletedProcess[str]:
    root = [] if os.getuid() == 0 else ["sudo", "-n"]
    return subprocess.run([*root, *command], capture_output=True, text=True)


def _ids(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


FAULTS = (Burst, QueueFull, Encoding, DiskFull)
