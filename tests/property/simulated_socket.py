"""A socket whose kernel buffer the test empties, and the loop that watches it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Watcher:
    """An io watcher or a timer of the event loop; called by hand."""

    def __init__(self) -> None:
        self.call: Callable[[], None] | None = None

    def start(self, call: Callable[..., None], *arguments: Any, **_: Any) -> None:
        self.call = lambda: call(*arguments)

    def again(self, *_: Any) -> None:
        """A timer that never rings."""

    def stop(self) -> None:
        self.call = None

    def close(self) -> None:
        self.call = None


class SimulatedSocket:
    """Takes bytes while its buffer has room.

    Args:
        size: bytes of the buffer.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.buffer = bytearray()
        self.watcher = Watcher()

    def send(self, data: bytes | memoryview) -> int:
        taken = bytes(data[: self.size - len(self.buffer)])
        if not taken:
            raise BlockingIOError
        self.buffer += taken
        return len(taken)

    def fileno(self) -> SimulatedSocket:
        return self  # what the loop watches

    def read(self, size: int) -> bytes:
        """Let the peer read; the outlet is told that there is room."""
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        if data and self.watcher.call is not None:
            self.watcher.call()
        return data


def simulated_loop() -> SimpleNamespace:
    """Return what stands in for the module `gevent` in the outlet's."""

    def io(socket: SimulatedSocket, _: int) -> Watcher:
        socket.watcher = Watcher()
        return socket.watcher

    loop = SimpleNamespace(io=io, timer=lambda *_: Watcher())
    return SimpleNamespace(get_hub=lambda: SimpleNamespace(loop=loop))
