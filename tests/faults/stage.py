"""Where a fault happens: database, server, subscribers and writers, all real."""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database
from support.waiting import wait_until

from faults.witness import Witness, Witnesses
from faults.writers import Writers


@dataclass
class Stage:
    """What a fault may touch.

    Attributes:
        stack: what is to be undone when all is over, last first.
        url: of the database, for the bridge; writers go to `database`.
        workers: the process that serves each subscriber when the fault strikes.
        past_log: of servers that were stopped.
    """

    stack: ExitStack
    cluster: Cluster
    database: Database
    url: str = ""
    server: Gunicorn = field(init=False)
    witnesses: Witnesses = field(init=False)
    writers: Writers = field(init=False)
    workers: dict[Witness, int] = field(default_factory=dict)
    past_log: str = ""

    @property
    def log(self) -> str:
        """What the server has said."""
        return self.past_log + self.server.log

    def leader(self) -> int:
        """Return the worker that was elected sequencer last."""
        found = re.findall(r"\[(\d+)\] \[INFO\] sequencer elected", self.server.log)
        return int(found[-1])

    def listening_backends(self) -> dict[int, int]:
        """Return the last listening backend of each worker, by worker."""
        pattern = r"\[(\d+)\] \[INFO\] listener connected, backend (\d+)"
        return {
            int(worker): int(backend)
            for worker, backend in re.findall(pattern, self.server.log)
        }

    def look_who_serves(self) -> None:
        """Fill `workers`."""
        workers = {}
        for pid in self.server.workers:
            for port in _peers(pid):
                workers[port] = pid
        self.workers = {
            witness: workers[witness.port]
            for witness in self.witnesses.all
            if witness.port in workers
        }

    def publish_until_all_have_it(self, timeout: float) -> bool:
        """Publish a last event on each channel, until all have the very last."""
        until = time.monotonic() + timeout
        number = 0
        while time.monotonic() < until:
            number += 1
            channels = {witness.channel for witness in self.witnesses.all}
            session = self.writers.connect()
            for channel in sorted(channels):
                self.writers.publish(session, channel, "last", [number])
            session.close()
            try:
                wait_until(
                    lambda number=number: all(  # type: ignore[misc]
                        witness.has("last", number) for witness in self.witnesses.all
                    ),
                    min(3.0, timeout),
                )
                return True
            except AssertionError:
                continue
        return False


def _peers(pid: int) -> list[int]:
    """Return the remote ports of a process's TCP connections."""
    mine = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            mine.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            continue  # closed meanwhile
    found = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if f"socket:[{columns[9]}]" in mine:
            found.append(int(columns[2].partition(":")[2], 16))
    return found
