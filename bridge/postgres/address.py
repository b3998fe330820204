"""Where the database is: DSN, password and host names, read anew at each try.

A password that was rotated, a DNS entry that moved and a password file that
was replaced are found at the next connection, without a restart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bridge.values.errors import DatabaseError

try:
    import psycopg2
    from psycopg2.extensions import make_dsn, parse_dsn
except ImportError as exc:
    raise ImportError(
        "pgbridge needs psycopg2: run  pip install 'pgbridge[binary]'  "
        "(or 'pgbridge[psycopg2]', which compiles it)"
    ) from exc

__all__ = ["Address", "Resolve"]

Resolve = Callable[[str], Sequence[str]]
"""From host name to its addresses; raises OSError."""

SHOWN = ("service", "host", "hostaddr", "port", "user", "dbname")
"""Parameters that logs may show, in this order."""

KEEPALIVES = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""A server that vanished without a word is noticed within a minute."""


@dataclass(frozen=True, slots=True)
class Address:
    """How to reach the database.

    Attributes:
        url: a libpq connection string or ``postgresql://`` URL.
        password_file: a file that holds the password alone; None: the DSN's,
            ``PGPASSWORD`` or ``~/.pgpass``.
    """

    url: str = field(repr=False)
    password_file: str | None = None

    def dsn(self, resolve: Resolve | None = None, **extra: str) -> str:
        """Build the connection string for one try.

        Args:
            resolve: looks host names up, so that libpq need not: its own
                look-up would block the whole process. None leaves it to libpq.
            extra: further libpq parameters; the URL's own ones win.

        Raises:
            DatabaseError: the URL cannot be parsed, the password file cannot
                be read or a name cannot be resolved.
        """
        parameters: dict[str, str] = {**KEEPALIVES, **extra, **self._given()}
        if self.password_file is not None:
            parameters["password"] = self._password(self.password_file)
        if resolve is not None and "hostaddr" not in parameters:
            parameters.update(_resolved(parameters, resolve))
        dsn: str = make_dsn(**parameters)
        return dsn

    def check(self) -> None:
        """Check what can be checked without a try.

        Raises:
            DatabaseError: the URL cannot be parsed.
        """
        self._given()

    def _given(self) -> dict[str, str]:
        try:
            given: dict[str, str] = parse_dsn(self.url)
        except (psycopg2.Error, UnicodeError):
            # libpq's own words may quote the password.
            unknown = _unknown_parameter(self.url)
            raise DatabaseError(
                "the database URL is not valid: check its quotes, and the "
                "percent-encoding of special characters"
                if unknown is None
                else f"the database URL has a parameter {unknown!r}, which libpq, "
                "PostgreSQL's own client, does not know: take it out"
            ) from None
        return given

    def __str__(self) -> str:
        """Where it is, for logs: nothing that could be a secret."""
        try:
            given = parse_dsn(self.url)
        except (psycopg2.Error, UnicodeError):
            return "(not valid)"
        shown = {name: given[name] for name in SHOWN if name in given}
        # A password whose special characters are not encoded falls apart, and
        # its parts stand anywhere. (An abstract socket begins with @.)
        parts = [shown.get(name, "").removeprefix("@") for name in SHOWN]
        port = shown.get("port", "").replace(",", "")
        if re.search("[@=]|://", " ".join(parts)) or not (port.isdigit() or not port):
            return "(an address with special characters)"
        return " ".join(f"{name}={value}" for name, value in shown.items())

    @staticmethod
    def _password(path: str) -> str:
        try:
            return Path(path).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not text in UTF-8"
            raise DatabaseError(
                f"cannot read BRIDGE_DATABASE_PASSWORD_FILE {path!r}: {reason}"
            ) from None


def _unknown_parameter(url: str) -> str | None:
    """Return the first parameter of a URL that libpq does not know.

    Other clients have their own. None: there is none, or what looks like one
    could be a part of a password.
    """
    _, _, query = url.partition("?")
    if "@" in query:
        return None
    for name in re.findall(r"(?:^|&)([a-zA-Z_]+)=", query):
        try:
            parse_dsn(f"{name}=''")
        except psycopg2.Error:
            return str(name)
    return None


def _resolved(parameters: dict[str, str], resolve: Resolve) -> dict[str, str]:
    """Give every address of every host an entry of its own.

    libpq tries the entries in order; ``host`` stays beside ``hostaddr`` for
    the check of TLS certificates and for ``~/.pgpass``.
    """
    hosts = (parameters.get("host") or os.environ.get("PGHOST", "")).split(",")
    ports = (parameters.get("port") or os.environ.get("PGPORT", "5432")).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if "service" in parameters or len(ports) != len(hosts):
        return {}  # Only libpq can read the one and explain the other.
    entries: list[tuple[str, str, str]] = []
    problems: list[str] = []
    for host, port in zip(hosts, ports, strict=True):
        if not host or host[0] in "/@":  # a Unix socket
            entries.append((host, "", port))
            continue
        try:
            entries += [(host, address, port) for address in resolve(host)]
        except OSError as exc:
            problems.append(f"cannot resolve {host!r}: {exc.strerror or exc}")
    if not entries:
        raise DatabaseError("; ".join(problems))
    if not any(address for _, address, _ in entries):
        return {}
    host, address, port = (",".join(column) for column in zip(*entries, strict=True))
    return {"host": host, "hostaddr": address, "port": port}
