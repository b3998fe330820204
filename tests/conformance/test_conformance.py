"""Every case of cases/*.txt, on TCP and on a Unix socket."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from support.gunicorn import Gunicorn
from support.waiting import wait_until

from conformance.peer import Peer
from conformance.script import Case, load

CASES = [
    pytest.param(case, id=f"{path.stem}: {case.name}")
    for path in sorted(Path(__file__).with_name("cases").glob("*.txt"))
    for case in load(path)
]


def connections(server: Gunicorn) -> int:
    """How many WebSockets the server has open."""
    return int(server.readiness()["connections"]["open"])


@pytest.mark.parametrize("case", CASES)
def test_case(bridge: Gunicorn, case: Case) -> None:
    before = connections(bridge)
    log_before = len(bridge.log)

    with closing(bridge.connect()) as sock:
        peer = Peer(sock)
        for line, step in case.steps:
            try:
                step.play(peer)
            except (AssertionError, OSError, ValueError, KeyError) as exc:
                raise AssertionError(f"{line.where}: {line.text}\n{exc}") from exc

    # It still serves, has let go of the connection, and has nothing to say.
    wait_until(lambda: connections(bridge) <= before)
    assert "Traceback" not in bridge.log[log_before:]


def test_there_are_as_many_cases_as_promised() -> None:
    assert len(CASES) >= 250
