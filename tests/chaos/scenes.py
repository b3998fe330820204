"""How bridge and journal are set up in a round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.attack.finding import STRICT, Rules
from support.attack.journal_life import begin_epoch, install_anew, prune
from support.attack.publishers import PADDING, PAUSE
from support.postgres import Database

__all__ = ["SCENES", "Scene"]

TESTS = str(Path(__file__).parent.parent)

BUFFERS = {"backlog_bytes": 64 * 1024, "send_buffer_bytes": 8 * 1024}
"""As small as they may be, so that they are full at once."""

OFTEN = {"heartbeat_interval": 1}
"""Each heartbeat says a position: let there be many."""

LIVELY = {**OFTEN, "max_message_rate": 0}
"""And whatever a page asks is answered at once."""


@dataclass(frozen=True)
class Scene:
    """One setting of the stage.

    Attributes:
        settings: of the bridge.
        listeners: how many more listen to durable channels: so many that a
            batch is written in slices.
        pause, padding: as of `Publishers`.
        tls: Gunicorn ends TLS.
        readers: whether the readers that must be told nothing take part, and
            the writers that they are held against.
        keeps: entries that retention leaves; None: all.
        disturb: done to the database every `every` seconds; None: nothing is.
        rules: what pages may be told because of that.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    workers: int = 3
    listeners: int = 0
    pause: float = PAUSE
    padding: int = PADDING
    tls: bool = False
    readers: bool = False
    keeps: int | None = None
    disturb: Callable[[Database], None] | None = None
    every: float = 1.0
    rules: Rules = STRICT


SCENES = {
    scene.name: scene
    for scene in (
        Scene("usual", OFTEN, readers=True),
        Scene("tight", {**BUFFERS, **LIVELY}),
        Scene(
            "crowd",
            {**LIVELY, "max_listeners": 1},
            workers=1,
            listeners=4000,
            pause=1.0,
            padding=50,
        ),
        Scene("tls", {**BUFFERS, **LIVELY}, tls=True),
        Scene(
            "dawdling",
            {
                **LIVELY,
                "send_buffer_bytes": 8 * 1024,
                "public_channels": "",
                "access": "support.policies.Dawdles",
            },
            arguments=("--pythonpath", TESTS),
        ),
        Scene(
            "retention",
            {**BUFFERS, **LIVELY, "recent_bytes": 256 * 1024},
            keeps=500,
            disturb=prune,
            rules=Rules(frozenset({"expired"})),
        ),
        Scene(
            "epochs",
            {**BUFFERS, **LIVELY},
            disturb=begin_epoch,
            every=1.0,
            rules=Rules(frozenset({"epoch_changed"})),
        ),
        Scene(
            "anew",
            {**BUFFERS, **LIVELY},
            disturb=install_anew,
            every=1.5,
            rules=Rules(frozenset({"epoch_changed"}), removed=True),
        ),
    )
}
"""All of them by name; rounds take one after another."""
