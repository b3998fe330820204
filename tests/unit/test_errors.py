"""The tree of errors and what each tells the edges."""

from __future__ import annotations

import pytest

from bridge.values import errors
from bridge.values.errors import (
    BadChannel,
    BadCursor,
    BadMessage,
    BridgeError,
    ClientError,
    CloseCode,
    DatabaseError,
    Forbidden,
    NotAuthenticated,
    ProtocolViolation,
    RateLimited,
    RequestRefused,
    SettingsError,
    TokenExpired,
    TokenInvalid,
    TooManyChannels,
    Unavailable,
    UnknownType,
)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1001, "GOING_AWAY"),
        (1011, "INTERNAL"),
        (1012, "RESTART"),
        (1013, "OVERLOADED"),
        (4001, "TOKEN_EXPIRED"),
        (4002, "AUTHENTICATE_TIMEOUT"),
        (4008, "SLOW"),
        (4009, "HEARTBEAT_TIMEOUT"),
    ],
)
def test_client_closed_with_this_code_comes_back(code: int, name: str) -> None:
    assert (CloseCode(code).name, CloseCode(code).reconnect) == (name, True)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1000, "NORMAL"),
        (1002, "PROTOCOL_ERROR"),
        (1003, "UNSUPPORTED_DATA"),
        (1007, "INVALID_DATA"),
        (1009, "TOO_BIG"),
        (4500, "TOO_MANY_ERRORS"),
        (4501, "NOT_AUTHENTICATED"),
        (4503, "FORBIDDEN"),
        (4504, "REVOKED"),
        (4505, "PROTOCOL_UNSUPPORTED"),
    ],
)
def test_client_closed_with_this_code_stays_away(code: int, name: str) -> None:
    assert (CloseCode(code).name, CloseCode(code).reconnect) == (name, False)


def test_there_is_no_further_close_code() -> None:
    assert len(CloseCode) == 18


@pytest.mark.parametrize(
    ("error", "code", "http_status"),
    [
        (ClientError, "internal", 400),
        (BadMessage, "bad_message", 400),
        (UnknownType, "unknown_type", 400),
        (BadChannel, "bad_channel", 400),
        (BadCursor, "bad_cursor", 400),
        (Forbidden, "forbidden", 403),
        (NotAuthenticated, "not_authenticated", 401),
        (TokenInvalid, "token_invalid", 401),
        (TokenExpired, "token_expired", 401),
        (RateLimited, "rate_limited", 400),
        (TooManyChannels, "too_many_channels", 400),
        (Unavailable, "unavailable", 503),
    ],
)
def test_error_of_a_client_has_code_and_status(
    error: type[ClientError], code: str, http_status: int
) -> None:
    raised = error("what is wrong")

    assert (raised.code, raised.http_status) == (code, http_status)
    assert (str(raised), raised.message) == ("what is wrong", "what is wrong")
    assert raised.retry_delay is None


def test_error_of_a_client_may_say_when_to_ask_again() -> None:
    assert Unavailable("later", retry_delay=5.0).retry_delay == 5.0


@pytest.mark.parametrize(
    ("error", "close_code"),
    [
        (Forbidden, 4503),
        (NotAuthenticated, 4501),
        (TokenInvalid, 4501),
        (TokenExpired, 4001),
    ],
)
def test_client_that_is_not_let_in_is_closed_with(
    error: type[ClientError], close_code: int
) -> None:
    assert error("no").close_code == close_code


@pytest.mark.parametrize("error", [BadMessage, UnknownType])
def test_bad_message_carries_the_id_of_its_request(error: type[BadMessage]) -> None:
    assert (error("no").id, error("no", id=0).id, error("no", id="x").id) == (
        None,
        0,
        "x",
    )


def test_settings_error_shows_one_problem_a_line() -> None:
    error = SettingsError(["A is wrong", "B is wrong"])

    assert error.problems == ("A is wrong", "B is wrong")
    assert str(error) == "A is wrong\nB is wrong"


def test_violation_carries_the_close_code() -> None:
    error = ProtocolViolation(CloseCode.TOO_BIG, "message exceeds 5 bytes")

    assert (error.close_code, error.reason) == (1009, "message exceeds 5 bytes")
    assert str(error) == "message exceeds 5 bytes"


def test_refused_request_carries_status_text_and_headers() -> None:
    given = {"Retry-After": "5"}

    error = RequestRefused(503, "try again", given)
    given.clear()

    assert (error.http_status, str(error), error.message) == (
        503,
        "try again",
        "try again",
    )
    assert error.headers == {"Retry-After": "5"}


def test_refused_request_has_no_headers_by_default() -> None:
    assert RequestRefused(403, "no").headers == {}


def test_database_error_is_temporary_for_http() -> None:
    error = DatabaseError("PostgreSQL is away")

    assert (error.http_status, error.close_code) == (503, CloseCode.INTERNAL)
    assert str(error) == "PostgreSQL is away"


def test_any_other_error_is_our_fault() -> None:
    assert (BridgeError.http_status, BridgeError.close_code) == (500, 1011)


def test_every_error_of_the_module_is_public_and_in_the_tree() -> None:
    found = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, Exception)
        and value.__module__ == errors.__name__
    }

    assert found | {"CloseCode"} == set(errors.__all__)
    assert all(issubclass(getattr(errors, name), BridgeError) for name in found)
