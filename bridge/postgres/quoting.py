"""Channel names as SQL identifiers."""

from __future__ import annotations

__all__ = ["quote_channel"]


def quote_channel(channel: str, encoding: str) -> str:
    """Quote a channel for LISTEN and UNLISTEN.

    psycopg2's `Identifier` turns a name that is not ASCII into another one
    when the connection's encoding is not UTF-8 (it escapes UTF-8 bytes and
    decodes them as the connection's).

    Args:
        channel: without NUL (`bridge.values.channels.check_channel`).
        encoding: Python's name of the connection's, which is the server's: in
            such a one no byte of a longer character looks like a quote.

    Raises:
        UnicodeEncodeError: the encoding cannot write it.
    """
    channel.encode(encoding)
    return '"' + channel.replace('"', '""') + '"'
