"""Names of channels, and patterns over them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bridge.values.errors import BadChannel

__all__ = [
    "MAX_CHANNEL_BYTES",
    "MAX_LISTEN_BYTES",
    "Patterns",
    "check_channel",
    "check_pattern",
    "not_encodable",
]

MAX_LISTEN_BYTES = 63
"""PostgreSQL's NAMEDATALEN less one: LISTEN silently cuts longer names."""

MAX_CHANNEL_BYTES = 255
"""Of a durable channel."""

_RESERVED_PREFIX = "bridge_"
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def check_channel(name: str, max_bytes: int = MAX_LISTEN_BYTES) -> str:
    """Return `name` when a client may ask for it.

    A channel is 1 to 63 bytes of UTF-8 without control characters, a durable
    one up to 255. Spaces, quotes and semicolons are legal and case matters, as
    for LISTEN.

    Raises:
        BadChannel: empty, too long, not encodable, a control character,
            ``*`` (kept for patterns) or a name that begins with ``bridge_``.
    """
    if not name:
        raise BadChannel("channel '' is not valid: it is empty")
    shown = repr(name if len(name) <= max_bytes else name[:60] + "…")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadChannel(f"channel {shown} is not valid: not Unicode text") from None
    if size > max_bytes:
        raise BadChannel(
            f"channel {shown} is not valid: {size} bytes, "
            f"at most {max_bytes} are allowed"
        )
    control = _CONTROL.search(name)
    if control:
        raise BadChannel(
            f"channel {shown} is not valid: control character at {control.start()}"
        )
    if "*" in name:
        raise BadChannel(f"channel {shown} is not valid: '*' is kept for patterns")
    if name.startswith(_RESERVED_PREFIX):
        raise BadChannel(
            f"channel {shown} is not valid: {_RESERVED_PREFIX!r} is reserved"
        )
    return name


def not_encodable(name: str) -> BadChannel:
    """Say that the database's encoding has not all characters of a name."""
    return BadChannel(
        f"channel {name!r} is not valid: the database's encoding cannot write it"
    )


def check_pattern(pattern: str) -> str:
    """Return `pattern` when it can be one of durable channels.

    Raises:
        BadChannel: empty, or it begins with ``bridge_``.
    """
    if not pattern:
        raise BadChannel("pattern '' is not valid: it is empty")
    if pattern.startswith(_RESERVED_PREFIX):
        raise BadChannel(
            f"pattern {pattern!r} is not valid: {_RESERVED_PREFIX!r} is reserved"
        )
    return pattern


class Patterns:
    """A set of channel patterns; ``*`` stands for any run of characters."""

    __slots__ = ("patterns",)

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)

    def match(self, channel: str) -> bool:
        """Tell whether any pattern covers the whole of `channel`."""
        return any(_covers(pattern, channel) for pattern in self.patterns)

    def __repr__(self) -> str:
        return f"Patterns({list(self.patterns)!r})"


def _covers(pattern: str, channel: str) -> bool:
    """Match one pattern, in linear time.

    Not a regular expression: a token's ``*a*a*a*a*a*b`` would keep it busy for
    seconds, and with it every client.
    """
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == channel
    last = middle.pop()
    end = len(channel) - len(last)
    if len(first) > end or not (channel.startswith(first) and channel.endswith(last)):
        return False
    position = len(first)
    for part in middle:
        # The earliest place leaves the most for the parts that follow.
        found = channel.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True
