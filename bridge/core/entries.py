"""What is read from the journal, and how much of it is written at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bridge.core.recent import Payload
from bridge.values.message import Batch

__all__ = [
    "MAX_PAGE_BYTES",
    "MAX_PAGE_ENTRIES",
    "Entry",
    "Found",
    "Need",
    "Page",
    "batches",
    "first_page",
]

MAX_PAGE_ENTRIES = 500
MAX_PAGE_BYTES = 256 * 1024
"""What is read and written for those who are behind at a time, at least one
entry."""

Found = Sequence[tuple[int, Payload]]
"""Positions and payloads of one channel, in order."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of the journal.

    Attributes:
        payload: its text; a `Gap` when it cannot be delivered; None when
            nobody here wanted it.
        published_at: Unix seconds by the server's clock; None: not read.
    """

    position: int
    channel: str
    payload: Payload | None
    published_at: float | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """What must be read from the table.

    Attributes:
        after: entries of `channel` after this position, up to `upto`.
    """

    channel: str
    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class Page:
    """What was read for a `Need`.

    Attributes:
        upto: no entry of the channel up to here is missing in it.
        newest: the last position of the journal.
    """

    entries: Found
    upto: int
    epoch: str
    floor: int
    newest: int


def first_page(found: Found) -> Found:
    """Return the first entries, as many as are written at a time."""
    size = 0
    for count, (_, payload) in enumerate(found[:MAX_PAGE_ENTRIES]):
        size += len(payload) if isinstance(payload, str) else 0
        if size > MAX_PAGE_BYTES and count:
            return found[:count]
    return found[:MAX_PAGE_ENTRIES]


def batches(
    epoch: str, channel: str, found: Found, before: int
) -> Iterator[tuple[Batch, int]]:
    """Cut entries into batches of a page, each with the position before it."""
    while found:
        page = first_page(found)
        payloads = tuple(payload for _, payload in page)
        cursors = tuple(f"{epoch}-{position}" for position, _ in page)
        yield Batch(channel, payloads, cursors), before
        before = page[-1][0]
        found = found[len(page) :]
