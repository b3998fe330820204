"""The wheel, started outside the checkout, and the editable install inside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database

Connect = Callable[..., Client]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # From a copy: a build writes into the tree that it builds from.
    copy = folder / "source"
    subprocess.run(["git", "clone", "-q", ROOT, copy], check=True)
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", folder, copy], check=True, cwd=folder
    )
    (found,) = folder.glob("pgbridge-*.whl")
    return found


def test_wheel_has_one_package_and_everything_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "bridge",
        "pgbridge",
    }
    for name in (
        "bridge/py.typed",
        "bridge/wire/frames.py",
        "bridge/hooks/gunicorn_conf.py",
        "bridge/sql/examples/durable.sql",
        "bridge/sql/examples/talk.sql",
        "bridge/sql/migrations/001_journal.sql",
        "bridge/sql/migrations/002_operators.sql",
        "bridge/static/client/pgbridge.js",
        "bridge/static/client/pgbridge.d.ts",
        "bridge/static/demo/index.html",
        "bridge/static/demo/wiretap.js",
        "bridge/static/demo/rendered.html",
    ):
        assert name in names


def test_wheel_serves_outside_the_checkout(
    wheel: Path,
    tmp_path: Path,
    gunicorn: Callable[..., Gunicorn],
    database: Database,
    client: Connect,
) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "-q", "install", "--no-deps", "--target", site]
        + [wheel],
        check=True,
    )
    environ = {"PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import bridge.hooks; print(bridge.hooks.__file__)"],
        env={**os.environ, **environ},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    server = gunicorn(database.url, environ=environ).start()
    subscriber = client(server, "a")

    assert where.stdout.startswith(str(site))
    assert subscriber.receive()["type"] == "subscribed"
    database.notify("a", "from the wheel")
    assert subscriber.payloads(1) == ["from the wheel"]
    assert server.get("/static/client/pgbridge.js")[0] == 200
    assert server.stop(signal.SIGTERM) == 0


def test_editable_install_serves_inside_the_checkout(
    gunicorn: Callable[..., Gunicorn], database: Database, client: Connect
) -> None:
    # As an operator would: Gunicorn finds wsgi.py and gunicorn.conf.py itself.
    server = gunicorn(
        database.url, application="wsgi:app", arguments=("--chdir", str(ROOT))
    )
    server.command += ["-c", str(ROOT / "gunicorn.conf.py")]
    server.start()
    subscriber = client(server, "a")

    assert subscriber.receive()["type"] == "subscribed"
    database.notify("a", "from the checkout")
    assert subscriber.payloads(1) == ["from the checkout"]
    assert "Using worker: bridge.worker.BridgeWorker" in server.log
    assert "at most 6 PostgreSQL sessions (1 workers with 4 each" in server.log
