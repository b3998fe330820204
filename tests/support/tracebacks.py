"""What a server's log says that it must not."""

from __future__ import annotations

MAX_CHARACTERS = 3000
"""Of the first traceback: hundreds may follow."""


def first_traceback(log: str) -> str | None:
    """Return the first traceback, cut off when it is long; None: there is none."""
    _, found, rest = log.partition("Traceback")
    return found + rest[:MAX_CHARACTERS] if found else None
