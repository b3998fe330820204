"""What a client is told that the application does not see."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = [
    "FULL",
    "LINGER",
    "TIMED_OUT",
    "TOO_LARGE",
    "linger",
    "too_many_requests",
]

LINGER = 2.0
"""Seconds that a refused client has to read why."""


def _answer(status: str, text: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Connection: close", "Content-Type: text/plain"]
    lines += [*headers, f"Content-Length: {len(text)}", "", text]
    return "\r\n".join(lines).encode()


TIMED_OUT = _answer("408 Request Timeout", "the request was not complete in time\n")
TOO_LARGE = _answer(
    "431 Request Header Fields Too Large", "the request's head is too large\n"
)
FULL = _answer(
    "503 Service Unavailable",
    "no more connections here, try again\n",
    "Retry-After: 5",
)


def too_many_requests(
    environ: Mapping[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """Answer a request that would have to wait for too long; a WSGI application."""
    text = b"too many requests from your address, try again\n"
    headers = [
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(text))),
        ("Retry-After", "10"),
        ("Connection", "close"),
    ]
    start_response("503 Service Unavailable", headers)
    return [text]


def linger(sock: Any) -> None:
    """End our direction and read until the peer ends its own.

    Closing a socket with unread bytes in it sends a reset, which would
    overtake what was written.
    """
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(65536):
        pass
