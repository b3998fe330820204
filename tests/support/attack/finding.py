"""What the checker finds, and what it is told to expect."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["STRICT", "Finding", "Kind", "Rules", "summary"]


class Kind(enum.Enum):
    """A promise that was broken."""

    LOST = "lost in silence"
    TWICE = "at or before a position that had been said"
    BACK = "a position that goes back"
    UNTRUE = "a position that is not true"
    NOT_GIVEN = "resumed from another position than the cursor given"
    NO_GAP = "no gap where one is due"
    NEEDLESS = "a gap that nothing explains"
    EPOCH = "another epoch without a gap"
    FOREIGN = "not what was committed there"
    STRAY = "a word about a channel that the page does not have"
    UNANSWERED = "a request without an answer"
    ANSWERED_ODDLY = "an answer to nothing, or of another kind"
    STUCK = "never caught up"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault.

    Attributes:
        text: where, in words.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.text}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the run does to the journal, so that it may be told.

    Attributes:
        gaps: reasons of gaps that durable channels may be told, beside those
            that the page's own request asks for.
        removed: the schema is away for some time; who comes then has plain
            channels.
    """

    gaps: frozenset[str] = frozenset()
    removed: bool = False


STRICT = Rules()
"""Nothing happens to the journal."""


def summary(findings: Iterable[Finding], examples: int = 2) -> list[str]:
    """Say how many there are of each kind, and show some of each."""
    findings = list(findings)
    counts = Counter(finding.kind for finding in findings)
    return [
        f"{count} × {kind.value}: "
        + " | ".join([one.text for one in findings if one.kind is kind][:examples])
        for kind, count in counts.items()
    ]
