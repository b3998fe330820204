"""How often the sequencer steps."""

from __future__ import annotations

import pytest

from bridge.postgres.sequencer import interval_after


@pytest.mark.parametrize(
    ("steps", "milliseconds"), [(1, 3), (15, 3), (50, 10), (75, 15), (100_000, 15)]
)
def test_the_more_a_step_found_the_longer_until_the_next(
    steps: int, milliseconds: int
) -> None:
    assert interval_after(steps) == pytest.approx(milliseconds / 1000)
