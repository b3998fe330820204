"""Twelve writers, three workers, twenty kills; and pages that do all they may.

`make chaos` goes on for longer, on every scene.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from chaos.run import run
from chaos.scenes import SCENES
from support.postgres import OLD_BINARIES


@pytest.mark.parametrize("binaries", [None, OLD_BINARIES], ids=["embedded", "15"])
def test_whatever_is_killed_nothing_is_lost(binaries: Path | None) -> None:
    if binaries is not None and not binaries.exists():
        pytest.skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
    seed = secrets.randbelow(1_000_000)

    outcome = run(seed=seed, kills=20, pause=0.8, binaries=binaries)

    print(f"seed {seed}: {outcome}")
    assert outcome.faults == []
    assert outcome.events > 100


def test_slow_pages_lose_nothing_in_silence() -> None:
    seed = secrets.randbelow(1_000_000)

    outcome = run(seed=seed, kills=6, pause=1.2, scene=SCENES["tight"])

    print(f"seed {seed}: {outcome}")
    assert outcome.faults == []
