"""WebSockets without a library: peers that may misbehave, and many at a time."""

from __future__ import annotations

import json
import socket
from typing import Any

from support.gunicorn import Gunicorn

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

PONG = b"\x8a\x80\0\0\0\0"


def raw_websocket(
    server: Gunicorn,
    path: str = "/ws",
    receive_buffer: int | None = None,
    early: bytes = b"",
) -> socket.socket:
    """Open a WebSocket that answers nothing by itself.

    Args:
        early: bytes sent together with the handshake.
    """
    sock = server.connect()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.sendall(HANDSHAKE.format(path=path).encode() + early)
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return sock


def text_frame(message: dict[str, Any]) -> bytes:
    """Write a client's message of less than 126 bytes, masked with nothing."""
    text = json.dumps(message).encode()
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text))) + b"\0\0\0\0" + text


def cut_frames(buffer: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Cut a server's bytes into (opcode, payload) frames and the rest."""
    frames = []
    start = 0
    while len(buffer) - start >= 2:
        size, head = buffer[start + 1] & 0x7F, 2
        if size > 125:
            head = 4 if size == 126 else 10
            if len(buffer) - start < head:
                break
            size = int.from_bytes(buffer[start + 2 : start + head], "big")
        end = start + head + size
        if len(buffer) < end:
            break
        frames.append((buffer[start] & 0x0F, buffer[start + head : end]))
        start = end
    return frames, buffer[start:]
