"""What a page asked and heard, in the order it happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Asked", "Closed", "Entry", "Heard", "Opened"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection begins."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request is about to be sent.

    Attributes:
        type: `subscribe`, `unsubscribe` or `ping`.
        id: ascends with each request of the page.
        channel: None: a ping has none.
    """

    type: str
    id: int
    channel: str | None = None
    cursor: str | None = None
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """A message has been read.

    Attributes:
        at: Unix seconds.
        message: as it came; of its payload only what tells the number.
    """

    at: float
    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over.

    Attributes:
        complete: the page had waited for all that was due to it, so nothing
            may be owed.
    """

    complete: bool = False


Entry = Opened | Asked | Heard | Closed
