"""A session's texts: written and read in the database's encoding.

psycopg2 refuses a text that Python's codec cannot read, though PostgreSQL has
stored it: byte 152 in WIN1251, say. So what comes is taken as bytes where that
can happen, and what cannot be read is replaced by U+FFFD, as psycopg2 itself
does it in notifications.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg2
from psycopg2._psycopg import BYTES
from psycopg2.extensions import Notify, encodings, register_type
from psycopg2.extensions import connection as PgConnection

from bridge.postgres.quoting import quote_channel

__all__ = ["Texts", "client_encoding", "knows_no_codec"]

_BYTES_ONLY = "SQL_ASCII"
"""A server encoding that is none: it stores bytes."""

_EACH_BYTE = "LATIN1"
"""In this one each byte is a character, whatever it means."""


def client_encoding(server_encoding: str) -> str:
    """Return the encoding that a session should have: no conversion, if possible.

    One character that PostgreSQL cannot convert would end the session of every
    listener.
    """
    if server_encoding == _BYTES_ONLY:
        return _EACH_BYTE
    # Of two of PostgreSQL's encodings Python has no codec.
    return server_encoding if server_encoding in encodings else _BYTES_ONLY


def knows_no_codec(error: psycopg2.Error) -> bool:
    """Tell whether psycopg2 has refused a session for its encoding."""
    return "no Python encoding" in str(error)


class Texts:
    """How one session writes and reads.

    Args:
        connection: of which the encoding is `client_encoding` of the server's.
    """

    def __init__(self, connection: PgConnection) -> None:
        server = connection.get_parameter_status("server_encoding") or "UTF8"
        #: The server stores bytes and knows no encoding.
        self.is_sql_ascii = server == _BYTES_ONLY
        #: Python's codec for what clients call their channels.
        self._codec = "utf-8" if self.is_sql_ascii else encodings[connection.encoding]
        #: Texts in rows come as bytes, and are decoded here.
        self._rows_are_bytes = not self.is_sql_ascii and server != "UTF8"
        if self._rows_are_bytes:
            register_type(BYTES, connection)

    def can_encode(self, text: str) -> bool:
        """Tell whether the database has all of the text's characters."""
        try:
            text.encode(self._codec)
        except UnicodeEncodeError:
            return False
        return True

    def quote(self, channel: str) -> str:
        """Quote a channel for LISTEN and UNLISTEN.

        Args:
            channel: without NUL (`bridge.values.channels.check_channel`).

        Raises:
            UnicodeEncodeError: the database cannot write it.
        """
        return quote_channel(channel, self._codec)

    def statement(
        self, query: str, arguments: Sequence[Any]
    ) -> tuple[str, Sequence[Any]]:
        """Return what psycopg2 is given for a query and its arguments."""
        if not self.is_sql_ascii:
            return query, arguments
        return _as_bytes(query), [_as_bytes(argument) for argument in arguments]

    def rows(self, rows: list[Any]) -> list[Any]:
        """Return rows as texts, from what psycopg2 has given."""
        if self._rows_are_bytes:
            codec = self._codec
            return [
                tuple(
                    value.decode(codec, "replace") if type(value) is bytes else value
                    for value in row
                )
                for row in rows
            ]
        if self.is_sql_ascii:
            return [tuple(_as_text(value) for value in row) for row in rows]
        return rows

    def notifications(self, found: list[Notify]) -> list[Notify]:
        """Return notifications as texts, from what psycopg2 has given."""
        if not self.is_sql_ascii:
            return found
        return [Notify(n.pid, _as_text(n.channel), _as_text(n.payload)) for n in found]


def _as_bytes(value: Any) -> Any:
    """Write the bytes of a text's UTF-8 as characters of their own."""
    return value.encode().decode("latin-1") if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    """Read what `_as_bytes` wrote; what is not UTF-8 is replaced."""
    if not isinstance(value, str):
        return value
    return value.encode("latin-1").decode(errors="replace")
