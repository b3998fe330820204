"""The upgrade to WebSocket, accepted or refused by the view like any request.

Source: RFC 6455, 4.2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from bridge.values.errors import RequestRefused

__all__ = ["accept"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"


def accept(environ: Mapping[str, Any], subprotocol: str) -> dict[str, str]:
    """Check an upgrade request and return the headers of the 101 answer.

    Args:
        subprotocol: selected when the client offers it.

    Raises:
        RequestRefused: 426 when it asks for no WebSocket or another version of
            it, 400 when it is malformed.
    """
    upgrade = _tokens(environ, "HTTP_UPGRADE")
    if "websocket" not in upgrade:
        raise _upgrade_required("this is a WebSocket address: connect with ws://")
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != _VERSION:
        raise _upgrade_required(f"Sec-WebSocket-Version must be {_VERSION}")
    if environ.get("REQUEST_METHOD") != "GET":
        raise RequestRefused(400, "a WebSocket handshake must be a GET")
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
        raise RequestRefused(400, "a WebSocket handshake needs HTTP/1.1")
    if "upgrade" not in _tokens(environ, "HTTP_CONNECTION"):
        raise RequestRefused(400, "the Connection header must contain 'upgrade'")
    body = environ.get("CONTENT_LENGTH") or "0"
    if body != "0" or environ.get("HTTP_TRANSFER_ENCODING"):
        raise RequestRefused(400, "a WebSocket handshake must have no body")
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": _accept_key(key),
    }
    offered = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
    if subprotocol in (token.strip() for token in offered.split(",")):
        headers["Sec-WebSocket-Protocol"] = subprotocol
    return headers


def _accept_key(key: str) -> str:
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        raise RequestRefused(400, "Sec-WebSocket-Key must be 16 bytes in base64")
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def _tokens(environ: Mapping[str, Any], name: str) -> set[str]:
    return {token.strip().lower() for token in environ.get(name, "").split(",")}


def _upgrade_required(message: str) -> RequestRefused:
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": _VERSION,
    }
    return RequestRefused(426, message, headers)
