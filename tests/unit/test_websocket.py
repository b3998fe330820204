"""One connection over a real socket: the alarm that its conversation sets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.clients.connection import Visitor, opener
from bridge.clients.websocket import WebSocketConnection
from bridge.values.errors import CloseCode
from bridge.values.identity import Identity
from unit.doubles import (
    CLOSE,
    TEXT,
    client_frame,
    connection_options,
    server_frames,
)
from unit.loop import run_until

AUTHENTICATE_TIMEOUT = 0.3


class Tokens:
    """Every token is somebody's; `expires_in` is for how long.

    Args:
        expires_in: seconds; None: it does not expire.
    """

    takes_tokens = True

    def __init__(self, expires_in: float | None) -> None:
        self._expires_in = expires_in

    def is_public(self, channel: str) -> bool:
        return False

    def authenticate(self, token: str) -> Identity:
        if self._expires_in is None:
            return Identity("ada")
        return Identity("ada", expires_at=time.time() + self._expires_in)

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        return identity is not None


class Browser:
    """The far end of a connection that waits for a token."""

    def __init__(self, expires_in: float | None = None) -> None:
        options = connection_options(
            Tokens(expires_in), authenticate_timeout=AUTHENTICATE_TIMEOUT
        )
        self.connections = options.connections
        near, self._far = socket.socketpair()
        near.setblocking(False)
        self._far.setblocking(False)
        self._received = bytearray()
        visitor = Visitor(["a"], cursor=None, identity=None, refusal=None, address="")
        opener(WebSocketConnection, options, visitor)(near, b"")

    def close(self) -> None:
        self._far.close()
        run_until(lambda: len(self.connections) == 0)

    def say(self, type: str, **fields: Any) -> None:
        self._far.send(
            client_frame(TEXT, json.dumps({"type": type, **fields}).encode())
        )

    @property
    def told(self) -> list[str | int]:
        """The types of the messages that came, and the code of a Close."""
        try:
            self._received += self._far.recv(65536)
        except BlockingIOError:
            pass
        return [
            int.from_bytes(payload[:2], "big")
            if first & 0x0F == CLOSE
            else json.loads(payload)["type"]
            for first, payload in server_frames(bytes(self._received))
        ]


@pytest.fixture
def browsers() -> Iterator[list[Browser]]:
    made: list[Browser] = []
    yield made
    for browser in made:
        browser.close()


def test_client_whose_channels_wait_in_vain_is_closed(browsers: list[Browser]) -> None:
    browser = Browser()
    browsers.append(browser)

    run_until(lambda: len(browser.told) == 3)

    assert browser.told == ["welcome", "bye", CloseCode.AUTHENTICATE_TIMEOUT]


def test_token_without_expiry_ends_the_wait_for_good(browsers: list[Browser]) -> None:
    browser = Browser()
    browsers.append(browser)

    browser.say("authenticate", token="t")
    until = time.monotonic() + 4 * AUTHENTICATE_TIMEOUT
    run_until(lambda: time.monotonic() > until)

    assert browser.told == ["welcome", "authenticated", "subscribed"]


def test_token_that_expires_replaces_the_wait(browsers: list[Browser]) -> None:
    browser = Browser(expires_in=3 * AUTHENTICATE_TIMEOUT)
    browsers.append(browser)
    began = time.monotonic()

    browser.say("authenticate", token="t")
    run_until(lambda: len(browser.told) == 5)

    assert browser.told == [
        "welcome",
        "authenticated",
        "subscribed",
        "bye",
        CloseCode.TOKEN_EXPIRED,
    ]
    assert time.monotonic() - began > 2 * AUTHENTICATE_TIMEOUT
