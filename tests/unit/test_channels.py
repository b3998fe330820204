"""Names of channels, and patterns over them."""

from __future__ import annotations

import pytest

from bridge.values.channels import (
    MAX_LISTEN_BYTES,
    Patterns,
    check_channel,
    check_pattern,
)
from bridge.values.errors import BadChannel


def refusal(name: str) -> str:
    with pytest.raises(BadChannel) as caught:
        check_channel(name)
    return str(caught.value)


def test_longest_name_is_postgresqls() -> None:
    assert MAX_LISTEN_BYTES == 63


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "watchers_42",
        "Case Matters",
        " ",
        "'; DROP TABLE users; --",
        '"quoted"',
        "user@example.com",
        "a/b//c",
        "bridge",
        "my_bridge_",
        "BRIDGE_x",
        "\x80",
        "é€😀",
        "x" * 63,
        "€" * 21,
    ],
)
def test_name_that_postgresql_can_listen_to_is_returned(name: str) -> None:
    assert check_channel(name) == name


def test_empty_name_is_refused() -> None:
    assert refusal("") == "channel '' is not valid: it is empty"


def test_name_of_64_bytes_is_refused() -> None:
    assert refusal("x" * 64) == (
        f"channel '{'x' * 60}…' is not valid: 64 bytes, at most 63 are allowed"
    )


def test_length_counts_bytes_and_not_characters() -> None:
    name = "€" * 22

    assert refusal(name) == (
        f"channel '{name}' is not valid: 66 bytes, at most 63 are allowed"
    )


@pytest.mark.parametrize("character", ["\0", "\n", "\x1f", "\x7f"])
def test_control_character_is_refused_with_its_place(character: str) -> None:
    name = f"ab{character}c"

    assert refusal(name) == f"channel {name!r} is not valid: control character at 2"


def test_lone_surrogate_is_refused() -> None:
    assert refusal("a\ud800") == r"channel 'a\ud800' is not valid: not Unicode text"


@pytest.mark.parametrize("name", ["*", "a*", "a*b"])
def test_asterisk_is_kept_for_patterns(name: str) -> None:
    assert refusal(name) == (f"channel {name!r} is not valid: '*' is kept for patterns")


@pytest.mark.parametrize("name", ["bridge_", "bridge_journal"])
def test_names_of_the_bridge_are_refused(name: str) -> None:
    assert refusal(name) == f"channel {name!r} is not valid: 'bridge_' is reserved"


# Patterns.


@pytest.mark.parametrize(
    ("pattern", "channel"),
    [
        ("a", "a"),
        ("*", ""),
        ("*", "anything\nat all"),
        ("watchers_*", "watchers_"),
        ("watchers_*", "watchers_42"),
        ("*_end", "the_end"),
        ("a*c*e", "abcde"),
        ("a*c*e", "ace"),
        ("**", "x"),
        ("a.b", "a.b"),
        ("[x]", "[x]"),
    ],
)
def test_pattern_covers_the_channel(pattern: str, channel: str) -> None:
    assert Patterns([pattern]).match(channel) is True


@pytest.mark.parametrize(
    ("pattern", "channel"),
    [
        ("a", "A"),
        ("a", "ab"),
        ("a", "ba"),
        ("a", "a\n"),
        ("watchers_*", "my_watchers_1"),
        ("*_end", "the_end_"),
        ("a*c", "ab"),
        ("a.b", "axb"),
        ("[x]", "x"),
        ("", "x"),
    ],
)
def test_pattern_does_not_cover_the_channel(pattern: str, channel: str) -> None:
    assert Patterns([pattern]).match(channel) is False


def test_any_one_pattern_is_enough() -> None:
    patterns = Patterns(["a", "b*"])

    assert [patterns.match(name) for name in ("a", "bc", "ab", "c")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("channel", ["", "a", "*"])
def test_without_patterns_nothing_is_covered(channel: str) -> None:
    assert Patterns([]).match(channel) is False


def test_patterns_show_themselves() -> None:
    assert repr(Patterns(iter(["a", "b*"]))) == "Patterns(['a', 'b*'])"


@pytest.mark.parametrize(
    ("pattern", "channel", "covered"),
    [
        ("a*b", "ab", True),
        ("a*b", "axxb", True),
        ("a*a", "a", False),
        ("a*b*c", "abc", True),
        ("a*b*c", "a-c", False),
        ("*b*", "abc", True),
        ("*ab*ab*", "ab", False),
        ("*ab*ab*", "abab", True),
        ("a**b", "ab", True),
        ("*a", "ba", True),
        ("*aa", "a", False),
        ("a*ba", "aba", True),
        ("a*b*ab", "ab", False),
    ],
)
def test_star_stands_for_any_run(pattern: str, channel: str, covered: bool) -> None:
    assert Patterns([pattern]).match(channel) is covered


def test_many_stars_take_no_time() -> None:
    # As a regular expression this takes longer than anybody waits.
    assert Patterns(["*a" * 31 + "*b"]).match("a" * 63) is False


def test_pattern_of_durable_channels_may_be_anything_but_empty_or_reserved() -> None:
    for pattern in ("a", "*", "orders_*", "my bridge_*"):
        assert check_pattern(pattern) == pattern
    for pattern, reason in (("", "empty"), ("bridge_*", "'bridge_' is reserved")):
        with pytest.raises(BadChannel, match=reason):
            check_pattern(pattern)
