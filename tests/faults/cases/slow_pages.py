"""Pages that read by fits, on several channels, and what may happen meanwhile."""

from __future__ import annotations

import time

from support.attack.attack import Attack
from support.attack.finding import STRICT, Rules, summary
from support.attack.journal_life import begin_epoch, install_anew, keep_little, prune

from faults.fault import Fault
from faults.stage import Stage
from faults.witness import Witness

REST = 60.0
"""Seconds in which every page must have everything, when all is calm again."""


class SlowPages(Fault):
    """They have channels of their own, so the witnesses are not concerned.

    Attributes:
        pages: how many there are.
        seconds: for which they do as they like.
        rules: what they may be told.
    """

    name = "slow-pages"
    says = (
        "{fault.pages} pages with nine channels each read by fits, ask for them and "
        "leave them, vanish and come back, for {fault.seconds:g} s"
    )
    pages = 12
    seconds = 30.0
    quick_pages = 8
    quick_seconds = 8.0
    rules = STRICT
    seed = "slow-pages"

    def settings(self) -> dict[str, object]:
        return {
            "send_buffer_bytes": 8 * 1024,
            "backlog_bytes": 64 * 1024,
            "heartbeat_interval": 1,
        }

    def prepare(self, stage: Stage) -> None:
        self._attack = Attack(stage.database, self.seed, self.rules)
        self._attack.prepare()
        stage.stack.callback(self._attack.stop)

    def strike(self, stage: Stage) -> None:
        self._attack.start(stage.server, self.pages)
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            self.disturb(stage)

    def disturb(self, stage: Stage) -> None:
        """Do something to the journal, once, and let some time pass."""
        time.sleep(1.0)

    def heal(self, stage: Stage) -> None:
        self._attack.calm(REST)

    def problems(self, stage: Stage) -> list[str]:
        found = summary(self._attack.findings())
        self.notes.append(f"{self._attack}.")
        return found


class SlowPagesAndNewEpochs(SlowPages):
    """By turns as after a failover, and with tables that are new as well."""

    name = "slow-pages-anew"
    says = (
        "the same while the journal begins anew again and again: a new epoch, and "
        "`pgbridge uninstall` and `install` by turns"
    )
    rules = Rules(frozenset({"epoch_changed"}), removed=True)
    seed = "anew"
    #: Seconds between two of them.
    pause = 3.0
    quick_pause = 1.5

    def prepare(self, stage: Stage) -> None:
        super().prepare(stage)
        self._turn = 0

    def disturb(self, stage: Stage) -> None:
        time.sleep(self.pause)
        self._turn += 1
        (begin_epoch if self._turn % 2 else install_anew)(stage.database)

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return witness.kept


class SlowPagesAndRetention(SlowPages):
    name = "slow-pages-expired"
    says = "the same while retention, which leaves {fault.rows} events, passes them"
    rules = Rules(frozenset({"expired"}))
    seed = "expired"
    rows = 500

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "recent_bytes": 256 * 1024}

    def prepare(self, stage: Stage) -> None:
        super().prepare(stage)
        keep_little(stage.database, self.rows)

    def disturb(self, stage: Stage) -> None:
        time.sleep(0.5)
        prune(stage.database)


FAULTS = (SlowPages, SlowPagesAndNewEpochs, SlowPagesAndRetention)
