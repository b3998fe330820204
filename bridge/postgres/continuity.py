"""Whether the database still has the positions that clients were given.

Asked on each new session before it steps or reads, so that nothing is given a
position, and nothing served, by a database that was set back meanwhile: it
begins a new epoch then.
"""

from __future__ import annotations

from bridge.postgres.session import Session
from bridge.postgres.witness import Seen, Witness

__all__ = ["Continuity"]

FIRST_VERSION = 3
"""The first version of the schema that compares an entry, and not a position alone."""


class Continuity:
    """Compares what was seen with what is there.

    Args:
        witness: remembers what was seen.
    """

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        #: Of the journal at the last check; None: there was none.
        self._identity: str | None = None

    def check(self, session: Session) -> None:
        """Have a new epoch begun if the database was set back.

        Raises:
            DatabaseError: it could not be found out.
        """
        [(version, identity)] = session.execute(
            "SELECT max(version), max(identity) FROM bridge.state"
        )
        seen = None if identity is None else self._witness.last(identity)
        if identity is not None and version < FIRST_VERSION:
            self._check_position(session, identity, seen)
            return
        # If a table was emptied, the error of check_seen names it.
        [(identity, epoch, position, id, moment)] = session.execute(
            "SELECT * FROM bridge.check_seen(%s::text[], %s, %s, %s)",
            _arguments(seen),
        )
        entry = None if id is None else (id, moment)
        self._identity = identity
        self._witness.begin(identity, epoch, position, entry)

    def note(self, epoch: str, position: int, entry: tuple[int, int]) -> None:
        """Note an entry that is about to be told.

        Args:
            entry: its id in the outbox, and its moment in microseconds.
        """
        if self._identity is not None:
            self._witness.note(self._identity, epoch, position, entry)

    def _check_position(
        self, session: Session, identity: str, seen: Seen | None
    ) -> None:
        """The same with a schema that knows no more than positions."""
        told = (None, None) if seen is None else (seen.epoch, seen.position)
        session.execute("SELECT bridge.check_epoch(%s, %s)", told)
        [(identity, epoch, position)] = session.execute(
            "SELECT identity, epoch, (SELECT max(pos) FROM bridge.tick) "
            "FROM bridge.state"
        )
        self._identity = identity
        self._witness.begin(identity, epoch, position, None)


def _arguments(seen: Seen | None) -> tuple[object, ...]:
    if seen is None:
        return (None, None, None, None)
    return (list(seen.epochs), seen.position, *(seen.entry or (None, None)))
