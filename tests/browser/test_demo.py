"""The demo, as a newcomer sees it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect
from support.waiting import free_port, wait_until


class Demo:
    """`pgbridge demo` as a process."""

    def __init__(self) -> None:
        port = self._two_ports()
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BRIDGE_", "DATABASE_URL"))
        }
        self.url = f"http://127.0.0.1:{port}/"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bridge.cli", "demo", "--port", str(port)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        assert self.process.stdout is not None
        while "Ctrl-C" not in self.output:
            line = self.process.stdout.readline()
            assert line, self.output
            self.output += line
        found = re.search(r"DATABASE_URL='([^']+)'", self.output)
        assert found is not None
        self.database_url = found[1]

    @staticmethod
    def _two_ports() -> int:
        return wait_until(lambda: next((p for p in [free_port()] if p < 65535), None))

    def execute(self, statement: str, *arguments: object) -> None:
        with closing(psycopg2.connect(self.database_url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement, arguments)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    demo = Demo()
    yield demo
    demo.process.send_signal(signal.SIGINT)
    output, _ = demo.process.communicate(timeout=40)
    assert demo.process.returncode == 0, output
    assert "stopped" in output


@pytest.fixture
def page(context: BrowserContext, demo: Demo) -> Iterator[Page]:
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(message.text)

    page = context.new_page()
    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(demo.url)
    expect(page.locator("#state")).to_have_text(re.compile("live", re.I))
    yield page
    assert problems == []


def test_saved_model_appears_in_every_admin_window(
    page: Page, context: BrowserContext, demo: Demo
) -> None:
    other = context.new_page()
    other.goto(demo.url)
    expect(other.locator("#state")).to_have_text(re.compile("live", re.I))

    page.get_by_label(re.compile("name", re.I)).fill("Ada <b>Lovelace</b>")
    page.get_by_role("button", name=re.compile("save", re.I)).click()

    for window in (page, other):
        expect(window.locator("#feed")).to_contain_text("Ada <b>Lovelace</b>")


def test_row_from_psql_appears_too(page: Page, demo: Demo) -> None:
    demo.execute("INSERT INTO my_table (id, name) VALUES (7, %s)", "from psql")
    demo.execute("INSERT INTO my_table (id, name) VALUES (8, %s)", "of another")

    expect(page.locator("#feed")).to_contain_text("from psql")
    expect(page.locator("#feed")).not_to_contain_text("of another")


def test_lost_listener_is_shown_and_the_state_loaded_again(
    page: Page, demo: Demo
) -> None:
    demo.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'pgbridge'"
    )

    expect(page.locator("#feed")).to_contain_text(re.compile("missing", re.I))
    expect(page.locator("#state")).to_have_text(re.compile("live", re.I))


def test_site_knows_nothing_of_the_bridge(demo: Demo) -> None:
    from bridge.demo import front_end

    with open(front_end.__file__) as file:
        source = file.read()

    assert not re.search(r"^\s*(import|from) bridge(?!\.static)", source, re.M)
    assert "notify" not in source.lower()


def test_taken_port_is_told_with_what_to_do(demo: Demo) -> None:
    port = demo.url.rsplit(":", 1)[1].strip("/")

    run = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "demo", "--port", port],
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert run.returncode == 1
    assert f"cannot listen at 127.0.0.1:{port}" in run.stderr
    assert "pgbridge demo --port" in run.stderr
