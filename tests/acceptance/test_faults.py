"""Every fault, shortly (`make faults` takes its time and writes docs/faults.md)."""

from __future__ import annotations

import pytest
from faults.cases import FAULTS
from faults.run import run


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_happens_nothing_is_lost_in_silence(name: str) -> None:
    outcome = run(FAULTS[name], quick=True)

    print(outcome)
    if outcome.not_run is not None:
        pytest.skip(outcome.not_run)
    assert outcome.broken == []
    assert outcome.verdict.wrong == 0
    assert outcome.verdict.events > 100
