"""The judge: what was committed against what one subscriber has.

Pure. Of each subscriber it knows the words of its connections in the order
they came; of the writers what they published, and between which two moments
each event was committed. A loss is none if a gap stands where the event is
missing, and covers the time of its commit.

A plain subscriber says `resume` when it comes back, so that the loss at a
connection's end is told by the gap at the start of the next one; thus both
kinds of channel are judged by one rule. They differ where nothing is kept: on
another connection a plain channel may say again what the last one had. So may a
durable one in another epoch, after a gap: the database has gone back in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

__all__ = ["Entry", "Published", "Received", "Subscribed", "Told", "Verdict", "judge"]

NEVER = float("inf")
MAX_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Published:
    """An event that has committed, or may have.

    Attributes:
        number: ascends with each event of its writer.
        began: Unix seconds before its transaction.
        ended: after its commit; None: the connection broke at the commit, so
            that nobody knows.
    """

    channel: str
    writer: str
    number: int
    began: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The first word about the channel on a connection; Unix seconds."""

    at: float


@dataclass(frozen=True, slots=True)
class Received:
    """An event has arrived.

    Attributes:
        began: as in `Published`, from the payload.
        position: epoch and number in the journal; None: of a plain channel.
    """

    at: float
    writer: str
    number: int
    began: float
    position: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A gap.

    Attributes:
        since: what committed before then is complete; None: not said.
    """

    at: float
    since: float | None = None


Entry = Subscribed | Received | Told


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts; those of several subscribers can be added.

    Attributes:
        events: how many had to arrive.
        lost: those that did not, though no gap says so.
        twice: arrived again where they must not.
        disorder: arrived before something that had committed earlier.
        uncommitted: arrived, and no commit is known.
        gaps: told.
        needless: of those, told although nothing was missing.
        examples: of what is wrong, in words.
    """

    events: int = 0
    lost: int = 0
    twice: int = 0
    disorder: int = 0
    uncommitted: int = 0
    gaps: int = 0
    needless: int = 0
    examples: tuple[str, ...] = ()

    @property
    def wrong(self) -> int:
        """How many promises were broken."""
        return self.lost + self.twice + self.disorder + self.uncommitted

    def __add__(self, other: Verdict) -> Verdict:
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
        }
        # Many subscribers miss the same.
        examples = tuple(dict.fromkeys(sums.pop("examples")))[:MAX_EXAMPLES]
        return Verdict(**sums, examples=examples)


def judge(
    published: Iterable[Published], entries: Sequence[Entry], *, kept: bool
) -> Verdict:
    """Judge one subscriber of one channel.

    Args:
        published: the channel's events, of all writers.
        entries: what came, in order, over all of its connections.
        kept: the channel is durable.
    """
    known = {(event.writer, event.number): event for event in published}
    received = [one for one in entries if isinstance(one, Received)]
    has = {(one.writer, one.number) for one in received}
    start = next((one.at for one in entries if isinstance(one, Subscribed)), NEVER)
    due = [
        event
        for event in known.values()
        if event.ended is not None and event.began > start
    ]
    missing = [event for event in due if (event.writer, event.number) not in has]
    gaps = _gaps(entries)
    lost = [event for event in missing if not any(gap.covers(event) for gap in gaps)]
    again, early = _order(entries, known, kept)
    strangers = [one for one in received if (one.writer, one.number) not in known]
    return Verdict(
        events=len(due),
        lost=len(lost),
        twice=len(again),
        disorder=len(early),
        uncommitted=len(strangers),
        gaps=len(gaps),
        needless=sum(not any(map(gap.covers, missing)) for gap in gaps),
        examples=tuple(
            f"{what} {one}"
            for what, found in (
                ("lost", lost),
                ("twice", again),
                ("out of order", early),
                ("not committed", strangers),
            )
            for one in found[:1]
        ),
    )


@dataclass(frozen=True, slots=True)
class _Gap:
    """A gap and its place: the numbers next to it, by writer."""

    told: Told
    before: dict[str, int]
    after: dict[str, int]

    def covers(self, event: Published) -> bool:
        """Whether the gap tells that the event, which is missing, is."""
        since = self.told.since
        return (
            self.before.get(event.writer, -1) < event.number
            and event.number < self.after.get(event.writer, NEVER)
            and event.began <= self.told.at
            and (since is None or event.ended is None or event.ended >= since)
        )


def _gaps(entries: Sequence[Entry]) -> list[_Gap]:
    found = []
    before: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if isinstance(entry, Received):
            before[entry.writer] = entry.number
        elif isinstance(entry, Told):
            after = _next(before, entries[index + 1 :])
            found.append(_Gap(entry, dict(before), after))
    return found


def _next(before: dict[str, int], entries: Sequence[Entry]) -> dict[str, int]:
    """Return each writer's next number, past what comes again."""
    found: dict[str, int] = {}
    for entry in entries:
        if isinstance(entry, Received) and entry.number > before.get(entry.writer, -1):
            found.setdefault(entry.writer, entry.number)
    return found


def _order(
    entries: Sequence[Entry], known: dict[tuple[str, int], Published], kept: bool
) -> tuple[list[Received], list[Received]]:
    """Find what came twice, and what came after something later."""
    again, early = [], []
    seen: set[tuple[str, int]] = set()
    last: dict[str, int] = {}  # by writer the highest number, by epoch position
    newest = 0.0
    epoch, told = None, False  # of the last event; a gap since
    for entry in entries:
        told |= isinstance(entry, Told)
        begins_anew = isinstance(entry, Subscribed) and not kept
        if isinstance(entry, Received) and entry.position is not None:
            begins_anew = told and entry.position[0] != epoch
            epoch, told = entry.position[0], False
        if begins_anew:
            seen, last, newest = set(), {}, 0.0
        if not isinstance(entry, Received):
            continue
        key = (entry.writer, entry.number)
        event = known.get(key)
        ended = NEVER if event is None or event.ended is None else event.ended
        ranks = {f"writer {entry.writer}": entry.number}
        if entry.position is not None:
            epoch, position = entry.position
            ranks[f"epoch {epoch}"] = position
        if key in seen:
            again.append(entry)
        elif newest > ended or any(
            rank <= last.get(name, -1) for name, rank in ranks.items()
        ):
            early.append(entry)
        seen.add(key)
        newest = max(newest, entry.began)
        for name, rank in ranks.items():
            last[name] = max(rank, last.get(name, -1))
    return again, early
