"""Garbage to a running server, beside subscribers that must not notice.

Law: everything that the server sends after a 101 is correct frames, none of
them a Close with 1011; the subscribers get every notification, once and in
order; afterwards the server answers, and its files, connections and memory are
what they were; its log holds no Traceback.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from conformance.peer import OPCODES, Peer, encode
from conformance.steps import KEY
from support.crowd import Audience, publish
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database
from support.waiting import wait_until

from fuzz.inputs import mutate, pieces, some_bytes
from fuzz.targets import frames, messages

__all__ = ["LiveReport", "attack", "fuzz_server"]

ATTACKERS = 16
"""Connections of strangers at one time."""

SUBSCRIBERS = 5
PUBLISHED_PER_SECOND = 100.0
CHANNEL = "fuzz"

MAX_GROWTH = 32 * 1024
"""KiB by which the worker may have grown in the end."""

LISTEN = 0.05
"""Seconds to wait for what a server has to say to garbage."""

OUR_CODES = (1002, 1003, 1007, 1009, 4500)
"""Close codes for what strangers do; any other one is theirs, sent back."""

HEAD = (
    "GET /ws HTTP/1.1\r\nHost: bridge.example\r\nUpgrade: websocket\r\n"
    f"Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
).encode()

_ADDRESSES = (
    *(b"/ws", b"/ws/a%2Fb%E2%82%AC", b"/ws?channel=a&channel=b%20c&cursor=x", b"/"),
    *(b"/healthz", b"/readyz", b"/static/client/pgbridge.js", b"http://a.example/ws"),
)
_HEADERS = (
    *(b"Origin: http://bridge.example\r\n", b'Cookie: a=b; c="d"\r\n'),
    *(b"X-Forwarded-For: 1.2.3.4, ::1\r\n", b"X-Forwarded-Proto: https\r\n"),
    *(b"Authorization: Bearer a.b.c\r\n", b"Content-Length: 0\r\n"),
    *(b"Sec-WebSocket-Protocol: pgbridge.v1, b\r\n", b"Connection: close\r\n"),
    *(b"If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT\r\n", b"Range: bytes=0-1\r\n"),
    *(b'If-None-Match: "a", W/"b"\r\n', b"Expect: 100-continue\r\n"),
)
_TRACEBACK = re.compile(r"^Traceback .*\n(?:[ +].*\n)*(?:.*\n)?", re.MULTILINE)

_SPARE = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\x00", b":", b" ", b"\t", b"%00", b"\xff"),
    *(b"GET ", b"POST ", b" HTTP/1.0", b" HTTP/1", b" HTTP/9.9", b"Content-Length: 9"),
    *(b"Transfer-Encoding: chunked\r\n", b"Upgrade: h2c\r\n", b"Origin: null\r\n"),
    *(b"X: y\r\n" * 200, b"a" * 40_000, b"?channel=a&channel=*&cursor=%", HEAD),
)


@dataclass(slots=True)
class LiveReport:
    """What happened."""

    seconds: float = 0.0
    connections: int = 0
    sent: int = 0
    published: int = 0
    #: How the strangers' connections ended.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: KiB by which the worker's memory has grown.
    growth: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.connections / self.seconds if self.seconds else 0
        common = ", ".join(f"{n} {word}" for word, n in self.outcomes.most_common(8))
        lines = [
            f"{'live':<14} {self.connections:>9} inputs {self.seconds:>7.1f} s "
            f"{rate:>8.0f} inputs/s, {self.sent / 1e6:.1f} MB, worker "
            f"{self.growth:+} KiB, {self.published} notifications arrived",
            f"    {common}",
            *(f"    {failure}" for failure in self.failures[:10]),
        ]
        return "\n".join(lines)


def fuzz_server(seed: str, seconds: float) -> LiveReport:
    """Start a PostgreSQL and a server, and attack it."""
    cluster = Cluster()
    try:
        cluster.start()
        database = Database(cluster.url)
        # Short heads, so that unfinished ones come to their end here too.
        server = Gunicorn(database.url, max_listeners=1, handshake_timeout=1)
        try:
            return attack(server.start(), database, seed, seconds)
        finally:
            server.end()
    finally:
        cluster.delete()


def attack(
    server: Gunicorn, database: Database, seed: str, seconds: float
) -> LiveReport:
    """Attack a server that has one listener, and say how it took it."""
    report = LiveReport()
    audience = Audience(server, CHANNEL, SUBSCRIBERS)
    try:
        for kind in _KINDS:  # What is made once and kept must not count.
            _stranger(server, "0", kind, report)
        wait_until(lambda: _open(server) == SUBSCRIBERS)
        [worker] = server.workers
        before, memory = _files(worker), _memory(worker)
        _attack(server, database, audience, seed, seconds, report)
        _check(server, audience, before, report)
        report.growth = _memory(worker) - memory
        if report.growth > MAX_GROWTH:
            report.failures.append(f"the worker has grown by {report.growth} KiB")
    finally:
        audience.close()
    return report


def _attack(
    server: Gunicorn,
    database: Database,
    audience: Audience,
    seed: str,
    seconds: float,
    report: LiveReport,
) -> None:
    stop = threading.Event()
    count = max(1, int(seconds * PUBLISHED_PER_SECOND))
    threads = [
        threading.Thread(target=_attacker, args=(server, f"{seed}/{n}", stop, report))
        for n in range(ATTACKERS)
    ]
    reader = threading.Thread(target=audience.read_until, args=(count, seconds + 20))
    began = time.monotonic()
    for thread in (*threads, reader):
        thread.start()
    try:
        publish(database, CHANNEL, count, PUBLISHED_PER_SECOND)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        # The last one, which everybody waits for.
        publish(database, CHANNEL, 1, PUBLISHED_PER_SECOND, first=count)
        reader.join()
    report.seconds = time.monotonic() - began
    report.published = count + 1


def _check(
    server: Gunicorn, audience: Audience, files: int, report: LiveReport
) -> None:
    failures = report.failures
    for numbers in audience.numbers.values():
        if numbers != list(range(report.published)):
            failures.append(f"a subscriber has {len(numbers)} of {report.published}")
    if audience.closed:
        failures.append(f"{audience.closed} subscribers were closed")
    if server.get("/healthz")[0] != 200:
        failures.append("/healthz does not answer 200")
    for what, reached in (
        ("connections stay open", lambda: _open(server) == SUBSCRIBERS),
        ("files stay open", lambda: _files(server.workers[0]) <= files),
    ):
        try:
            wait_until(reached, timeout=10)
        except AssertionError:
            failures.append(what)
    tracebacks: dict[str, list[str]] = {}
    for text in _TRACEBACK.findall(server.log):
        kind = re.sub(r"\d+|0x\w+|'.'", "?", text.splitlines()[-1])
        tracebacks.setdefault(kind, []).append(text)
    for found in tracebacks.values():
        failures.append(f"{len(found)} tracebacks in the log like this: {found[0]}")


# One stranger.


def _attacker(
    server: Gunicorn, seed: str, stop: threading.Event, report: LiveReport
) -> None:
    number = 0
    while not stop.is_set():
        kind = _KINDS[number % len(_KINDS)]
        _stranger(server, f"{seed}/{number}", kind, report)
        number += 1


def _stranger(
    server: Gunicorn, seed: str, kind: Callable[[Random], bytes], report: LiveReport
) -> None:
    random = Random(seed)
    data = kind(random)
    try:
        outcome = _connection(server, random, data, report)
    except AssertionError as exc:
        outcome = "wrong frames"
        report.failures.append(f"{kind.__name__} of {seed}: {exc}")
    report.connections += 1
    report.outcomes[outcome] += 1


def _connection(
    server: Gunicorn, random: Random, data: bytes, report: LiveReport
) -> str:
    with contextlib.closing(server.connect()) as sock:
        sock.settimeout(5)
        peer = Peer(sock)
        try:
            for piece in pieces(random, data):
                sock.sendall(piece)
                report.sent += len(piece)
            if random.random() < 0.2:
                peer.reset()
                return "left"
            return _listen(sock, data.startswith(HEAD))
        except OSError:
            return "closed on"


def _listen(sock: socket.socket, accepted: bool) -> str:
    """Read what comes in a moment; it must be in order after a good head."""
    sock.settimeout(LISTEN)
    data = b""
    ended = False
    with contextlib.suppress(TimeoutError):
        while not ended and len(data) < 1 << 20:
            part = sock.recv(1 << 16)
            data += part
            ended = not part
    head, _, rest = data.partition(b"\r\n\r\n")
    status = head[9:12].decode("latin-1")
    assert status in ("", "503") or not status.startswith("5"), head
    if not accepted or not rest:
        return status or ("silence" if not ended else "an end")
    return _frames(rest)


def _frames(data: bytes) -> str:
    """Hold what a server sent to the rules; return how it ended."""
    peer = Peer(_Recording(data))  # type: ignore[arg-type]
    last = "open"
    while True:
        try:
            frame = peer.frame()
        except AssertionError as exc:
            # The last frame may not be all there.
            if "the connection ended" in str(exc):
                return last
            raise
        assert last == "open", f"{frame} after {last}"
        if frame.kind == "close":
            code = int.from_bytes(frame.payload[:2], "big")
            assert code != 1011, "1011: our fault"
            last = f"close {code}" if code in OUR_CODES else "close echoed"


class _Recording:
    """A socket from which come the bytes that another one has received."""

    family = socket.AF_UNIX

    def __init__(self, data: bytes) -> None:
        self._data = data

    def settimeout(self, seconds: float) -> None:
        pass

    def recv(self, size: int) -> bytes:
        data, self._data = self._data, b""
        return data


def _noise(random: Random) -> bytes:
    """No HTTP at all."""
    return some_bytes(random, 2000) + random.choice((b"", b"\r\n\r\n"))


def _bad_head(random: Random) -> bytes:
    """A handshake that is damaged, with all the headers that are looked at."""
    head = HEAD.replace(b"GET /ws", b"GET " + random.choice(_ADDRESSES), 1)
    more = b"".join(random.sample(_HEADERS, random.randrange(4)))
    head = head[:-2] + more + b"\r\n"
    return mutate(random, head, _SPARE) + random.choice((b"", b"\r\n\r\n"))


def _half_head(random: Random) -> bytes:
    """A handshake that is never finished."""
    return HEAD[: random.randrange(len(HEAD))]


def _bad_frames(random: Random) -> bytes:
    """Frames of all kinds, most of them well formed, many right behind the head."""
    return HEAD + frames.stream(random)


def _frame_noise(random: Random) -> bytes:
    """Bytes where frames should be."""
    return HEAD + some_bytes(random, 5000)


def _bad_messages(random: Random) -> bytes:
    """Good frames with messages of all kinds."""
    found = [messages.text(random).encode() for _ in range(random.randrange(1, 12))]
    return HEAD + b"".join(encode(OPCODES["text"], text) for text in found)


def _many_pings(random: Random) -> bytes:
    """More pings than a reader takes."""
    return HEAD + encode(OPCODES["ping"], b"p" * 125) * random.randrange(1, 2000)


_KINDS = (
    *(_noise, _bad_head, _half_head, _bad_frames, _bad_frames, _frame_noise),
    *(_bad_messages, _many_pings),
)


# The server, from outside.


def _open(server: Gunicorn) -> int:
    return int(server.readiness()["connections"]["open"])


def _files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _memory(pid: int) -> int:
    """Resident memory in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
