"""One run: everybody works, things are killed, then it is compared."""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from support import tls
from support.attack.attack import KEPT, Attack, tls_arguments
from support.attack.finding import Finding, summary
from support.attack.journal_life import keep_little
from support.attack.listeners import Listeners
from support.files import raise_file_limit
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database, make_durable
from support.repeatedly import Repeatedly
from support.tracebacks import first_traceback
from support.waiting import wait_until

from chaos.company import Company
from chaos.kills import KILLS
from chaos.scenes import SCENES, Scene

REST = 60.0
"""Seconds in which everybody must have everything, when all is calm again."""


@dataclass
class Outcome:
    """What was found.

    Attributes:
        faults: what is wrong, in words; none: all is well.
        found: what is wrong with what the pages of the attack heard.
        pages: what they did, in words.
    """

    events: int = 0
    connections: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)
    pages: str = ""

    def __str__(self) -> str:
        kills = ", ".join(f"{count} × {name}" for name, count in self.kills.items())
        found = "; ".join(self.faults) or "none lost, none twice, none out of order"
        return (
            f"{self.events} events, {self.connections} connections; {self.pages}; "
            f"killed: {kills or 'nothing'}: {found}"
        )


def run(
    *,
    seed: int,
    kills: int,
    pause: float,
    scene: Scene = SCENES["usual"],
    kind: bool = False,
    pages: int = 12,
    binaries: Path | None = None,
) -> Outcome:
    """Let it happen.

    Args:
        pause: seconds between two kills, on average.
        kind: kill nothing, and only let that time pass.
        pages: how many of the attack take part.
        binaries: of PostgreSQL; None: the embedded one.
    """
    chance = random.Random(seed)
    outcome = Outcome()
    with ExitStack() as stack:
        cluster = Cluster(binaries, synchronous_commit="on")
        stack.callback(cluster.delete)
        cluster.start()
        database = Database(cluster.url)
        make_durable(database)
        if scene.keeps is not None:
            keep_little(database, scene.keeps)
        attack = Attack(database, str(seed), scene.rules, scene.pause, scene.padding)
        attack.prepare()
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = Gunicorn(
            database.url,
            workers=scene.workers,
            health_timeout=3,
            arguments=scene.arguments + (tls_arguments(folder) if scene.tls else ()),
            **scene.settings,
        )
        stack.callback(server.end)
        _start(server, scene.workers)
        company = Company(server, database, seed) if scene.readers else None
        if company is not None:
            stack.callback(company.stop)
        if scene.listeners:
            raise_file_limit()
            listeners = Listeners(server, KEPT, scene.listeners)
            stack.callback(listeners.stop)
        stack.callback(attack.stop)
        attack.start(server, pages, tls.context() if scene.tls else None)
        disturbance = _disturb(scene, database)
        if disturbance is not None:
            stack.callback(disturbance.stop)
        for _ in range(kills):
            time.sleep(chance.uniform(0.5, 1.5) * pause)
            if not kind:
                [name] = chance.choices(
                    list(KILLS), [weight for weight, _ in KILLS.values()]
                )
                KILLS[name][1](cluster, database, server, chance)
                outcome.kills[name] += 1
        if disturbance is not None:
            disturbance.stop()
        attack.calm(REST)
        if company is not None:
            outcome.faults += company.faults()
            outcome.events, outcome.connections = company.events, company.connections
        outcome.found = attack.findings()
        outcome.pages = str(attack)
        outcome.faults += summary(outcome.found)
        traceback = first_traceback(server.log)
        if traceback is not None:
            outcome.faults.append(f"in the log: {traceback}")
    return outcome


def _start(server: Gunicorn, workers: int) -> None:
    """Start it; with TLS, /readyz is not to be read in the usual way."""
    server.launch()
    wait_until(lambda: server.log.count("listener connected") == workers)


def _disturb(scene: Scene, database: Database) -> Repeatedly | None:
    disturb = scene.disturb
    if disturb is None:
        return None
    return Repeatedly(lambda: disturb(database), scene.every)
