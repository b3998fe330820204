"""From the environment to a dataclass of settings, and to the pages about it.

A field says how its variable is read, and what a reader should know of it
(`setting`). A variable that is misspelt, or whose value is not valid, is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import Field, field, fields
from typing import Any

from bridge.values.errors import SettingsError
from bridge.values.parsers import Parse

__all__ = ["PREFIX", "describe", "read", "setting", "variable"]

PREFIX = "BRIDGE_"

_TESTS = "BRIDGE_TEST_"
"""Variables of the test suite; not looked at."""


def setting(
    parser: Parse,
    default: Any,
    *,
    shown: str,
    says: str,
    also: str | None = None,
    secret: bool = False,
) -> Any:
    """Declare a field.

    Args:
        shown: the default as a reader should see it, with its unit.
        says: one or two sentences; what 0 or empty means.
        also: a second variable, used when the first is not set.
    """
    metadata = {
        "parse": parser,
        "shown": shown,
        "says": says,
        "also": also,
        "secret": secret,
    }
    return field(default=default, repr=not secret, metadata=metadata)


def read(
    declared: type[Any], environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Read the fields of a dataclass from their variables.

    Returns:
        The values that are set, by field; the variable that each came from; and
        warnings, one sentence each.

    Raises:
        SettingsError: with every problem at once.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems: list[str] = []
    for item in fields(declared):
        names = [variable(item), item.metadata["also"]]
        name = next(
            (name for name in names if name and environ.get(name, "").strip()),
            None,
        )
        if name is None:
            continue
        try:
            values[item.name] = item.metadata["parse"](environ[name])
            sources[item.name] = name
        except ValueError as exc:
            shown = "***" if item.metadata["secret"] else repr(environ[name])
            problems.append(f"{name}={shown} is not valid: {exc}")
    known = [variable(item) for item in fields(declared)]
    warnings = _unknown(environ, known, problems)
    if problems:
        raise SettingsError(problems)
    return values, sources, warnings


def variable(item: Field[Any]) -> str:
    """Return the environment variable of a field."""
    return PREFIX + item.name.upper()


def describe(declared: type[Any]) -> list[tuple[str, str, str]]:
    """Return (variable, default, meaning) of every field, for the pages."""
    rows = []
    for item in fields(declared):
        name = variable(item)
        if item.metadata["also"]:
            name += f" (else {item.metadata['also']})"
        rows.append((name, item.metadata["shown"], item.metadata["says"]))
    return rows


def _unknown(
    environ: Mapping[str, str], known: list[str], problems: list[str]
) -> list[str]:
    """Find misspelt variables: near a known one an error, else a warning."""
    warnings = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.startswith(_TESTS) or name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if near:
            problems.append(f"{name} is not a setting: did you mean {near[0]}?")
        else:
            warnings.append(f"{name} is not a setting of pgbridge and does nothing")
    return warnings
