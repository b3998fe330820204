"""The native protocol, ``pgbridge.v1``: JSON messages in WebSocket text frames.

`decode` reads what a client says, `encode` and `encode_batch` write what the
server says; all of it is docs/protocol.md. A batch is encoded once for all its
subscribers, so this is where a payload is looked at, and nowhere else.
"""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import repeat
from json.encoder import encode_basestring
from typing import Any, NoReturn

from bridge.values.errors import BadMessage, UnknownType
from bridge.values.message import (
    Authenticate,
    Authenticated,
    Batch,
    Bye,
    Error,
    Gap,
    Heartbeat,
    Id,
    Interrupted,
    Ping,
    Pong,
    Request,
    Restored,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Welcome,
)
from bridge.wire import frames

__all__ = ["PROTOCOL", "SUBPROTOCOL", "decode", "encode", "encode_batch"]

PROTOCOL = 1
SUBPROTOCOL = "pgbridge.v1"

MAX_CHUNK_BYTES = 256 * 1024
"""Chunks end at a frame; a slow client holds at most one that is begun."""

MAX_NESTING = 100
"""Deeper payloads travel as text: browsers and proxies differ beyond it."""

MAX_ID_CHARACTERS = 64

_TYPES: dict[type[Any], str] = {
    Authenticated: "authenticated",
    Bye: "bye",
    Error: "error",
    Gap: "gap",
    Heartbeat: "heartbeat",
    Interrupted: "interrupted",
    Pong: "pong",
    Restored: "restored",
    Subscribed: "subscribed",
    Unsubscribed: "unsubscribed",
    Welcome: "welcome",
}


# Server to client.


def encode(message: ServerMessage) -> bytes:
    """Encode one message as one frame; fields that are None are left out."""
    values: dict[str, Any] = {"type": _TYPES[type(message)]}
    for field in fields(message):
        value = getattr(message, field.name)
        if value is not None:
            values[field.name] = value
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    # An id may hold a lone surrogate (JSON's escapes allow it); UTF-8 cannot.
    return frames.encode_text(text.encode(errors="replace"))


def encode_batch(batch: Batch) -> list[bytes]:
    """Encode a batch as chunks of whole frames, each frame one notification.

    A payload that is a JSON object or array is copied as it is under ``data``;
    any other one is a string under ``text``.
    """
    head = '{"type":"notification","channel":' + encode_basestring(batch.channel)
    chunks: list[bytes] = []
    chunk: list[bytes] = []
    size = 0
    cursors = batch.cursors or repeat(None, len(batch.payloads))
    for payload, cursor in zip(batch.payloads, cursors, strict=True):
        start = head if cursor is None else f'{head},"cursor":"{cursor}"'
        if isinstance(payload, Gap):
            frame = encode(payload)
        elif _is_json_container(payload):
            frame = frames.encode_text(f'{start},"data":{payload}}}'.encode())
        else:
            text = encode_basestring(payload)
            frame = frames.encode_text(f'{start},"text":{text}}}'.encode())
        if chunk and size + len(frame) > MAX_CHUNK_BYTES:
            chunks.append(b"".join(chunk))
            chunk, size = [], 0
        chunk.append(frame)
        size += len(frame)
    if chunk:
        chunks.append(b"".join(chunk))
    return chunks


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Numbers are checked for form only: their digits are copied, never converted.
_checker = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_int=bool, parse_float=bool
)

_WHITESPACE = " \t\n\r"
"""JSON's own; Python's idea of it is wider."""


def _is_json_container(payload: str) -> bool:
    """Tell whether `payload` is a JSON object or array by RFC 8259."""
    text = payload.strip(_WHITESPACE)
    if text[:1] not in ("{", "["):
        return False
    try:
        value, end = _checker.raw_decode(text)
    except (ValueError, RecursionError):
        return False
    if end != len(text):
        return False
    # Counting brackets is cheap and nearly always enough.
    brackets = payload.count("[") + payload.count("{")
    return brackets <= MAX_NESTING or _depth(value) <= MAX_NESTING


def _depth(value: Any) -> int:
    depth = 0
    level = [value]
    while level:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not any(isinstance(item, (dict, list)) for item in level):
            break
        depth += 1
        level = inner
    return depth


# Client to server.


def decode(text: str) -> Request:
    """Read one request of a client.

    Raises:
        BadMessage: not a JSON object, or a field is missing or of the wrong
            type; carries the request's id when it has a valid one.
        UnknownType: a message of a type that this server does not know.
    """
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadMessage("the message is not JSON") from None
    if not isinstance(values, dict):
        raise BadMessage("the message is not a JSON object")
    id = _id(values)
    kind = values.get("type")
    if kind == "subscribe":
        return Subscribe(
            channel=_string(values, "channel", id),
            cursor=_optional_string(values, "cursor", id),
            resume=_boolean(values, "resume", id),
            id=id,
        )
    if kind == "unsubscribe":
        return Unsubscribe(channel=_string(values, "channel", id), id=id)
    if kind == "authenticate":
        return Authenticate(token=_string(values, "token", id), id=id)
    if kind == "ping":
        return Ping(id=id)
    if not isinstance(kind, str):
        raise BadMessage("'type' must be a string", id=id)
    raise UnknownType(f"type {kind[:64]!r} is not known", id=id)


def _id(values: dict[str, Any]) -> Id | None:
    id = values.get("id")
    if id is None or type(id) is int:
        return id
    if isinstance(id, str) and len(id) <= MAX_ID_CHARACTERS:
        return id
    raise BadMessage(
        f"'id' must be an integer or a string of at most {MAX_ID_CHARACTERS} characters"
    )


def _string(values: dict[str, Any], name: str, id: Id | None) -> str:
    value = values.get(name)
    if not isinstance(value, str):
        raise BadMessage(f"{name!r} must be a string", id=id)
    return value


def _optional_string(values: dict[str, Any], name: str, id: Id | None) -> str | None:
    return None if values.get(name) is None else _string(values, name, id)


def _boolean(values: dict[str, Any], name: str, id: Id | None) -> bool:
    value = values.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadMessage(f"{name!r} must be true or false", id=id)
    return value
