"""What is fuzzed: one module a target, and the registry of them all.

A new target is a module with a function that makes a `Target`, and a line in
`TARGETS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fuzz.run import Target
from fuzz.targets import (
    channels,
    conversations,
    frames,
    handshakes,
    messages,
    payloads,
    tokens,
)

__all__ = ["TARGETS"]

TARGETS: Mapping[str, Callable[[], Target[Any]]] = {
    "frames": frames.target,
    "messages": messages.target,
    "conversations": conversations.target,
    "channels": channels.target,
    "handshakes": handshakes.target,
    "payloads": payloads.target,
    "tokens": tokens.target,
}
