"""The application of `pgbridge serve`, with an echo at /echo."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask, Response, request

from bridge.app import create_app as create_bridge
from bridge.clients.connection import HAND_OVER
from bridge.clients.handshake import accept
from bridge.clients.outlet import ClientSocket
from bridge.clients.websocket import WebSocketConnection
from bridge.server.runtime import Runtime
from bridge.wire import frames

__all__ = ["SETTINGS", "create_app"]

SUBPROTOCOL = "echo"

SETTINGS = {
    "max_message_bytes": 1 << 24,
    "backlog_bytes": 1 << 28,
    "max_message_rate": 0,
    "heartbeat_interval": 3600,
}
"""Room for what the suite sends; and nothing is said unasked."""

_FIN_BINARY = b"\x82"


class EchoConnection(WebSocketConnection):
    """Answers each message with itself; all else is as in a conversation."""

    __slots__ = ()

    def open(self, channels: Sequence[str], cursor: str | None, early: bytes) -> None:
        """Begin to read, without a welcome."""
        self._read(early)

    def _handle(self, event: frames.Event) -> None:
        match event:
            case frames.Text(text):
                self._outlet.write(frames.encode_text(text.encode()))
            case frames.Binary(data):
                # pgbridge itself sends text only.
                self._outlet.write(_FIN_BINARY + frames.encode_text(data)[1:])
            case _:
                super()._handle(event)


def create_app() -> Flask:
    """Create the application; for Gunicorn."""
    app = create_bridge()
    runtime: Runtime = app.extensions["pgbridge"]

    @app.route("/echo", websocket=True)
    def echo() -> Response:
        headers = accept(request.environ, SUBPROTOCOL)

        def open(client: ClientSocket, early: bytes) -> None:
            options = runtime.clients
            assert options is not None
            EchoConnection(options, client, None, "").open((), None, early)

        request.environ[HAND_OVER](101, open)
        return Response(status=101, headers=headers)

    return app
