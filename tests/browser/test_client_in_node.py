"""The browser client under Node: its own tests, its tables, a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.gunicorn import Gunicorn
from support.postgres import Database

from bridge.values.errors import CloseCode

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "static" / "client" / "pgbridge.js"


@pytest.fixture(scope="module")
def node() -> list[str]:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    # Node 20 has a WebSocket behind this switch, later ones without it.
    return [found, "--experimental-websocket", "--no-warnings"]


def test_units_pass(node: list[str]) -> None:
    (tests,) = (ROOT / "tests" / "js").glob("*.test.mjs")

    run = subprocess.run([*node, "--test", tests], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "# fail 0" in run.stdout or "ℹ fail 0" in run.stdout
    assert "# skipped 0" in run.stdout or "ℹ skipped 0" in run.stdout


def test_close_codes_are_those_of_the_server(node: list[str]) -> None:
    script = (
        f"import {{ RECONNECT, NO_RECONNECT }} from '{CLIENT}';"
        "console.log(JSON.stringify([RECONNECT, NO_RECONNECT]))"
    )

    run = subprocess.run(
        [*node, "--input-type=module", "-e", script],
        capture_output=True,
        text=True,
        check=True,
    )
    reconnect, final = json.loads(run.stdout)

    assert {int(code): name for code, name in reconnect.items()} == {
        int(code): code.name.lower() for code in CloseCode if code.reconnect
    }
    assert {int(code): name for code, name in final.items()} == {
        int(code): code.name.lower() for code in CloseCode if not code.reconnect
    }


class Page:
    """The client in a Node process, with a line for all that it is told."""

    def __init__(self, node: list[str], url: str, channel: str, script: str) -> None:
        self.process = subprocess.Popen(
            [*node, ROOT / "tests" / "js" / script, url, channel],
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(self) -> list[str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the client has ended"
        return json.loads(line)  # type: ignore[no-any-return]

    def until(self, *expected: str) -> list[list[str]]:
        """Read up to a line; return the lines before it."""
        before = []
        while (line := self.told()) != list(expected):
            before.append(line)
        return before


@pytest.fixture
def page(node: list[str]) -> Iterator[Callable[..., Page]]:
    pages: list[Page] = []

    def open(url: str, channel: str, script: str = "against_server.mjs") -> Page:
        pages.append(Page(node, url, channel, script))
        return pages[-1]

    yield open
    for one in pages:
        one.process.kill()
        one.process.communicate()


def test_client_is_told_all_that_happens(
    gunicorn: Callable[..., Gunicorn], database: Database, page: Callable[..., Page]
) -> None:
    server = gunicorn(database.url, max_listeners=1).start()
    one = page(f"http://127.0.0.1:{server.port}/ws", "a")
    assert one.until("subscribed") == [["state", "connecting"], ["state", "open"]]

    database.notify("a", '{"n": 1}', "text")
    assert [one.told(), one.told()] == [["data", {"n": 1}], ["data", "text"]]

    (backend,) = database.listeners()
    database.execute("SELECT pg_terminate_backend(%s)", backend)
    assert one.told() == ["interrupted"]
    assert one.told() == ["gap", "listener_lost"]

    assert server.stop() == 0
    assert one.told() == ["state", "waiting"]
    server.start()
    one.until("subscribed")
    assert one.told() == ["gap", "not_kept"]
    database.notify("a", "again")
    assert one.told() == ["data", "again"]


def test_refused_channel_is_told_once(
    gunicorn: Callable[..., Gunicorn], database: Database, page: Callable[..., Page]
) -> None:
    server = gunicorn(database.url, public_channels="b").start()

    one = page(f"ws://127.0.0.1:{server.port}/ws", "a")

    assert one.until("error", "forbidden") == [
        ["state", "connecting"],
        ["state", "open"],
    ]


@pytest.mark.parametrize("channel", ["a", "kept_a"])
def test_part_that_is_mounted_twice_at_once_hears_once(
    gunicorn: Callable[..., Gunicorn],
    durable_database: Database,
    page: Callable[..., Page],
    channel: str,
) -> None:
    server = gunicorn(durable_database.url).start()

    one = page(f"ws://127.0.0.1:{server.port}/ws", channel, "remounted.mjs")

    assert one.told() == ["second", "subscribed"]
    for word in ("one", "two"):
        if channel == "a":
            durable_database.notify(channel, word)
        else:
            durable_database.execute("SELECT bridge.publish(%s, %s)", channel, word)
        assert one.told() == ["second", "data", word]
