"""The data folder is set back to an earlier moment of the same timeline."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Cluster, Database, make_durable
from support.waiting import wait_until

MakeGunicorn = Callable[..., Gunicorn]


class Restorable:
    """A cluster whose data can be kept and put back."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.copy = Path(f"{cluster.folder}-copy")

    def keep(self) -> None:
        """Copy the data as they are."""
        self.cluster.stop("fast")
        self._replace(self.cluster.folder, self.copy)
        self.cluster.start()

    def put_back(self) -> None:
        """Set everything back to the copy; the server is stopped then."""
        self.cluster.stop("fast")
        self._replace(self.copy, self.cluster.folder)

    def _replace(self, source: Path, target: Path) -> None:
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(source, target)
        if self.cluster.user is not None:
            for path in (target, *target.rglob("*")):
                shutil.chown(path, self.cluster.user)


@pytest.fixture
def restorable(cluster: Cluster) -> Iterator[Restorable]:
    cluster.start()
    found = Restorable(cluster)
    make_durable(Database.of(cluster.url))
    yield found
    shutil.rmtree(found.copy, ignore_errors=True)


def numbers(first: int, last: int) -> list[str]:
    return [f"c{number}" for number in range(first, last + 1)]


def texts_until_end(page: Client, database: Database) -> list[str]:
    """Return what comes before an event that is published now."""
    database.publish("kept_a", "end")
    texts: list[str] = []
    while (text := str(page.receive()["text"])) != "end":
        texts.append(text)
    return texts


def until_gap(page: Client) -> list[dict[str, object]]:
    """Return what comes up to a gap, which is no event."""
    found = [page.receive()]
    while found[-1]["type"] != "gap":
        found.append(page.receive())
        assert "text" not in found[-1]
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_running_bridge_tells_a_gap(
    gunicorn: MakeGunicorn, restorable: Restorable, workers: int
) -> None:
    database = Database.of(restorable.cluster.url)
    server = gunicorn(database.url, workers=workers).start()
    with Client(server, "kept_a") as page:
        page.receive()
        for _ in range(3):
            start = database.positions()
            database.publish("kept_a", *numbers(1, 10))
            assert page.payloads(10) == numbers(1, 10)
            restorable.keep()
            assert [page.receive()["type"] for _ in range(2)] == [
                "interrupted",
                "restored",
            ]
            database.publish("kept_a", *numbers(11, 50))
            assert page.payloads(40) == numbers(11, 50)

            restorable.put_back()
            restorable.cluster.start()
            database.publish("kept_a", *numbers(1, 100))

            told = until_gap(page)
            assert [one["reason"] for one in told if one["type"] == "gap"] == [
                "epoch_changed"
            ]
            wait_until(lambda: database.positions() == start + 110)  # noqa: B023
            texts = texts_until_end(page, database)
            assert texts == numbers(101 - len(texts), 100)


def test_restarted_workers_tell_a_gap(
    gunicorn: MakeGunicorn, restorable: Restorable
) -> None:
    database = Database.of(restorable.cluster.url)
    server = gunicorn(database.url, workers=2).start()
    with Client(server, "kept_a") as page:
        page.receive()
        database.publish("kept_a", *numbers(1, 10))
        page.payloads(10)
        restorable.keep()
        assert [page.receive()["type"] for _ in range(2)] == ["interrupted", "restored"]
        database.publish("kept_a", *numbers(11, 50))
        cursor = [page.receive()["cursor"] for _ in range(40)][-1]
    server.stop()

    restorable.put_back()
    restorable.cluster.start()
    database.publish("kept_a", *numbers(1, 100))
    server.start()

    with Client(server, path=f"/ws?channel=kept_a&cursor={cursor}") as page:
        answer, told = page.receive(), page.receive()
        assert (answer["type"], answer["resumed"]) == ("subscribed", False)
        assert (told["type"], told["reason"]) == ("gap", "epoch_changed")
        texts = texts_until_end(page, database)
        assert texts == numbers(101 - len(texts), 100)


def test_another_host_that_was_first_is_found_out(
    gunicorn: MakeGunicorn, restorable: Restorable
) -> None:
    """It has seen nothing of what is gone, and steps before others are back."""
    database = Database.of(restorable.cluster.url)
    server = gunicorn(database.url).start()
    with Client(server, "kept_a") as page:
        page.receive()
        restorable.keep()
        assert [page.receive()["type"] for _ in range(2)] == ["interrupted", "restored"]
        database.publish("kept_a", *numbers(1, 50))
        page.payloads(50)

        restorable.put_back()
        restorable.cluster.start()
        database.publish("kept_a", *numbers(1, 100))
        database.execute("SELECT bridge.step()")

        assert until_gap(page)[-1]["reason"] == "epoch_changed"
