"""The demo, as a newcomer sees it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route, expect
from support.process import running
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
        while True:
            port = free_port()
            if free_port() == port + 1:
                return port

    def execute(self, statement: str, *arguments: object) -> None:
        with closing(psycopg2.connect(self.database_url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement, arguments)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        with closing(psycopg2.connect(self.database_url)) as connection:
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchall()


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


@pytest.fixture
def fetched(page: Page) -> list[str]:
    """The paths that the page asks for from here on."""
    paths: list[str] = []
    page.on("request", lambda request: paths.append(urlsplit(request.url).path))
    return paths


def watch(page: Page, demo: Demo, query: str) -> None:
    page.goto(f"{demo.url}?{query}")
    expect(page.locator("#state")).to_have_text("Live")
    page.get_by_text("The wire").click()


def save(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_label("Name or message").fill(name)
        with page.expect_response("**/save") as response:
            page.get_by_role("button", name="Save").click()
        assert response.value.status == 201


def miss(page: Page, *names: str) -> None:
    """Save rows while the page is offline, and go online again."""
    page.get_by_role("button", name="Go offline").click()
    expect(page.locator("#state")).to_have_text("Offline")
    save(page, *names)
    page.get_by_role("button", name="Go online").click()
    expect(page.locator("#state")).to_have_text("Live")


def rows(page: Page) -> list[tuple[str, str]]:
    """Origin and name of the rows that are shown, newest first."""
    shown = page.locator("#feed .row")
    return [
        (row.locator(".origin").inner_text(), row.locator(".name").inner_text())
        for row in shown.all()
    ]


def notices(page: Page) -> list[str]:
    """What is said between the rows, newest first, without how long it took."""
    texts = page.locator("#feed .notice .name").all_inner_texts()
    return [re.sub(r" (after|since) [\d.:]+( s)?", "", text) for text in texts]


def received(page: Page) -> list[str]:
    """The types of the messages that the page received, newest first.

    Heartbeats are left out: they come at any time.
    """
    texts = page.locator("#wire .received code").all_inner_texts()
    types = [json.loads(text)["type"] for text in texts]
    return [type for type in types if type != "heartbeat"]


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


def test_durable_channel_replays_what_was_missed(
    page: Page, demo: Demo, fetched: list[str]
) -> None:
    watch(page, demo, "id=20&durable=1")
    save(page, "before")
    expect(page.locator("#feed .live")).to_have_count(1)
    fetched.clear()

    miss(page, "one", "two", "three")
    expect(page.locator("#feed .replayed")).to_have_count(3)
    save(page, "after")
    expect(page.locator("#feed .live")).to_have_count(2)

    assert rows(page) == [
        ("live", "after"),
        ("replayed", "three"),
        ("replayed", "two"),
        ("replayed", "one"),
        ("live", "before"),
    ]
    assert notices(page) == [
        "Back: 3 missed events replayed, nothing lost",
        "You are offline: save something, then go online",
    ]
    assert received(page) == [
        *["notification"] * 4,
        "subscribed",
        "welcome",
        "notification",
        "subscribed",
        "welcome",
    ]
    assert set(fetched) <= {"/save", "/ws"}


def test_durable_channel_says_that_nothing_was_missed(page: Page, demo: Demo) -> None:
    watch(page, demo, "id=21&durable=1")

    miss(page)

    expect(page.locator("#feed .notice.good")).to_contain_text("nothing was missed")
    assert "gap" not in received(page)


def test_plain_channel_tells_a_gap_and_the_state_is_loaded_again(
    page: Page, demo: Demo
) -> None:
    watch(page, demo, "id=22")
    save(page, "before")
    expect(page.locator("#feed .live")).to_have_count(1)

    miss(page, "one", "two", "three")
    expect(page.locator("#feed .loaded")).to_have_count(3)

    assert rows(page) == [
        ("loaded", "three"),
        ("loaded", "two"),
        ("loaded", "one"),
        ("live", "before"),
    ]
    assert notices(page) == [
        "Something may be missing: state loaded again, 3 rows added",
        "Back",
        "You are offline: save something, then go online",
    ]
    assert received(page)[:3] == ["gap", "subscribed", "welcome"]


def test_page_stays_offline_until_it_is_told(page: Page, demo: Demo) -> None:
    watch(page, demo, "id=23")
    page.get_by_role("button", name="Go offline").click()
    before = received(page)

    for _ in range(3):  # a network that is back makes the client try at once
        page.evaluate("dispatchEvent(new Event('online'))")
        page.wait_for_timeout(600)  # its longest first wait is half a second

    assert received(page) == before
    expect(page.locator("#state")).to_have_text("Offline")


def test_switch_changes_the_channel_and_the_address(page: Page, demo: Demo) -> None:
    switch = page.get_by_role("switch", name="Durable")
    watch(page, demo, "id=24")
    expect(page.locator("#channel")).to_have_text("watchers_24")
    expect(page.locator("#flow-notify")).to_have_text("NOTIFY")
    expect(switch).not_to_be_checked()

    switch.check()

    expect(page.locator("#channel")).to_have_text("kept_24")
    expect(page.locator("#flow-notify")).to_have_text("journal")
    expect(page.locator("#try-publish")).to_contain_text("--durable kept_24")
    expect(page.locator("#state")).to_have_text("Live")
    page.reload()
    expect(switch).to_be_checked()
    expect(page.locator("#channel")).to_have_text("kept_24")


def test_switch_works_while_the_page_is_offline(page: Page, demo: Demo) -> None:
    demo.execute("INSERT INTO my_table (id, name) VALUES (25, 'before')")
    watch(page, demo, "id=25")
    page.get_by_role("button", name="Go offline").click()

    page.get_by_role("switch", name="Durable").check()
    expect(page.locator("#empty")).to_have_text("The rows come with the connection.")
    page.get_by_role("button", name="Go online").click()

    expect(page.locator("#feed .row")).to_have_text(re.compile("before"))
    assert rows(page) == [("loaded", "before")]


def test_rendered_page_misses_nothing_before_it_is_connected(
    page: Page, demo: Demo, fetched: list[str]
) -> None:
    def insert(name: str) -> None:
        demo.execute("INSERT INTO my_table (id, name) VALUES (30, %s)", name)

    def delay(route: Route) -> None:
        # As an event that had no position yet when the page was rendered.
        demo.execute(
            "SELECT bridge.publish('kept_30', row_to_json(my_table)::text) "
            "FROM my_table WHERE id = 30"
        )
        insert("between one")
        insert("between two")
        route.continue_()

    insert("before")
    fetched.clear()
    page.route("**/client/pgbridge.js", delay)

    page.goto(f"{demo.url}rendered?id=30")
    expect(page.locator("#badge")).to_have_text("Live")
    expect(page.locator("#feed .live")).to_have_count(2)
    insert("after")
    expect(page.locator("#feed .live")).to_have_count(3)

    assert rows(page) == [
        ("live", "after"),
        ("live", "between two"),
        ("live", "between one"),
        ("rendered", "before"),
    ]
    assert "/rows" not in fetched


def test_rendered_page_escapes_what_users_wrote(page: Page, demo: Demo) -> None:
    name = "<b>'\"&amp;</b>"
    demo.execute("INSERT INTO my_table (id, name) VALUES (31, %s)", name)
    page.goto(f"{demo.url}rendered?id=31")
    expect(page.locator("#badge")).to_have_text("Live")

    demo.execute("INSERT INTO my_table (id, name) VALUES (31, %s)", name)
    expect(page.locator("#feed .live")).to_have_count(1)

    assert rows(page) == [("live", name), ("rendered", name)]


def test_demo_leads_to_the_rendered_page(page: Page, demo: Demo) -> None:
    watch(page, demo, "id=32")

    with page.expect_popup() as popup:
        page.get_by_role("link", name="Open a rendered page").click()

    expect(popup.value.get_by_role("heading")).to_have_text("Watcher 32")
    expect(popup.value.locator("#badge")).to_have_text(re.compile(r"Connects in \d+ s"))


def test_second_trigger_may_be_created_twice(demo: Demo) -> None:
    script = (files("bridge.sql") / "examples" / "durable.sql").read_text()

    demo.execute(script)
    demo.execute("INSERT INTO my_table (id, name) VALUES (33, 'one')")

    channels = demo.query("SELECT channel FROM bridge.outbox WHERE channel ~ '_33$'")
    assert channels == [("kept_33",)]


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
    assert "make run PORT=9000, or --port 9000" in run.stderr


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.4, 0.8, 1.2, 1.4])
def test_ctrl_c_while_it_starts_leaves_nothing(delay: float, short_path: Path) -> None:
    short_path.chmod(0o755)
    environ = {k: v for k, v in os.environ.items() if k != "BRIDGE_DATABASE_URL"}
    command = [sys.executable, "-m", "bridge.cli", "demo"]
    command += ["--port", str(Demo._two_ports())]
    log = short_path / "log"
    with (
        log.open("w") as file,
        running(
            command,
            env={**environ, "TMPDIR": str(short_path)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for a whole group of processes
        ) as process,
    ):
        wait_until(lambda: "starting" in log.read_text())
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(20)

    assert code in (0, 130)
    assert "Traceback" not in log.read_text()
    assert list(short_path.glob("pgbridge-demo-*")) == []
