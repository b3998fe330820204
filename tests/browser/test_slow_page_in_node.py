"""The browser client with several durable channels behind a link that stalls."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.proxy import Proxy
from support.waiting import wait_until

SCRIPT = Path(__file__).parents[1] / "js" / "several_channels.mjs"
CHANNELS = [f"kept_{number}" for number in range(6)]
EVENTS = 400
"""Of each channel; of 2 kB, so that they fill every buffer on the way."""

Said = list[tuple[str, int | str]]


class SlowPage:
    """A page, what it is told, and its link."""

    def __init__(self, node: str, port: int) -> None:
        self.link = Proxy(port, receive_buffer=8192)
        self.said: Said = []
        self._process = subprocess.Popen(
            [
                node,
                "--experimental-websocket",
                "--no-warnings",
                str(SCRIPT),
                f"http://127.0.0.1:{self.link.port}/ws",
                *CHANNELS,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            channel, what = json.loads(line)
            self.said.append((channel, what))

    def told(self, channel: str) -> list[int | str]:
        return [what for name, what in self.said if name == channel]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._thread.join()
        self.link.close()


@pytest.fixture
def slow_page() -> Iterator[Callable[[int], SlowPage]]:
    pages: list[SlowPage] = []

    def open(port: int) -> SlowPage:
        node = shutil.which("node")
        if node is None:
            pytest.skip("node is not installed")
        pages.append(SlowPage(node, port))
        return pages[-1]

    yield open
    for page in pages:
        page.close()


def test_page_behind_a_link_that_stalls_has_every_event_once_over_deploys(
    gunicorn: Callable[..., Gunicorn],
    durable_database: Database,
    slow_page: Callable[[int], SlowPage],
) -> None:
    server = gunicorn(
        durable_database.url,
        backlog_bytes=65536,
        send_buffer_bytes=8192,
        heartbeat_interval=0.5,
        drain_window=1,
    ).start()
    page = slow_page(server.port)
    wait_until(lambda: all(page.told(channel) for channel in CHANNELS))
    chance = random.Random(1)
    writing = threading.Thread(target=_write, args=(durable_database,))
    writing.start()

    for stall in range(20):
        page.link.stall()
        writing.join(chance.uniform(0.1, 0.5))
        page.link.flow()
        if stall in (7, 14):
            assert server.process is not None
            server.process.send_signal(signal.SIGHUP)
        writing.join(chance.uniform(0.02, 0.2))
    writing.join()

    whole = list(range(EVENTS))
    wait_until(lambda: all(whole[-1] in page.told(channel) for channel in CHANNELS), 60)
    for channel in CHANNELS:
        told = [what for what in page.told(channel) if what != "subscribed"]
        assert told == whole, channel


def _write(database: Database) -> None:
    chance = random.Random(2)
    pause = threading.Event()
    for first in range(0, EVENTS, 10):
        for channel in CHANNELS:
            events = range(first, first + 10)
            payloads = [json.dumps({"n": n, "pad": "x" * 2000}) for n in events]
            database.publish(channel, *payloads)
        pause.wait(chance.uniform(0, 0.2))
