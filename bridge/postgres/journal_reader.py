"""What is asked of the journal, on one session: its tail, a page, payloads.

Every statement is prepared once and pinned to index scans: what is asked does
not change with statistics. Nothing that is too long is ever read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bridge.core.entries import MAX_PAGE_BYTES, MAX_PAGE_ENTRIES, Entry, Need, Page
from bridge.core.recent import Payload
from bridge.postgres.schema import EmptyTable
from bridge.postgres.session import Session
from bridge.values.message import Gap

__all__ = ["TAIL_ENTRIES", "JournalReader", "Row", "Tail"]

TAIL_ENTRIES = 1000
"""Rows of the tail that are read at a time."""

SLICE_BYTES = 1 << 20
"""Of payloads that are read at a time, at least one."""

_SESSION = """
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET jit = off;
SET plan_cache_mode = force_generic_plan;
PREPARE pgbridge_tail (bigint, integer) AS
SELECT s.epoch, f.pos, t.pos, j.pos, j.id, j.channel, j.bytes,
    (extract(epoch FROM j.at) * 1000000)::bigint
FROM bridge.state AS s
CROSS JOIN bridge.floor AS f
CROSS JOIN (SELECT pos FROM bridge.tick ORDER BY pos DESC LIMIT 1) AS t
LEFT JOIN LATERAL (
    SELECT * FROM bridge.journal WHERE pos > $1 ORDER BY pos LIMIT $2
) AS j ON true;
PREPARE pgbridge_page (text, bigint, bigint, integer) AS
SELECT s.epoch, f.pos, t.pos, j.pos, j.id, j.channel, j.bytes,
    (extract(epoch FROM j.at) * 1000000)::bigint
FROM bridge.state AS s
CROSS JOIN bridge.floor AS f
CROSS JOIN (SELECT pos FROM bridge.tick ORDER BY pos DESC LIMIT 1) AS t
LEFT JOIN LATERAL (
    SELECT * FROM bridge.journal
    WHERE channel = $1 AND pos > $2 AND pos <= $3
    ORDER BY pos
    LIMIT $4
) AS j ON true;
PREPARE pgbridge_payloads (bigint[]) AS
SELECT id, payload, extract(epoch FROM at)::float8 FROM bridge.outbox
WHERE id = ANY ($1);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An entry without its payload.

    Attributes:
        id: of the outbox's row, which has it.
        bytes: its length.
        moment: when it got its position, as ``bridge.moment`` writes it.
    """

    position: int
    id: int
    channel: str
    bytes: int
    moment: int


@dataclass(frozen=True, slots=True)
class Tail:
    """Where the journal stands, and what comes after a position.

    Attributes:
        floor: positions up to here may be gone.
        newest: the last position.
    """

    epoch: str
    floor: int
    newest: int
    rows: Sequence[Row]


Payloads = dict[int, tuple[str, float]]
"""Payload and Unix seconds of its publishing, by the outbox's id."""


class JournalReader:
    """Reads with one session.

    Args:
        max_payload_bytes: longer ones are not read.
        gap: makes what stands in the place of a payload that cannot be
            delivered, from its channel, position and reason.
    """

    def __init__(
        self,
        session: Session,
        max_payload_bytes: int,
        gap: Callable[[str, int, str], Gap],
    ) -> None:
        self._session = session
        self._max_payload_bytes = max_payload_bytes
        self._gap = gap
        session.execute(_SESSION)

    def tail(self, after: int, most: int = TAIL_ENTRIES) -> Tail:
        """Return at most so many rows after a position, in order."""
        return self._tail("EXECUTE pgbridge_tail (%s, %s)", after, most)

    def entries(
        self, rows: Iterable[Row], wanted: Callable[[str], bool]
    ) -> Iterator[Sequence[Entry]]:
        """Yield rows as entries, no more at a time than memory should hold.

        Args:
            wanted: whether somebody wants what is published to a channel.
        """
        part: list[Row] = []
        size = 0
        for row in rows:
            more = row.bytes if wanted(row.channel) else 0
            if part and size + more > SLICE_BYTES:
                yield self._with_payloads(part, wanted)
                part, size = [], 0
            part.append(row)
            size += more
        if part:
            yield self._with_payloads(part, wanted)

    def page(self, need: Need) -> Page:
        """Read for those who are behind."""
        try:
            tail = self._tail(
                "EXECUTE pgbridge_page (%s, %s, %s, %s)",
                need.channel,
                need.after,
                need.upto,
                MAX_PAGE_ENTRIES,
            )
        except UnicodeEncodeError:
            # The database was exchanged for one in another encoding. It cannot
            # have entries of this name.
            tail = self.tail(need.after, 0)
        rows = self._fitting(tail.rows)
        complete = len(rows) == len(tail.rows) < MAX_PAGE_ENTRIES
        payloads = self._payloads(rows)
        return Page(
            [(row.position, self._payload(row, payloads)[0]) for row in rows],
            need.upto if complete else rows[-1].position,
            tail.epoch,
            tail.floor,
            tail.newest,
        )

    def _tail(self, query: str, *arguments: object) -> Tail:
        found = self._session.execute(query, arguments)
        if not found:
            raise EmptyTable
        epoch, floor, newest = found[0][:3]
        rows = [Row(*row[3:]) for row in found if row[3] is not None]
        return Tail(epoch, floor, newest, rows)

    def _fitting(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the first rows, as many as are written at a time."""
        size = 0
        for count, row in enumerate(rows):
            size += row.bytes if row.bytes <= self._max_payload_bytes else 0
            if size > MAX_PAGE_BYTES and count:
                return rows[:count]
        return rows

    def _with_payloads(
        self, rows: Sequence[Row], wanted: Callable[[str], bool]
    ) -> Sequence[Entry]:
        chosen = {row.id for row in rows if wanted(row.channel)}
        payloads = self._payloads([row for row in rows if row.id in chosen])
        return [
            Entry(row.position, row.channel, *self._payload(row, payloads))
            if row.id in chosen
            else Entry(row.position, row.channel, None)
            for row in rows
        ]

    def _payloads(self, rows: Sequence[Row]) -> Payloads:
        ids = [row.id for row in rows if row.bytes <= self._max_payload_bytes]
        if not ids:
            return {}
        query = "EXECUTE pgbridge_payloads (%s)"
        rows = self._session.execute(query, (ids,))
        return {id: (payload, at) for id, payload, at in rows}

    def _payload(self, row: Row, payloads: Payloads) -> tuple[Payload, float | None]:
        found = payloads.get(row.id)
        if found is not None:
            return found
        too_large = row.bytes > self._max_payload_bytes
        reason = "too_large" if too_large else "expired"  # purged
        return self._gap(row.channel, row.position, reason), None
