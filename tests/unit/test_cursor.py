"""Cursors: what a client may send back, and what is none of ours."""

from __future__ import annotations

import pytest

from bridge.values.cursor import Cursor, parse_cursor
from bridge.values.errors import BadCursor


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        ("0-0", Cursor("0", 0)),
        ("e1-7", Cursor("e1", 7)),
        ("e1-10", Cursor("e1", 10)),
        ("0123456789abcdef-1", Cursor("0123456789abcdef", 1)),
        (f"{'f' * 32}-9223372036854775807", Cursor("f" * 32, 2**63 - 1)),
    ],
)
def test_cursor_is_read_and_written_as_it_was(text: str, cursor: Cursor) -> None:
    assert parse_cursor(text) == cursor
    assert str(cursor) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "plain",
        "e1",
        "e1-",
        "-1",
        "e1--1",
        "e1-+1",
        "e1-01",
        "e1-00",
        "e1-1.0",
        "e1-1_0",
        "e1-1 ",
        " e1-1",
        "e1-1\n",
        "e1-1-1",
        "E1-1",
        "g-1",
        "e1-٣",  # a digit, and not of ASCII
        f"{'f' * 33}-1",
        "e1-9223372036854775808",
        "e1-99999999999999999999",
    ],
)
def test_anything_else_is_no_cursor(text: str) -> None:
    with pytest.raises(BadCursor) as caught:
        parse_cursor(text)

    assert str(caught.value) == f"cursor {text!r} is not valid"


def test_long_cursor_is_repeated_only_in_part() -> None:
    with pytest.raises(BadCursor) as caught:
        parse_cursor("x" * 1000)

    assert str(caught.value) == f"cursor {'x' * 64!r} is not valid"


def test_cursors_of_two_epochs_are_never_the_same() -> None:
    assert Cursor("e1", 1) != Cursor("e2", 1)


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [
        (Cursor("e1", 5), None),
        (Cursor("e1", 9), None),
        (Cursor("e1", 4), "expired"),
        (Cursor("e2", 4), "epoch_changed"),
        (Cursor("e2", 9), "epoch_changed"),
    ],
)
def test_cursor_knows_what_stands_in_its_way(
    cursor: Cursor, reason: str | None
) -> None:
    assert cursor.obstacle("e1", floor=5) == reason
