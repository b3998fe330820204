"""One page: a thread that asks at random, reads by fits, vanishes, comes back.

Told to be calm it does what a good page does: it subscribes to all of its
channels with the cursors it has, reads what comes, and stays.
"""

from __future__ import annotations

import itertools
import json
import random
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from support.attack.history import Asked, Closed, Entry, Heard, Opened
from support.attack.link import Link
from support.attack.memory import Memory
from support.gunicorn import Gunicorn
from support.raw import text_frame

__all__ = ["Page"]

STAY = 8.0
"""Seconds that a connection lasts, on average."""

AWAY = 0.5
"""Seconds until it comes back, at most."""

MAX_REST = 3.0
"""Seconds for which it stops reading."""

SIGN_OF_LIFE = 0.2
"""Seconds between two pongs while it does not read: it is slow, not gone."""

GULP = 256 * 1024
SIP = 1500
"""Bytes of one read, at most."""

TEMPERS = ((8, 1, 1), (3, 3, 3), (1, 2, 6))
"""How often it gulps, sips and rests: the swift, the fitful and the sleepy."""

STEADY = 0.25
"""How many connections are those of a good page, which asks for all and reads."""

RETRY = 0.5
"""Seconds until a calm page asks again for a channel that it was refused."""


class Page:
    """A thread, until `stop`.

    Args:
        tls: None: the connection is plain.

    Attributes:
        history: what it asked and heard; complete when it has stopped.
        connections: how many it had.
    """

    def __init__(
        self,
        server: Gunicorn,
        channels: Sequence[str],
        seed: str,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.history: list[Entry] = []
        self.connections = 0
        self._server = server
        self._channels = tuple(channels)
        self._tls = tls
        self._chance = random.Random(seed)
        self._ids = itertools.count(1)
        self._memory = Memory()
        self._calm = threading.Event()
        self._stop = threading.Event()
        self._ask_again = 0.0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def calm(self) -> None:
        """Stay from now on, and read everything."""
        self._calm.set()

    def stop(self) -> None:
        """Leave. Safe to call twice."""
        self._stop.set()
        self._thread.join()

    def has(self, numbers: dict[str, int]) -> bool:
        """Whether it has these events or later ones, and no answer is due."""
        memory = self._memory
        return not memory.waiting and all(
            memory.numbers.get(channel, -1) >= numbers[channel]
            for channel in self._channels
        )

    # The thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                self._visit()
            if not self._calm.is_set():
                self._stop.wait(self._chance.uniform(0, AWAY))
            else:
                self._stop.wait(0.05)

    def _visit(self) -> None:
        """Have one connection, from its beginning to its end."""
        link = Link(self._server, self._tls)
        self.connections += 1
        self._memory.connect()
        self.history.append(Opened())
        complete = False
        try:
            self._stay(link)
            complete = self._calm.is_set() and self._stop.is_set()
        finally:
            self.history.append(Closed(complete))
            link.vanish(reset=self._chance.random() < 0.5)

    def _stay(self, link: Link) -> None:
        until = time.monotonic() + self._chance.expovariate(1 / STAY)
        weights = self._chance.choice(TEMPERS)
        fits = (self._gulp, self._sip, self._rest)
        steady = self._chance.random() < STEADY
        while not self._stop.is_set():
            if not self._calm.is_set() and time.monotonic() > until:
                return
            if steady or self._calm.is_set():
                self._ask_for_all(link)
                self._hear(link.read(GULP))
                continue
            if self._chance.random() < 0.4:
                self._ask_something(link)
            [fit] = self._chance.choices(fits, weights)
            fit(link)

    # Reading.

    def _gulp(self, link: Link) -> None:
        until = time.monotonic() + self._chance.uniform(0, 0.3)
        while time.monotonic() < until:
            self._hear(link.read(GULP))

    def _sip(self, link: Link) -> None:
        for _ in range(self._chance.randint(1, 20)):
            self._hear(link.read(self._chance.randint(1, SIP)))

    def _rest(self, link: Link) -> None:
        until = time.monotonic() + self._chance.uniform(0, MAX_REST)
        while time.monotonic() < until and not self._calm.is_set():
            link.show_life()
            self._stop.wait(SIGN_OF_LIFE)

    def _hear(self, messages: Sequence[bytes]) -> None:
        for text in messages:
            message: dict[str, Any] = json.loads(text)
            if isinstance(message.get("data"), dict):
                # The padding of thousands of events is not worth its memory.
                message["data"] = {"n": message["data"].get("n")}
            self.history.append(Heard(time.time(), message))
            self._memory.hear(message)
            if message["type"] == "bye":
                raise ConnectionError("goodbye")

    # Asking.

    def _ask_something(self, link: Link) -> None:
        """Send some requests in one packet."""
        count = self._chance.choice((1, 1, 2, 3, 6))
        requests: list[Asked] = []
        for _ in range(count):
            requests += self._some_request()
        self._send(link, requests)

    def _some_request(self) -> Iterator[Asked]:
        channel = self._chance.choice(self._channels)
        live = channel in self._memory.live
        dice = self._chance.random()
        if dice < 0.1:
            yield Asked("ping", next(self._ids))
        elif not live and dice < 0.9:
            yield self._subscribe(channel)
        elif dice < 0.5:
            # A second time, as a page with two parts may.
            yield self._subscribe(channel)
        elif dice < 0.8:
            yield self._unsubscribe(channel)
        else:
            # Mounted, unmounted, mounted.
            if not live:
                yield self._subscribe(channel)
            yield self._unsubscribe(channel)
            yield self._subscribe(channel)

    def _subscribe(self, channel: str) -> Asked:
        cursor = self._memory.cursors.get(channel)
        resume = channel in self._memory.known
        if not self._calm.is_set() and self._chance.random() < 0.15:
            # It has forgotten: as a new page, or knowing that it had it.
            cursor, resume = None, resume and self._chance.random() < 0.5
        return Asked("subscribe", next(self._ids), channel, cursor, resume)

    def _unsubscribe(self, channel: str) -> Asked:
        return Asked("unsubscribe", next(self._ids), channel)

    def _ask_for_all(self, link: Link) -> None:
        memory = self._memory
        if memory.refused and time.monotonic() > self._ask_again:
            self._ask_again = time.monotonic() + RETRY
            memory.refused.clear()
        have = {*memory.live, *memory.refused, *memory.waiting.values()}
        self._send(link, [self._subscribe(c) for c in self._channels if c not in have])

    def _send(self, link: Link, requests: Sequence[Asked]) -> None:
        if not requests:
            return
        frames = b""
        for asked in requests:
            fields: dict[str, Any] = {"type": asked.type, "id": asked.id}
            if asked.channel is not None:
                fields["channel"] = asked.channel
            if asked.cursor is not None:
                fields["cursor"] = asked.cursor
            if asked.resume:
                fields["resume"] = True
            frames += text_frame(fields)
            self._memory.waiting[asked.id] = asked.channel
            self.history.append(asked)
        link.send(frames)
