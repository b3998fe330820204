"""What stands in for a peer, an outlet and a listener in the unit tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bridge.channels import Patterns
from bridge.errors import ClientError
from bridge.fan_out import FanOut
from bridge.hub import Hub
from bridge.subscription import State, Subscription

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    key: bytes = b"\x37\xfa\x21\x3d",
) -> bytes:
    """Encode a frame as a browser does: masked, its length in the fewest bytes."""
    size = len(payload)
    if size < 126:
        head = bytes([size | 0x80])
    elif size < 65536:
        head = b"\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\xff" + size.to_bytes(8, "big")
    masked = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
    return bytes([opcode | (0x80 if final else 0)]) + head + key + masked


def server_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Cut what a server sends into (first byte, payload); all must be whole."""
    found = []
    while data:
        size, head = data[1], 2
        assert size < 128, "a server must not mask"
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        assert len(data) >= head + size, "the last frame is cut off"
        found.append((data[0], data[head : head + size]))
        data = data[head + size :]
    return found


def messages(data: bytes) -> list[dict[str, Any]]:
    """Read a server's text frames as the messages in them."""
    found = []
    for first, payload in server_frames(data):
        assert first == 0x81
        found.append(json.loads(payload))
    return found


class RecordingOutlet:
    """Keeps every chunk.

    Args:
        on_write: called after each write, as when a peer turns out to be gone.
    """

    def __init__(self, on_write: Callable[[], None] | None = None) -> None:
        self.chunks: list[bytes] = []
        self.owners: list[Subscription | None] = []
        self.on_write = on_write

    def write(
        self, chunk: bytes, owner: Subscription | None = None, before: int | None = None
    ) -> None:
        self.chunks.append(chunk)
        self.owners.append(owner)
        if self.on_write is not None:
            self.on_write()

    @property
    def idle(self) -> bool:
        return True

    def when_idle(self, call: Callable[[], None]) -> None:
        call()

    @property
    def messages(self) -> list[dict[str, Any]]:
        return messages(b"".join(self.chunks))

    def take(self) -> list[dict[str, Any]]:
        """Return the messages since the last call."""
        found = self.messages
        self.chunks.clear()
        self.owners.clear()
        return found


def plain_hub(
    want: Callable[[str], State],
    unwant: Callable[[str], None],
    *,
    clock: Callable[[], float] = lambda: 0.0,
    pause: Callable[[], None] = lambda: None,
    **options: Any,
) -> Hub:
    """Make a hub that knows of no durable channel."""
    fan_out = FanOut(clock=clock, pause=pause)
    hub = Hub(want=want, unwant=unwant, fan_out=fan_out, **options)
    hub.know(Patterns([]))
    return hub


class Demand:
    """Stands for the listeners: what the hub wanted of them.

    Args:
        state: how every channel stands when it is wanted.
    """

    def __init__(self, state: State = State.LIVE) -> None:
        self.state = state
        #: Raised instead of an answer.
        self.error: ClientError | None = None
        self.calls: list[tuple[str, str]] = []

    def want(self, channel: str) -> State:
        self.calls.append(("want", channel))
        if self.error is not None:
            raise self.error
        return self.state

    def unwant(self, channel: str) -> None:
        self.calls.append(("unwant", channel))
