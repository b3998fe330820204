"""Bring notifications to a rival that does not speak with PostgreSQL.

python feeder.py lines URL              for the bare C server without libpq: reads
                                        names of channels, writes "L name" and
                                        "N name<TAB>payload" lines
python feeder.py nchan URL PORT PREFIX CHANNELS
                                        for nginx with nchan: listens to all
                                        channels, says "listening", and posts
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Identifier

Handle = Callable[[list[tuple[str, str]]], None]
"""Takes the (channel, payload) pairs that one read brought, oldest first."""

MAX_PIPELINED = 16
"""Requests sent before the answers are read; more could block both sides."""

MAX_READ_ROUNDS = 16


def listen(connection: Connection, channel: str) -> None:
    """Make one LISTEN."""
    connection.cursor().execute(SQL("LISTEN {}").format(Identifier(channel)))


def drain(connection: Connection, handle: Handle) -> None:
    """Hand on what has arrived, everything that one turn brings at once."""
    for _ in range(MAX_READ_ROUNDS):
        connection.poll()
        if not select.select([connection], [], [], 0)[0]:
            break
    found = [(notify.channel, notify.payload) for notify in connection.notifies]
    del connection.notifies[:]
    if found:
        handle(found)


def write_lines(found: list[tuple[str, str]]) -> None:
    """Write notifications as lines to stdout."""
    sys.stdout.write("".join(f"N {name}\t{payload}\n" for name, payload in found))
    sys.stdout.flush()


def feed_lines(connection: Connection) -> None:
    """Serve the bare C server until it closes its end."""
    rest = b""
    while True:
        ready, _, _ = select.select([connection, sys.stdin], [], [])
        if sys.stdin in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *names, rest = (rest + data).split(b"\n")
            for name in names:
                listen(connection, name.decode())
                sys.stdout.write(f"L {name.decode()}\n")
            sys.stdout.flush()
        drain(connection, write_lines)


class Poster:
    """Posts notifications to nchan on one connection that is kept."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, found: list[tuple[str, str]]) -> None:
        """Post one request a notification, some of them at a time."""
        for start in range(0, len(found), MAX_PIPELINED):
            some = found[start : start + MAX_PIPELINED]
            self._socket.sendall(b"".join(self._request(*pair) for pair in some))
            self._read_answers(len(some))

    @staticmethod
    def _request(channel: str, payload: str) -> bytes:
        body = payload.encode()
        head = (
            f"POST /publish?channel={channel} HTTP/1.1\r\nHost: bench\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _read_answers(self, count: int) -> None:
        """Read whole answers; each has a Content-Length."""
        data = b""
        while count:
            head, found, rest = data.partition(b"\r\n\r\n")
            size = 0
            if found:
                status, *lines = head.split(b"\r\n")
                if not status.startswith(b"HTTP/1.1 2"):
                    raise SystemExit(f"nchan refused: {status.decode()}")
                for line in lines:
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        size = int(value)
            if found and len(rest) >= size:
                data = rest[size:]
                count -= 1
                continue
            more = self._socket.recv(65536)
            if not more:
                raise SystemExit("nchan closed the publisher's connection")
            data += more


def feed_nchan(connection: Connection, port: int, prefix: str, channels: int) -> None:
    """Post until killed."""
    poster = Poster(port)
    for number in range(channels):
        listen(connection, f"{prefix}{number}")
    print("listening", flush=True)
    while True:
        select.select([connection], [], [])
        drain(connection, poster.post)


def main() -> None:
    """Run one of the two."""
    kind, url, *rest = sys.argv[1:]
    connection = psycopg2.connect(url)
    connection.autocommit = True
    if kind == "lines":
        feed_lines(connection)
    else:
        port, prefix, channels = rest
        feed_nchan(connection, int(port), prefix, int(channels))


if __name__ == "__main__":
    main()
