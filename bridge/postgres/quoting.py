"""Channel names as SQL identifiers."""

from __future__ import annotations

from psycopg2.extensions import connection as PgConnection
from psycopg2.extensions import encodings

__all__ = ["quote_channel"]


def quote_channel(connection: PgConnection, channel: str) -> str:
    """Quote a channel for LISTEN and UNLISTEN.

    psycopg2's `Identifier` turns a name that is not ASCII into another one
    when the connection's encoding is not UTF-8 (it escapes UTF-8 bytes and
    decodes them as the connection's). The client's encoding is the server's,
    in which no byte of a longer character looks like a quote.

    Args:
        channel: without NUL (`bridge.channels.check_channel`).

    Raises:
        UnicodeEncodeError: the connection's encoding cannot write it.
    """
    channel.encode(encodings[connection.encoding])
    return '"' + channel.replace('"', '""') + '"'
