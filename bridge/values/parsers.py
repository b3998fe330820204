"""From the text of a variable to a value: one parser for each kind of setting.

A parser raises ValueError, whose text says what is expected.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from typing import Any

__all__ = [
    "Parse",
    "database_url",
    "dotted_path",
    "hosts",
    "names",
    "number",
    "origins",
    "proxies",
    "seconds",
    "socket_folder",
    "switch",
    "whole",
]

Parse = Callable[[str], Any]

MAX_SOCKET_PATH = 103
"""Bytes; Linux allows 107."""

MAX_SOCKET_NAME = len("/4194304-4194304.sock")
"""Two process numbers, as `bridge.server.run_folder` writes them."""


def number(low: float, high: float, what: str) -> Parse:
    """Parse a number in a range."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"a number of {what} is expected") from None
        if not low <= value <= high:
            raise ValueError(f"{low:g} to {high:g} {what} are allowed")
        return value

    return parse


def seconds(low: float, high: float) -> Parse:
    """Parse a duration in seconds."""
    return number(low, high, "seconds")


def whole(low: int, high: int, what: str) -> Parse:
    """Parse a whole number in a range."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\s*[0-9]{1,18}\s*", text):
            raise ValueError(f"a whole number of {what} is expected")
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"{low} to {high} {what} are allowed")
        return value

    return parse


def switch(text: str) -> bool:
    """Parse on or off."""
    value = {"on": True, "true": True, "1": True, "yes": True}.get(text.strip().lower())
    if value is None and text.strip().lower() not in ("off", "false", "0", "no"):
        raise ValueError("'on' or 'off' is expected")
    return bool(value)


def names(text: str) -> tuple[str, ...]:
    """Parse names separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def origins(text: str) -> tuple[str, ...]:
    """Parse origins of pages, separated by commas."""
    for origin in names(text):
        if origin != "null" and not re.fullmatch(r"https?://[^/?#\s*]+", origin):
            raise ValueError(
                f"{origin!r} is no origin: 'https://host' or 'https://host:port', "
                "without a path or '*', is expected"
            )
    # Browsers leave the default port out.
    return tuple(
        re.sub(r"^(https://.*):443$|^(http://.*):80$", r"\1\2", origin.lower())
        for origin in names(text)
    )


def hosts(text: str) -> tuple[str, ...]:
    """Parse host names without ports, separated by commas."""
    for host in names(text):
        if not re.fullmatch(r"\[[0-9A-Fa-f:.]+\]|[^\[\]/:*\s@]+", host):
            raise ValueError(f"{host!r} is no host name without port")
    return tuple(host.lower().strip("[]") for host in names(text))


def proxies(text: str) -> tuple[str, ...]:
    """Parse networks, and ``unix``, separated by commas."""
    for entry in names(text):
        if entry != "unix":
            try:
                ipaddress.ip_network(entry)
            except ValueError as exc:
                raise ValueError(f"{exc}; a network or 'unix' is expected") from None
    return names(text)


def socket_folder(text: str) -> str:
    """Parse the path of a folder in which there will be Unix sockets."""
    most = MAX_SOCKET_PATH - MAX_SOCKET_NAME
    if len(os.fsencode(text)) > most:
        raise ValueError(
            f"it is too long for the Unix sockets in there: at most {most} bytes"
        )
    return text


def dotted_path(text: str) -> str:
    """Check that a text can name something to import."""
    if not re.fullmatch(r"[^\W\d][\w.]*[.:]\w+", text):
        raise ValueError("a dotted path like 'package.module.name' is expected")
    return text


def database_url(text: str) -> str:
    """Check a database URL and strip another library's driver from it."""
    # SQLAlchemy and Django write their driver into the scheme.
    url = re.sub(r"^postgres(?:ql)?\+\w+://", "postgresql://", text.strip())
    url = re.sub(r"^postgis://", "postgresql://", url)
    scheme = re.match(r"^(\w[\w+.-]*)://", url)
    if scheme and scheme[1] not in ("postgresql", "postgres"):
        raise ValueError(f"'postgresql://' is expected, not {scheme[1] + '://'!r}")
    return url
