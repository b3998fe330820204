"""What the workers of this host have seen of a journal, kept outside of them.

A database that was set back to an earlier moment does not know it. Who has seen
what came after that moment does: its epochs, and the last entry. A small file
in the run folder keeps that while workers come and go, one for each database
and address. It survives their death and not the host's.

Many workers write it, each under a lock that is never waited for: whoever has
the lock writes about the same. A file that cannot be used is ignored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Seen", "Witness"]

MAX_EPOCHS = 16
"""Remembered; more are never needed."""

FILE_BYTES = 1024
"""Of a file, always: written in one piece, padded with spaces."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen last.

    Attributes:
        epochs: all that are known, oldest first; `position` is of the last.
        entry: the entry at `position`: its id in the outbox, and microseconds
            of when it got its position; None: it was not seen itself.
    """

    epochs: tuple[str, ...]
    position: int
    entry: tuple[int, int] | None

    @property
    def epoch(self) -> str:
        """The epoch that was seen last."""
        return self.epochs[-1]


class Witness:
    """Remembers what was seen of the journals at one address.

    Args:
        folder: for the files; None: nothing is kept outside of this process.
        address: what tells this one from copies of the database.
    """

    def __init__(self, folder: Path | None, address: str) -> None:
        self._folder = folder
        self._address = address
        #: What this process has seen, by identity of the journal.
        self._seen: dict[str, Seen] = {}
        #: The open file and its identity; None when there is none.
        self._file: tuple[str, int] | None = None

    def last(self, identity: str) -> Seen | None:
        """Return what was seen last, by this worker or another of this host.

        Args:
            identity: of the journal, as in ``bridge.state``.
        """
        self._open(identity)
        seen = _newer(self._read(), self._seen.get(identity))
        if seen is not None:
            self._seen[identity] = seen
        return seen

    def begin(
        self, identity: str, epoch: str, position: int, entry: tuple[int, int] | None
    ) -> None:
        """Note what is there, as the database has just said."""
        last = self.last(identity)
        epochs = () if last is None else last.epochs
        if epoch not in epochs:
            epochs = (*epochs, epoch)[-MAX_EPOCHS:]
            last = None
        elif epoch != epochs[-1]:
            return
        fresh = Seen(epochs, position, entry)
        self._keep(identity, _newer(last, fresh) or fresh)

    def note(
        self, identity: str, epoch: str, position: int, entry: tuple[int, int]
    ) -> None:
        """Note an entry of an epoch that has begun, before others are told."""
        last = self._seen.get(identity)
        if last is not None and last.epoch == epoch and last.position < position:
            self._keep(identity, Seen(last.epochs, position, entry))

    def close(self) -> None:
        """Let the file go. Safe to call twice."""
        if self._file is not None:
            os.close(self._file[1])
            self._file = None

    def _keep(self, identity: str, seen: Seen) -> None:
        self._seen[identity] = seen
        if self._file is None or self._file[0] != identity:
            return
        file = self._file[1]
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                newest = _newer(self._read(), seen)
                if newest == seen:
                    os.pwrite(file, _written(seen), 0)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def _open(self, identity: str) -> None:
        """Open the file anew: somebody may have tidied it away."""
        self.close()
        if self._folder is None:
            return
        name = hashlib.sha256(f"{self._address} {identity}".encode()).hexdigest()
        path = self._folder / f"seen-{name[:16]}"
        with suppress(OSError):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._file = identity, os.open(path, flags, 0o600)

    def _read(self) -> Seen | None:
        if self._file is None:
            return None
        try:
            text = os.pread(self._file[1], FILE_BYTES, 0)
            return _parsed(json.loads(text))
        except (OSError, ValueError, LookupError, TypeError):
            return None


def _newer(one: Seen | None, other: Seen | None) -> Seen | None:
    """Return what was seen later; `other` when neither is."""
    if one is None or other is None:
        return one or other
    if one.epoch != other.epoch:
        return one if other.epoch in one.epochs else other
    if one.position > other.position or (
        one.position == other.position and other.entry is None
    ):
        return one
    return other


def _parsed(fields: Any) -> Seen | None:
    """Return what `_written` wrote; of anything else None, or it raises."""
    epochs = tuple(map(str, fields["epochs"]))
    position, entry = _bigint(fields["position"]), fields["entry"]
    if entry is not None:
        entry = _bigint(entry[0]), _bigint(entry[1])
    return Seen(epochs, position, entry) if epochs else None


def _bigint(value: Any) -> int:
    number = int(value)
    if number.bit_length() > 63:
        raise ValueError("no bigint of PostgreSQL")
    return number


def _written(seen: Seen) -> bytes:
    fields = {"epochs": seen.epochs, "position": seen.position, "entry": seen.entry}
    return json.dumps(fields).encode().ljust(FILE_BYTES)
