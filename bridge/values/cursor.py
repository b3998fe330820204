"""Cursors: a position of the journal, in the epoch that it belongs to.

Opaque to clients, who keep the last one and send it back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.values.errors import BadCursor

__all__ = ["Cursor", "parse_cursor"]

_FORM = re.compile("([0-9a-f]{1,32})-(0|[1-9][0-9]{0,18})", re.ASCII)

_MAX_POSITION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything up to `position` is known.

    Attributes:
        epoch: positions of different epochs cannot be compared.
    """

    epoch: str
    position: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.position}"

    def obstacle(self, epoch: str, floor: int) -> str | None:
        """Say why a journal does not have what comes next; None: it may have."""
        if self.epoch != epoch:
            return "epoch_changed"
        return "expired" if self.position < floor else None


def parse_cursor(text: str) -> Cursor:
    """Read what a client sent.

    Raises:
        BadCursor: this server never gave such a cursor.
    """
    found = _FORM.fullmatch(text)
    if found is None or int(found[2]) > _MAX_POSITION:
        raise BadCursor(f"cursor {text[:64]!r} is not valid")
    return Cursor(found[1], int(found[2]))
