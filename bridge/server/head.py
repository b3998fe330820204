"""The lines of a request's head: bounded, and only what every server reads alike."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["MAX_HEAD_BYTES", "HeadReader", "HeadTimeout", "HeadTooLarge"]

MAX_HEAD_BYTES = 32 * 1024

_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\0]*$|[ \t][^\0]*$", re.DOTALL)
"""A field, or the rest of one that is folded (RFC 9112, 5)."""

_END_OF_HEAD = (b"\r\n", b"\n", b"")


class HeadTimeout(OSError, ValueError):
    """The head did not come in time.

    An OSError, so that pywsgi closes in silence where nothing was said; a
    ValueError, so that it asks for an answer where something was.
    """


class HeadTooLarge(ValueError):
    """The head exceeds `MAX_HEAD_BYTES`."""


class HeadReader:
    """Reads the lines of a head, up to so many bytes, and only good ones.

    The parser behind it (email's) passes over a line that is no header, and
    ends the head there: what two servers read differently is an attack.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = MAX_HEAD_BYTES

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise HeadTooLarge
        if line not in _END_OF_HEAD and not _HEADER.match(line):
            raise ValueError("a header line is malformed")
        return line
