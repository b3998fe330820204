"""Gunicorn's configuration for the soak: pgbridge's, and workers that can be
asked how many greenlets they have."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Any

from greenlet import greenlet
from support.waiting import wait_until

from bridge.hooks.gunicorn_conf import *  # noqa: F403  # Gunicorn reads a module

ASK = signal.SIGRTMIN


def count_greenlets(folder: Path, workers: list[int]) -> int:
    """Ask every worker of a server that runs in `folder`, and return the sum."""
    return sum(_ask(folder / f"greenlets.{pid}", pid) for pid in workers)


def _ask(answer: Path, pid: int) -> int:
    answer.unlink(missing_ok=True)
    os.kill(pid, ASK)
    wait_until(answer.exists)
    return int(answer.read_text())


def post_worker_init(worker: Any) -> None:
    """Answer; Gunicorn's hook."""
    signal.signal(ASK, lambda *_: _answer())


def _answer() -> None:
    living = sum(isinstance(one, greenlet) and bool(one) for one in gc.get_objects())
    unfinished = Path(f"unfinished.{os.getpid()}")
    unfinished.write_text(str(living))
    unfinished.rename(f"greenlets.{os.getpid()}")
