"""The browser client in a browser, against a real server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page
from support.gunicorn import Gunicorn
from support.postgres import Database

OPEN = """
async (channel) => {
  const { connect } = await import("/static/client/pgbridge.js")
  window.told = []
  window.bridge = connect("/ws", { onState: (state) => told.push(state) })
  window.subscription = bridge.subscribe(channel, (data) => told.push(data), {
    onSubscribed: () => told.push("subscribed"),
    onInterrupted: () => told.push("interrupted"),
    onGap: (gap) => told.push("gap " + gap.reason),
  })
}
"""


@pytest.fixture
def server(gunicorn: Callable[..., Gunicorn], database: Database) -> Gunicorn:
    return gunicorn(database.url, max_listeners=1).start()


@pytest.fixture
def page(context: BrowserContext, server: Gunicorn) -> Page:
    """A page of the server's own origin that has subscribed to `a`."""
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/healthz")
    page.evaluate(OPEN, "a")
    wait_for(page, "subscribed")
    return page


def wait_for(page: Page, what: str) -> list[object]:
    """Wait until the client was told something; return all it was told."""
    page.wait_for_function("(what) => told.includes(what)", arg=what)
    return page.evaluate("told.splice(0)")  # type: ignore[no-any-return]


def test_notification_reaches_the_handler(page: Page, database: Database) -> None:
    database.notify("a", '{"n": [1, "two"]}', "line\nbreak", "end")

    assert wait_for(page, "end") == [{"n": [1, "two"]}, "line\nbreak", "end"]


def test_lost_database_is_told_to_the_page(page: Page, database: Database) -> None:
    (backend,) = database.listeners()

    database.execute("SELECT pg_terminate_backend(%s)", backend)

    assert wait_for(page, "gap listener_lost") == ["interrupted", "gap listener_lost"]


def test_page_comes_back_after_a_restart_and_asks_for_its_state(
    page: Page, server: Gunicorn, database: Database
) -> None:
    assert server.stop() == 0
    wait_for(page, "waiting")

    server.start()
    wait_for(page, "gap not_kept")
    database.notify("a", "again")

    assert wait_for(page, "again") == ["again"]


def test_page_of_another_origin_is_refused(
    context: BrowserContext,
    server: Gunicorn,
    gunicorn: Callable[..., Gunicorn],
    database: Database,
) -> None:
    other = gunicorn(database.url).start()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{other.port}/healthz")

    outcome = page.evaluate(
        """(url) => new Promise((resolve) => {
          const socket = new WebSocket(url)
          socket.onopen = () => resolve("open")
          socket.onerror = () => resolve("refused")
        })""",
        f"ws://127.0.0.1:{server.port}/ws",
    )

    assert outcome == "refused"
    assert "add it to BRIDGE_ALLOWED_ORIGINS" in server.log


def test_closed_bridge_leaves_without_a_word(page: Page, server: Gunicorn) -> None:
    page.evaluate("bridge.close()")

    assert wait_for(page, "closed") == ["closed"]
    assert "Traceback" not in server.log
