"""Room for crowds: how many files this process may open."""

from __future__ import annotations

import resource


def raise_file_limit() -> int:
    """Raise the limit of open files as far as it goes; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
