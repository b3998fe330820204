"""The opening handshake: any headers of a request that pywsgi has understood.

Law: the headers of a correct 101, or `RequestRefused` with a status of
docs/protocol.md; and an address for every peer.
"""

from __future__ import annotations

import base64
import hashlib
from random import Random
from typing import Any

from bridge.access.origin import OriginRules, Proxies
from bridge.clients.handshake import accept
from bridge.values.errors import RequestRefused
from bridge.values.limits import address_group
from fuzz.inputs import mutate, some_text
from fuzz.run import Target

__all__ = ["target"]

_SEEDS = {
    "REQUEST_METHOD": ("GET", "POST", "get"),
    "SERVER_PROTOCOL": ("HTTP/1.1", "HTTP/1.0", "HTTP/2"),
    "HTTP_HOST": ("bridge.example", "bridge.example:80", "[::1]:8000", "", "a,b"),
    "HTTP_UPGRADE": ("websocket", "h2c, WebSocket", "h2c"),
    "HTTP_CONNECTION": ("Upgrade", "keep-alive, Upgrade", "close"),
    "HTTP_SEC_WEBSOCKET_VERSION": ("13", "8", "13, 14"),
    "HTTP_SEC_WEBSOCKET_KEY": ("dGhlIHNhbXBsZSBub25jZQ==", "short", "A" * 24),
    "HTTP_SEC_WEBSOCKET_PROTOCOL": ("pgbridge.v1", "a, pgbridge.v1", "chat"),
    "HTTP_ORIGIN": ("http://bridge.example", "null", "http://[", "https://a:99999"),
    "HTTP_X_FORWARDED_FOR": ("1.2.3.4", "::1, 10.0.0.1", "fe80::1%eth0", "a,,b"),
    "HTTP_X_FORWARDED_PROTO": ("https", "http", "https,http"),
    "REMOTE_ADDR": ("127.0.0.1", "::1", "", "10.0.0.1", "::ffff:1.2.3.4"),
    "CONTENT_LENGTH": ("0", "", "5"),
    "HTTP_TRANSFER_ENCODING": ("chunked",),
}
_RARE = ("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING")
_SPARE = (",", " ", "=", ":", "@", "[", "]", "%", "/", "\t", "\xe4", "\xff", "\x00")
_RULES = OriginRules(frozenset({"https://www.example"}), frozenset())
_HOST_RULES = OriginRules(frozenset({"null"}), frozenset({"bridge.example"}))
_PROXIES = Proxies(["10.0.0.0/8", "127.0.0.1", "::1", "unix"])

Input = dict[str, str]
Outcome = tuple[dict[str, str] | RequestRefused, str, str]


def target() -> Target[Input]:
    return Target(_make, _run, _judge)


def _make(random: Random) -> Input:
    environ = {}
    for name, seeds in _SEEDS.items():
        # Mostly the first of them, which is the right one.
        value = seeds[0] if random.random() < 0.85 else random.choice(seeds)
        if name in _RARE and random.random() < 0.95:
            continue
        # The peer's address is the kernel's word, not a stranger's.
        if name != "REMOTE_ADDR":
            if random.random() < 0.1:
                value = mutate(random, value, (*_SPARE, *seeds))
            if random.random() < 0.03:
                value = some_text(random, 50)
        if random.random() < 0.97:
            # WSGI's strings are bytes in disguise; no header has a line end.
            data = value.encode(errors="replace").replace(b"\n", b"").strip()
            environ[name] = data[:30_000].decode("latin-1")
    return environ


def _run(environ: Input) -> Outcome:
    peer = _PROXIES.peer(
        environ.get("REMOTE_ADDR", ""),
        environ.get("HTTP_X_FORWARDED_FOR"),
        environ.get("HTTP_X_FORWARDED_PROTO"),
        tls=False,
    )
    group = address_group(peer.address)
    try:
        headers = accept(environ, "pgbridge.v1")
        host = environ.get("HTTP_HOST", "")
        for rules in (_RULES, _HOST_RULES):
            rules.check(environ.get("HTTP_ORIGIN"), host, peer.scheme)
    except RequestRefused as refused:
        return refused, peer.address, group
    return headers, peer.address, group


def _judge(environ: Input, outcome: Outcome) -> str:
    found, address, group = outcome
    assert bool(address) == bool(group), (address, group)
    if isinstance(found, RequestRefused):
        assert found.http_status in (400, 403, 426), found.http_status
        assert not any("\n" in part or "\r" in part for part in _texts(found.headers))
        return str(found.http_status)
    assert environ["REQUEST_METHOD"] == "GET"
    key = environ["HTTP_SEC_WEBSOCKET_KEY"].strip()
    assert len(base64.b64decode(key, validate=True)) == 16
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode())
    answer = base64.b64encode(digest.digest()).decode()
    assert found["Sec-WebSocket-Accept"] == answer
    assert found.get("Sec-WebSocket-Protocol", "pgbridge.v1") == "pgbridge.v1"
    return "101"


def _texts(headers: Any) -> list[str]:
    return [text for header in headers.items() for text in header]
