"""Names of channels, and patterns over them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bridge.errors import BadChannel

__all__ = ["MAX_CHANNEL_BYTES", "Patterns", "check_channel"]

MAX_CHANNEL_BYTES = 63
"""PostgreSQL's NAMEDATALEN less one: LISTEN silently cuts longer names."""

_RESERVED_PREFIX = "bridge_"
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def check_channel(name: str) -> str:
    """Return `name` when a client may ask for it.

    A channel is 1 to 63 bytes of UTF-8 without control characters. Spaces,
    quotes and semicolons are legal and case matters, as for LISTEN.

    Raises:
        BadChannel: empty, too long, not encodable, a control character,
            ``*`` (kept for patterns) or a name that begins with ``bridge_``.
    """
    if not name:
        raise BadChannel("channel '' is not valid: it is empty")
    shown = repr(name if len(name) <= MAX_CHANNEL_BYTES else name[:60] + "…")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise BadChannel(f"channel {shown} is not valid: not Unicode text") from None
    if size > MAX_CHANNEL_BYTES:
        raise BadChannel(
            f"channel {shown} is not valid: {size} bytes, "
            f"at most {MAX_CHANNEL_BYTES} are allowed"
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


class Patterns:
    """A set of channel patterns; ``*`` stands for any run of characters."""

    __slots__ = ("_regex", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        alternatives = (
            ".*".join(map(re.escape, pattern.split("*"))) for pattern in self.patterns
        )
        # Never matches when there is no pattern: nothing is open by default.
        self._regex = re.compile("|".join(alternatives) or r"(?!)", re.DOTALL)

    def match(self, channel: str) -> bool:
        """Tell whether any pattern covers the whole of `channel`."""
        return self._regex.fullmatch(channel) is not None

    def __repr__(self) -> str:
        return f"Patterns({list(self.patterns)!r})"
