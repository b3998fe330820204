"""A subscriber: the `websockets` library with this protocol's habits."""

from __future__ import annotations

import json
import socket
from inspect import signature
from typing import Any
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from support.gunicorn import Gunicorn

TIMEOUT = 20.0


class Client:
    """One WebSocket connection. Heartbeats are left out of what it returns."""

    def __init__(
        self,
        server: Gunicorn,
        *channels: str,
        path: str | None = None,
        origin: str | None = None,
        receive_buffer: int | None = None,
        **options: Any,
    ) -> None:
        query = "&".join(f"channel={quote(channel)}" for channel in channels)
        path = path or f"/ws?{query}"
        if server.path is not None:
            options |= {"unix": True, "path": str(server.path)}
        else:
            options["sock"] = sock = server.connect()
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if "legacy" in signature(connect).parameters:
            options["legacy"] = True  # 17 wants a `with` otherwise
        self.socket: ClientConnection = connect(
            f"ws://127.0.0.1:{server.port or 80}{path}",
            origin=origin,  # type: ignore[arg-type]
            subprotocols=["pgbridge.v1"],  # type: ignore[list-item]
            proxy=None,
            close_timeout=1,
            **options,
        )
        self.welcome = self.receive()
        assert self.welcome["type"] == "welcome"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def send(self, type: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": type, **fields}))

    def receive(self, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Return the next message that is no heartbeat."""
        while True:
            message = json.loads(self.socket.recv(timeout))
            if message["type"] != "heartbeat":
                return message  # type: ignore[no-any-return]

    def request(self, type: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return the next message."""
        self.send(type, **fields)
        return self.receive()

    def subscribe(self, channel: str, **fields: Any) -> dict[str, Any]:
        """Subscribe and return the answer, which must be the next message."""
        return self.request("subscribe", channel=channel, **fields)

    def settle(self) -> list[dict[str, Any]]:
        """Return what came before the answer to a ping sent now."""
        self.send("ping", id="settle")
        found = []
        while (message := self.receive()) != {"type": "pong", "id": "settle"}:
            found.append(message)
        return found

    def payloads(self, count: int) -> list[Any]:
        """Return the payloads of the next messages, all notifications."""
        found = []
        for _ in range(count):
            message = self.receive()
            assert message["type"] == "notification", message
            found.append(message.get("data", message.get("text")))
        return found

    def rest(self) -> tuple[list[dict[str, Any]], int]:
        """Return all messages until the server's close, and its code."""
        found = []
        try:
            while True:
                found.append(self.receive())
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "closed without a Close frame"
            return found, closed.rcvd.code
