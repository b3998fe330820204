"""Fixtures: real servers, shared where no test can harm them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import OLD_BINARIES, Cluster, Database, make_durable
from support.proxy import Proxy
from support.temporary import TemporaryFiles

from bridge.postgres.address import Address
from bridge.postgres.schema import install

PROCESS = os.environ.get("PYTEST_XDIST_WORKER")
"""Which of the processes that run tests side by side this is; None: there is one,
or this is the one that started them."""

_temporary = pytest.StashKey[TemporaryFiles]()


@pytest.hookimpl(tryfirst=True)  # before the processes that run side by side
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let no test leave temporary files where nobody looks."""
    if PROCESS is None:
        session.stash[_temporary] = TemporaryFiles()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that leaves temporary files fails."""
    left = session.stash[_temporary].remove() if PROCESS is None else []
    if left:
        print(f"\nleft among the temporary files: {', '.join(left)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)  # after they were shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that measure come last: the others need not wait for them."""
    items.sort(key=_measures)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """While a test measures, no other one runs in a process beside it."""
    if PROCESS is None:
        return (yield)
    with open(Path(tempfile.gettempdir(), ".running"), "w") as running:
        fcntl.flock(running, fcntl.LOCK_EX if _measures(item) else fcntl.LOCK_SH)
        return (yield)


def _measures(item: pytest.Item) -> bool:
    return item.get_closest_marker("measures") is not None


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder of the test's own; its path leaves room for a Unix socket's name."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The PostgreSQL server: BRIDGE_TEST_DATABASE_URL, else an embedded one."""
    url = os.environ.get("BRIDGE_TEST_DATABASE_URL")
    if url:
        yield url
        return
    cluster = Cluster()
    cluster.start()
    yield cluster.url
    cluster.delete()


@pytest.fixture(scope="session")
def old_server_url() -> Iterator[str]:
    """PostgreSQL 15, as Debian has it."""
    if not OLD_BINARIES.exists():
        pytest.skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
    cluster = Cluster(OLD_BINARIES)
    cluster.start()
    yield cluster.url
    cluster.delete()


@pytest.fixture
def durable_database(database: Database) -> Database:
    """A database of the test's own with schema bridge; kept_* is durable."""
    make_durable(database)
    return database


@pytest.fixture(params=["embedded", "15"])
def either_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with schema bridge, on the embedded server and on an old one."""
    name = "server_url" if request.param == "embedded" else "old_server_url"
    database = Database(request.getfixturevalue(name))
    install(Address(database.url), None)
    yield database
    database.drop()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """An embedded server that the test may stop; not started."""
    cluster = Cluster()
    yield cluster
    cluster.delete()


@pytest.fixture
def database(server_url: str) -> Iterator[Database]:
    """A database of the test's own."""
    database = Database(server_url)
    yield database
    database.drop()


@pytest.fixture
def gunicorn() -> Iterator[Callable[..., Gunicorn]]:
    """Makes Gunicorns that end with the test; arguments as for `Gunicorn`."""
    made: list[Gunicorn] = []

    def make(*arguments: Any, **options: Any) -> Gunicorn:
        made.append(Gunicorn(*arguments, **options))
        return made[-1]

    yield make
    for server in made:
        server.end()


@pytest.fixture(scope="session")
def shared_database(server_url: str) -> Iterator[Database]:
    """The database behind `bridge`."""
    database = Database(server_url)
    yield database
    database.drop()


@pytest.fixture(scope="session")
def _bridges(shared_database: Database) -> Iterator[Callable[[str], Gunicorn]]:
    running: dict[str, Gunicorn] = {}

    def get(transport: str) -> Gunicorn:
        if transport not in running:
            # Some cases send thousands of frames at once; how they are paced
            # is another test (test_flood.py).
            running[transport] = Gunicorn(
                shared_database.url,
                unix=transport == "unix",
                max_listeners=3,
                max_message_rate=0,
            ).start()
        return running[transport]

    yield get
    for server in running.values():
        server.end()


@pytest.fixture(params=["tcp", "unix"])
def bridge(request: pytest.FixtureRequest, _bridges: Any) -> Gunicorn:
    """A bridge with every channel public, on TCP and on a Unix socket."""
    server: Gunicorn = _bridges(request.param)
    return server


_channels = count(1)


@pytest.fixture
def channel() -> str:
    """A channel that no other test uses."""
    return f"watchers_{next(_channels)}"


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    """Connects clients that are closed with the test."""
    made: list[Client] = []

    def connect(*arguments: Any, **options: Any) -> Client:
        made.append(Client(*arguments, **options))
        return made[-1]

    yield connect
    for one in made:
        one.socket.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """With CI=true a skipped test is a failure: a green run has run it all."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    """A proxy in front of `cluster`."""
    proxy = Proxy(cluster.port)
    yield proxy
    proxy.close()
