"""The values that travel, where they do more than hold fields."""

from __future__ import annotations

from bridge.values.errors import Forbidden, Unavailable
from bridge.values.message import (
    Authenticate,
    Batch,
    Error,
    Gap,
    Heartbeat,
    Restored,
    Subscribed,
    error_message,
)


def test_token_is_never_shown() -> None:
    shown = repr(Authenticate("s3cret", id=7))

    assert shown == "Authenticate(token=<6 characters>, id=7)"


def test_error_becomes_the_answer_to_its_request() -> None:
    answer = error_message(Forbidden("not open"), id="x", channel="a")

    assert answer == Error("forbidden", "not open", "x", "a", None)


def test_error_that_passes_says_when_to_ask_again() -> None:
    error = Unavailable("later", retry_delay=5.0)

    assert error_message(error, id=None, channel=None) == Error(
        "unavailable", "later", retry_delay=5.0
    )


def test_what_is_of_durable_channels_alone_is_none_unless_said() -> None:
    assert Batch("a", ("1",)) == Batch("a", ("1",), cursors=None, pid=None)
    assert Gap("a", "slow", 1.0) == Gap("a", "slow", 1.0, since=None, cursor=None)
    assert Subscribed("a", False, False) == Subscribed("a", False, False, None, None)
    assert Heartbeat() == Heartbeat(cursor=None)


def test_equal_values_are_one_key() -> None:
    first, second = Restored("a"), Restored("a")

    assert {first: 1}[second] == 1
