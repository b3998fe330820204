"""What is read of the journal at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.core.entries import Entry
from bridge.postgres.journal_reader import SLICE_BYTES, JournalReader, Row
from bridge.values.message import Gap


class Outbox:
    """A session that has every payload asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def execute(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        if not query.startswith("EXECUTE pgbridge_payloads"):
            return []
        [ids] = arguments
        self.asked.append(list(ids))
        return [(id, f"payload {id}", 0.5) for id in ids]


def rows(*found: tuple[str, int]) -> list[Row]:
    """Rows 1, 2, 3 … from channels and lengths; ids are ten times that."""
    return [Row(n, 10 * n, *one, moment=0) for n, one in enumerate(found, start=1)]


def reader(outbox: Outbox, max_payload_bytes: int = 1 << 30) -> JournalReader:
    return JournalReader(
        outbox,
        max_payload_bytes,
        lambda channel, position, reason: Gap(channel, reason, 1.0),
    )


def parts(outbox: Outbox, found: list[Row]) -> list[list[Entry]]:
    return [list(part) for part in reader(outbox).entries(found, "a".__eq__)]


def test_no_more_is_read_at_a_time_than_memory_should_hold() -> None:
    outbox = Outbox()
    half = SLICE_BYTES // 2

    found = parts(outbox, rows(("a", half), ("a", half), ("a", 1), ("a", 2 * half)))

    assert [[entry.position for entry in part] for part in found] == [[1, 2], [3], [4]]
    assert outbox.asked == [[10, 20], [30], [40]]


def test_what_nobody_wants_is_neither_read_nor_counted() -> None:
    outbox = Outbox()

    [part] = parts(
        outbox, rows(("a", 1), ("b", 9 * SLICE_BYTES), ("a", SLICE_BYTES - 1))
    )

    assert part == [
        Entry(1, "a", "payload 10", 0.5),
        Entry(2, "b", None),
        Entry(3, "a", "payload 30", 0.5),
    ]
    assert outbox.asked == [[10, 30]]


def test_payload_that_is_too_long_is_not_read() -> None:
    outbox = Outbox()

    [part] = reader(outbox, 100).entries(rows(("a", 100), ("a", 101)), "a".__eq__)

    assert part[0].payload == "payload 10"
    assert part[1] == Entry(2, "a", Gap("a", "too_large", 1.0))
    assert outbox.asked == [[10]]
