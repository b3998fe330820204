"""The WebSocket transport: our frames, and the heartbeat that asks for an answer.

Source: RFC 6455; the messages in its text frames are docs/protocol.md's.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from bridge.clients.frame_reader import FrameReader
from bridge.core.service import ClientCodec
from bridge.values.errors import CloseCode
from bridge.wire import frames, native

__all__ = ["MISSED_HEARTBEATS", "WebSocketConnection"]

MISSED_HEARTBEATS = 2
"""Heartbeats without any byte from the peer after which it counts as gone."""

_PING = frames.encode_ping()


class WebSocketConnection(FrameReader):
    """A client on a WebSocket."""

    __slots__ = ()

    codec: ClassVar[ClientCodec] = native

    def _handle(self, event: frames.Event) -> None:
        match event:
            case frames.Text(data):
                self._guard(partial(self._conversation.receive, data))
            case frames.Ping(data):
                if self._closing is None:
                    self._outlet.write(frames.encode_pong(data))
            case frames.Close(code):
                # The first Close is answered, the second ends the handshake.
                if self._closing is None:
                    self.close(code)
                    self._half_close()
                else:
                    self._end()
            case frames.Violation(code, reason):
                self.close(code, reason)
                self._half_close()
            case frames.Binary():
                self.close(CloseCode.UNSUPPORTED_DATA, "messages must be text")

    def beat(self) -> None:
        """Send a heartbeat, or close when the last ones were not answered."""
        if self._closing is not None:
            return
        if not self._is_read:
            self._silent = 0  # Nobody listens to it.
        if self._silent >= MISSED_HEARTBEATS:
            self.close(CloseCode.HEARTBEAT_TIMEOUT, "heartbeats not answered")
            return
        self._silent += 1
        # A message for JavaScript, which cannot see pings, and one of those.
        self._outlet.write(self._conversation.heartbeat() + _PING)

    def _say_goodbye(self, code: int, reason: str) -> None:
        self._outlet.write(frames.encode_close(code, reason))
        # What comes is not answered any more, and the peer's Close is behind it.
        self._lift_limit()
