"""What stands in for a peer, an outlet and a listener in the unit tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from bridge.clients.connection import ConnectionOptions, ReadingOptions
from bridge.clients.connections import Connections
from bridge.clients.outlet import OutletOptions
from bridge.core.fan_out import FanOut
from bridge.core.hub import Hub
from bridge.core.service import Service
from bridge.core.subscription import Before, Mark, State, Subscription
from bridge.values.channels import Patterns
from bridge.values.errors import ClientError
from bridge.values.limits import Addresses, Rate
from bridge.values.message import Batch, ServerMessage
from bridge.wire import native
from unit.loop import TIMEOUT

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


UNLIMITED = Rate(per_second=0, burst=0)


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
        #: What the client has without each chunk; of the journal the position.
        self.marks: list[float | None] = []
        self.on_write = on_write
        self.idle = True

    def write(
        self, chunk: bytes, owner: Subscription | None = None, before: Before = None
    ) -> None:
        self.chunks.append(chunk)
        self.owners.append(owner)
        self.marks.append(before.position if isinstance(before, Mark) else before)
        if self.on_write is not None:
            self.on_write()

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
        self.marks.clear()
        return found


class SlowOutlet(RecordingOutlet):
    """Keeps the rules of the real one, for durable channels.

    What has left is recorded; while it is `stuck`, one chunk is begun, and of
    notifications one waits behind it: the next drops that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stuck = False
        self.waiting: list[tuple[bytes, Subscription | None, Before]] = []
        self._calls: list[Callable[[], None]] = []

    def when_idle(self, call: Callable[[], None]) -> None:
        if self.waiting:
            self._calls.append(call)
        else:
            call()

    def write(
        self, chunk: bytes, owner: Subscription | None = None, before: Before = None
    ) -> None:
        if not self.stuck and not self.waiting:
            super().write(chunk, owner, before)
            return
        if owner is not None:
            self._drop()
            if not owner.follows:
                return
        self.waiting.append((chunk, owner, before))
        self.idle = False

    def _drop(self) -> None:
        """Drop the notifications that wait behind the first chunk, if any do."""
        for waiting in self.waiting[1:]:
            _, owner, before = waiting
            if owner is not None:
                assert before is not None, "not of the journal"
                self.waiting.remove(waiting)
                assert owner.dropped([before]) == b""

    def release(self) -> None:
        """The socket takes everything."""
        self.stuck = False
        waiting, self.waiting = self.waiting, []
        self.idle = True
        for chunk in waiting:
            super().write(*chunk)
        calls, self._calls = self._calls, []
        for call in calls:
            call()


class CountingCodec:
    """The native codec; counts what it encodes."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, message: ServerMessage) -> bytes:
        self.encoded.append(type(message).__name__)
        return native.encode(message)

    def encode_batch(self, batch: Batch) -> list[bytes]:
        self.encoded.append("Batch")
        return native.encode_batch(batch)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Time:
    """A clock that moves at each look, and the pauses of a fan-out."""

    def __init__(self) -> None:
        #: Seconds that pass between two looks at the clock.
        self.step = 0.0
        self._now = 0.0
        #: What other greenlets do at the next pause.
        self.meanwhile: Callable[[], None] | None = None
        self.pauses = 0

    def clock(self) -> float:
        self._now += self.step
        return self._now

    def pass_by(self, seconds: float) -> None:
        """Let time pass while nobody looks."""
        self._now += seconds

    def pause(self) -> None:
        self.pauses += 1
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()

    def fan_out(self) -> FanOut:
        return FanOut(clock=self.clock, pause=self.pause)


def plain_hub(
    want: Callable[[str], State], unwant: Callable[[str], None], **options: Any
) -> Hub:
    """Make a hub that knows of no durable channel."""
    return make_hub(want, unwant, patterns=(), **options)


def durable_hub(
    want: Callable[[str], State], unwant: Callable[[str], None], **options: Any
) -> Hub:
    """Make a hub with a journal; channels that begin with ``kept`` are durable."""
    hub = make_hub(want, unwant, patterns=None, **options)
    hub.feed.opened("e1", 0, 5)
    hub.know(Patterns(["kept*"]))
    return hub


def make_hub(
    want: Callable[[str], State],
    unwant: Callable[[str], None],
    *,
    patterns: Iterable[str] | None,
    clock: Callable[[], float] = lambda: 0.0,
    pause: Callable[[], None] = lambda: None,
    **options: Any,
) -> Hub:
    """Make a hub.

    Args:
        patterns: of durable channels; None: not known yet.
    """
    fan_out = FanOut(clock=clock, pause=pause)
    hub = Hub(want=want, unwant=unwant, fan_out=fan_out, **options)
    if patterns is not None:
        hub.know(Patterns(patterns))
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


def connection_options(
    access: Any, rate: Rate = UNLIMITED, **options: Any
) -> ConnectionOptions:
    """Make what connections need, on a hub without durable channels.

    Args:
        rate: of what a client may send.
        options: of `Service`.
    """
    demand = Demand()
    return ConnectionOptions(
        service=Service(
            hub=plain_hub(demand.want, demand.unwant),
            access=access,
            heartbeat_interval=60,
            max_channels=9,
            subscribe_rate=Rate(per_second=0, burst=1),
            max_errors=0,
            **{"authenticate_timeout": 60.0, **options},
        ),
        connections=Connections(heartbeat_interval=60, max_connections=9),
        addresses=Addresses(0),
        outlet=OutletOptions(1 << 20, TIMEOUT),
        reading=ReadingOptions(65536, rate, dead_after=TIMEOUT),
        send_buffer_bytes=0,
    )
