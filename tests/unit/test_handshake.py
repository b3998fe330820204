"""The upgrade to WebSocket: the exact answer, or the exact refusal."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.clients.handshake import accept
from bridge.values.errors import RequestRefused

# RFC 6455, 1.3.
REQUEST = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
}
ANSWER = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
}


def answer(**changes: str) -> dict[str, str]:
    return accept(REQUEST | changes, "pgbridge.v1")


def refusal(environ: dict[str, Any]) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        accept(environ, "pgbridge.v1")
    return caught.value


def test_handshake_of_the_rfc_is_answered() -> None:
    assert answer() == ANSWER


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_UPGRADE": "WebSocket"},
        {"HTTP_UPGRADE": "h2c, websocket"},
        {"HTTP_CONNECTION": "keep-alive, UPGRADE"},
        {"HTTP_SEC_WEBSOCKET_KEY": " dGhlIHNhbXBsZSBub25jZQ== "},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_LENGTH": "0"},
        {"HTTP_TRANSFER_ENCODING": ""},
    ],
)
def test_other_ways_to_say_the_same_are_answered_alike(
    changes: dict[str, str],
) -> None:
    assert answer(**changes) == ANSWER


@pytest.mark.parametrize(
    "offered", ["pgbridge.v1", "other, pgbridge.v1", "pgbridge.v1,other"]
)
def test_subprotocol_is_selected_when_offered(offered: str) -> None:
    assert answer(HTTP_SEC_WEBSOCKET_PROTOCOL=offered) == ANSWER | {
        "Sec-WebSocket-Protocol": "pgbridge.v1"
    }


@pytest.mark.parametrize(
    "offered", ["", "other", "pgbridge.v11", "PGBRIDGE.V1", "pgbridge.v1 other"]
)
def test_subprotocol_is_not_selected_otherwise(offered: str) -> None:
    assert answer(HTTP_SEC_WEBSOCKET_PROTOCOL=offered) == ANSWER


@pytest.mark.parametrize("upgrade", [None, "", "h2c", "websockets", "web socket"])
def test_request_without_upgrade_is_told_to_upgrade(upgrade: str | None) -> None:
    environ = {**REQUEST, "HTTP_UPGRADE": upgrade}
    if upgrade is None:
        del environ["HTTP_UPGRADE"]

    refused = refusal(environ)

    assert refused.http_status == 426
    assert str(refused) == "this is a WebSocket address: connect with ws://"
    assert refused.headers == {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
    }


@pytest.mark.parametrize("version", [None, "", "8", "14", "13, 8"])
def test_other_version_is_told_which_one_is_spoken(version: str | None) -> None:
    environ = {**REQUEST, "HTTP_SEC_WEBSOCKET_VERSION": version}
    if version is None:
        del environ["HTTP_SEC_WEBSOCKET_VERSION"]

    refused = refusal(environ)

    assert refused.http_status == 426
    assert str(refused) == "Sec-WebSocket-Version must be 13"
    assert refused.headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"REQUEST_METHOD": "POST"}, "a WebSocket handshake must be a GET"),
        ({"REQUEST_METHOD": "HEAD"}, "a WebSocket handshake must be a GET"),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, "a WebSocket handshake needs HTTP/1.1"),
        (
            {"HTTP_CONNECTION": "keep-alive"},
            "the Connection header must contain 'upgrade'",
        ),
        ({"HTTP_CONNECTION": ""}, "the Connection header must contain 'upgrade'"),
        ({"CONTENT_LENGTH": "1"}, "a WebSocket handshake must have no body"),
        (
            {"HTTP_TRANSFER_ENCODING": "chunked"},
            "a WebSocket handshake must have no body",
        ),
    ],
)
def test_malformed_request_is_refused(changes: dict[str, str], message: str) -> None:
    refused = refusal({**REQUEST, **changes})

    assert (refused.http_status, str(refused)) == (400, message)
    assert refused.headers == {}


@pytest.mark.parametrize(
    "key",
    [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",  # no padding
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25j",  # 15 bytes
        "dGhlIHNhbXBsZSBub25jZQAA",  # 18 bytes
        "dGhlIHNhbXBsZSB!b25jZQ==",
        "dGhlIHNhbXBsZSBub25jZQ==x",
        "dGhlIHNhbXBsZSBub25jé===",
        "\udcff",
    ],
)
def test_malformed_key_is_refused(key: str) -> None:
    refused = refusal({**REQUEST, "HTTP_SEC_WEBSOCKET_KEY": key})

    assert (refused.http_status, str(refused)) == (
        400,
        "Sec-WebSocket-Key must be 16 bytes in base64",
    )


@pytest.mark.parametrize(
    ("name", "http_status"),
    [
        ("REQUEST_METHOD", 400),
        ("SERVER_PROTOCOL", 400),
        ("HTTP_CONNECTION", 400),
        ("HTTP_SEC_WEBSOCKET_KEY", 400),
    ],
)
def test_missing_part_is_refused(name: str, http_status: int) -> None:
    environ = dict(REQUEST)
    del environ[name]

    assert refusal(environ).http_status == http_status


def test_plain_request_is_told_to_upgrade_whatever_else_is_wrong() -> None:
    assert refusal({"REQUEST_METHOD": "POST"}).http_status == 426
