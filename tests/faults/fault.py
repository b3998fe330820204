"""What a fault is: prepared, struck, healed; and whom it may disturb."""

from __future__ import annotations

from support.postgres import Cluster, Database, make_durable

from faults.stage import Stage
from faults.witness import Witness

__all__ = ["Fault"]


class Fault:
    """A fault; each kind is a class, which says by attributes how it is shown.

    In a short run the attribute `quick_x` takes the place of `x`.

    Attributes:
        name: for the command line.
        says: what happens, for the page; may name attributes of `fault`.
        arguments: further ones of Gunicorn.
        workers: of the bridge.
        hold: seconds between strike and heal.
        witnesses: subscribers of each channel.
        crowd: further subscribers of plain_0.
        padding: bytes that make each event longer.
        per_second: transactions of each writer.
        flows_within: seconds from heal in which everybody must have something.
        tracebacks: whether the log may have some.
        quick: whether this is a short run.
        notes: what was seen, for the page.
    """

    name: str
    says: str
    arguments: tuple[str, ...] = ()
    workers: int = 2
    hold: float = 0.0
    witnesses: int = 6
    crowd: int = 0
    padding: int = 0
    per_second: float = 25.0
    flows_within: float = 60.0
    tracebacks = False

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.notes: list[str] = []
        if quick:
            for name in dir(self):
                if name.startswith("quick_"):
                    setattr(self, name.removeprefix("quick_"), getattr(self, name))

    def __str__(self) -> str:
        """Say what happens."""
        return self.says.format(fault=self)

    def impossible(self) -> str | None:
        """Why it cannot be shown on this machine; None: it can."""
        return None

    def make_cluster(self) -> Cluster:
        """Make the database server; not started."""
        return Cluster(synchronous_commit="on")

    def settings(self) -> dict[str, object]:
        """Return settings of the bridge."""
        return {}

    def make_database(self, cluster: Cluster) -> Database:
        """Make the database with its durable channels."""
        database = Database(cluster.url)
        make_durable(database)
        return database

    def prepare(self, stage: Stage) -> None:
        """Before the server starts; may set `stage.url`."""

    def dress(self, stage: Stage) -> None:
        """Change how the server is started."""

    def strike(self, stage: Stage) -> None:
        """Let it happen, while everybody works."""

    def heal(self, stage: Stage) -> None:
        """Take the cause away; ends when it is gone."""

    def cuts(self, stage: Stage, witness: Witness) -> bool:
        """Whether the witness may lose its connection to the bridge."""
        return False

    def delays(self, stage: Stage, witness: Witness) -> bool:
        """Whether the witness may have to wait, or be told a gap."""
        return self.cuts(stage, witness)

    def problems(self, stage: Stage) -> list[str]:
        """Say what is wrong beside the account, after it was healed."""
        return []
