"""Schema bridge: installed by the command or by psql, again, by two at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import OLD_BINARIES, Database
from support.waiting import wait_until

from bridge.postgres import schema

MIGRATIONS = Path(__file__).parent.parent.parent / "sql" / "migrations"


def pgbridge(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bridge.cli", *arguments],
        env={**os.environ, "BRIDGE_DATABASE_URL": database.url},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_install_twice_and_uninstall(database: Database) -> None:
    first, second = (pgbridge(database, "install") for _ in range(2))
    status = pgbridge(database, "status")
    gone = pgbridge(database, "uninstall", "--yes")
    after = pgbridge(database, "status")

    assert first.stdout == second.stdout == "schema bridge, version 3\n"
    assert first.stderr == second.stderr == ""
    assert "position   0\n" in status.stdout
    assert (gone.returncode, gone.stdout) == (0, "schema bridge is gone\n")
    assert after.returncode == 1
    assert "there is no schema bridge: run  pgbridge install" in after.stderr


def test_uninstall_wants_to_be_sure(database: Database) -> None:
    pgbridge(database, "install")

    assert pgbridge(database, "uninstall").returncode == 2
    assert pgbridge(database, "status").returncode == 0


def test_two_who_install_at_once_both_succeed(database: Database) -> None:
    command = [sys.executable, "-m", "bridge.cli", "install"]
    environ = {**os.environ, "BRIDGE_DATABASE_URL": database.url}
    both = [subprocess.Popen(command, env=environ) for _ in range(4)]

    assert [process.wait(60) for process in both] == [0] * 4


def psql_migrations(database: Database) -> None:
    for migration in sorted(MIGRATIONS.glob("*.sql")):
        run = subprocess.run(
            [str(OLD_BINARIES / "psql"), database.url]
            + ["-qX", "-v", "ON_ERROR_STOP=1", "-f", str(migration)],
            capture_output=True,
            text=True,
        )
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_psql_installs_as_well(either_database: Database) -> None:
    either_database.execute("DROP SCHEMA bridge CASCADE")

    for _ in range(2):
        psql_migrations(either_database)

    assert either_database.execute("SELECT version FROM bridge.status") == [
        (schema.VERSION,)
    ]


def test_running_workers_notice_what_psql_installs(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(database.url).start()
    wait_until(lambda: server.readiness()["journal"]["state"] == "none")

    psql_migrations(database)

    wait_until(lambda: server.readiness()["journal"]["state"] == "live")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_installs_and_publishes_in_any_encoding(server_url: str, encoding: str) -> None:
    database = Database(
        server_url,
        f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    try:
        done = pgbridge(database, "install")
        assert (done.returncode, done.stderr) == (0, "")
        database.publish("news", "hello")
        assert database.execute("SELECT bridge.step()") == [(1,)]
    finally:
        database.drop()


def test_version_is_that_of_the_last_migration() -> None:
    names = [name for name, _ in schema.migrations()]

    assert [int(name[:3]) for name in names] == list(range(1, schema.VERSION + 1))


def test_installing_again_keeps_what_is_there(durable_database: Database) -> None:
    durable_database.publish("kept_a", "x")
    durable_database.execute("SELECT bridge.step()")
    durable_database.execute(
        "UPDATE bridge.setting SET value = '7 days' WHERE name LIKE '%age'"
    )
    before = durable_database.execute("SELECT epoch, position FROM bridge.status")

    pgbridge(durable_database, "install")

    assert (
        durable_database.execute("SELECT epoch, position FROM bridge.status") == before
    )
    assert durable_database.execute("SELECT bridge.setting('max_journal_age')") == [
        ("7 days",)
    ]


def test_schema_of_somebody_else_is_left_alone(database: Database) -> None:
    database.execute("CREATE SCHEMA bridge; CREATE TABLE bridge.state (theirs int)")

    install = pgbridge(database, "install")
    uninstall = pgbridge(database, "uninstall", "--yes")

    assert install.returncode == uninstall.returncode == 1
    assert 'schema "bridge" exists and is not pgbridge\'s' in install.stderr
    assert database.execute("SELECT * FROM bridge.state") == []


def test_server_leaves_a_schema_of_somebody_else_alone(
    database: Database, gunicorn: Callable[..., Gunicorn]
) -> None:
    database.execute("CREATE SCHEMA bridge; CREATE TABLE bridge.state (theirs int)")

    server = gunicorn(database.url).start()

    assert server.readiness()["journal"]["state"] == "none"


def test_durable_patterns_are_added_listed_and_removed(database: Database) -> None:
    pgbridge(database, "install")

    runs = [
        pgbridge(database, "durable", *arguments)
        for arguments in (
            ("add", "b_*"),
            ("add", "a"),
            ("add", "a"),
            ("list",),
            ("remove", "b_*"),
        )
    ]
    wrong = pgbridge(database, "durable", "add")
    reserved = pgbridge(database, "durable", "add", "bridge_*")
    stranger = pgbridge(database, "durable", "remove", "b_*")

    assert [run.stdout for run in runs] == [
        "b_*\n",
        "a\nb_*\n",
        "a\nb_*\n",
        "a\nb_*\n",
        "a\n",
    ]
    assert wrong.returncode == reserved.returncode == stranger.returncode == 1
    assert "pgbridge durable add PATTERN" in wrong.stderr
    assert "pattern 'bridge_*' is not valid: 'bridge_' is reserved" in reserved.stderr
    assert "pattern 'b_*' is not there" in stranger.stderr


def test_installing_again_makes_no_writer_wait(durable_database: Database) -> None:
    with (
        closing(durable_database.connect(autocommit=False)) as open_for_long,
        open_for_long.cursor() as cursor,
    ):
        cursor.execute("SELECT bridge.publish('kept_a', 'x')")

        done = pgbridge(durable_database, "install")

        assert (done.returncode, done.stderr) == (0, "")


def test_uninstalling_gives_up_while_a_writer_is_busy(
    durable_database: Database,
) -> None:
    with (
        closing(durable_database.connect(autocommit=False)) as open_for_long,
        open_for_long.cursor() as cursor,
    ):
        cursor.execute("SELECT bridge.publish('kept_a', 'x')")

        done = pgbridge(durable_database, "uninstall", "--yes")

        assert done.returncode == 1
        assert "is a transaction open that has published?" in done.stderr
        durable_database.publish("kept_a", "nobody waits")


def test_upgrade_needs_something_to_upgrade(database: Database) -> None:
    assert "there is no schema bridge" in pgbridge(database, "upgrade").stderr


def test_worker_needs_no_more_than_its_role(
    database: Database, gunicorn: Callable[..., Gunicorn], client: Callable[..., Client]
) -> None:
    # The owner is a plain role too, as on a managed PostgreSQL.
    owner, worker = f"owner_{database.name}", f'worker "{database.name}'
    quoted = worker.replace('"', '""')
    database.execute(f'CREATE ROLE {owner} LOGIN; CREATE ROLE "{quoted}" LOGIN')
    database.execute(f"GRANT CREATE ON DATABASE {database.name} TO {owner}")
    try:
        theirs = Database.of(make_dsn(database.url, user=owner))
        assert pgbridge(theirs, "install", "--worker-role", worker).stderr == ""
        assert pgbridge(theirs, "durable", "add", "kept_*").returncode == 0
        server = gunicorn(make_dsn(database.url, user=worker)).start()
        page = client(server, "kept_a")
        assert page.receive()["durable"] is True
        database.publish("kept_a", "x")
        assert page.payloads(1) == ["x"]
        server.stop()
        assert "Traceback" not in server.log
    finally:
        page.socket.close()
        database.execute(
            f'DROP SCHEMA bridge CASCADE; DROP OWNED BY {owner}, "{quoted}"; '
            f'DROP ROLE {owner}, "{quoted}"'
        )


REMEDY = "pgbridge install --worker-role ROLE"


@pytest.fixture
def stranger(database: Database) -> Iterator[str]:
    """A role that nobody granted anything to."""
    role = f"stranger_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN")
    yield role
    database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_role_that_may_not_read_the_journal_serves_the_rest_and_says_so(
    durable_database: Database,
    stranger: str,
    gunicorn: Callable[..., Gunicorn],
    client: Callable[..., Client],
) -> None:
    url = make_dsn(durable_database.url, user=stranger)
    server = gunicorn(url).start()

    durable, plain = client(server, "kept_a").receive(), client(server, "news")
    assert plain.receive()["type"] == "subscribed"
    durable_database.notify("news", "hello")
    assert plain.payloads(1) == ["hello"]
    assert (durable["type"], durable["code"]) == ("error", "unavailable")
    assert durable["retry_delay"] == 10.0

    status, _, _ = server.get("/readyz")
    report = server.readiness()
    doctor = pgbridge(Database.of(url), "doctor")
    assert (status, report["ready"]) == (200, True)
    assert report["journal"]["state"] == "denied"
    for said in (report["degraded"], server.log, doctor.stdout):
        assert REMEDY in said
    wait_until(lambda: "pgbridge_journal_denied 1" in server.get("/metrics")[2])
    server.stop()


def test_worker_whose_role_loses_the_journal_says_so_and_comes_back(
    durable_database: Database,
    stranger: str,
    gunicorn: Callable[..., Gunicorn],
    client: Callable[..., Client],
) -> None:
    pgbridge(durable_database, "install", "--worker-role", stranger)
    server = gunicorn(make_dsn(durable_database.url, user=stranger)).start()
    early = client(server, "kept_a")
    cursor = early.receive()["cursor"]

    durable_database.execute(
        f"REVOKE ALL ON ALL TABLES IN SCHEMA bridge FROM {stranger}"
    )
    assert early.receive()["reason"] == "journal_lost"
    wait_until(lambda: REMEDY in server.readiness().get("degraded", ""))
    assert server.get("/readyz")[0] == 200
    late = client(server)
    assert late.subscribe("kept_a", cursor=cursor)["code"] == "unavailable"
    durable_database.publish("kept_a", "meanwhile")
    pgbridge(durable_database, "install", "--worker-role", stranger)

    assert early.receive()["type"] == "restored"
    assert early.payloads(1) == ["meanwhile"]
    assert late.subscribe("kept_a", cursor=cursor)["type"] == "subscribed"
    assert late.payloads(1) == ["meanwhile"]
    wait_until(lambda: "degraded" not in server.readiness())
    server.stop()


def test_schema_that_comes_and_may_not_be_read_is_told(
    database: Database,
    stranger: str,
    gunicorn: Callable[..., Gunicorn],
    client: Callable[..., Client],
) -> None:
    server = gunicorn(make_dsn(database.url, user=stranger)).start()
    early = client(server, "kept_a")
    assert early.receive()["durable"] is False
    pgbridge(database, "install")
    pgbridge(database, "durable", "add", "kept_*")
    database.publish("kept_a", "before anybody reads")
    database.execute("SELECT bridge.step()")

    wait_until(lambda: server.readiness()["journal"]["state"] == "denied")
    wait_until(lambda: "pgbridge_journal_away 1" in server.get("/metrics")[2])
    plain = client(server, "news")
    assert plain.receive()["type"] == "subscribed"

    def refused() -> bool:
        # The patterns are read at each try.
        return client(server, "kept_a").receive().get("code") == "unavailable"

    wait_until(refused)
    assert early.settle() == []

    pgbridge(database, "install", "--worker-role", stranger)
    gap = early.receive()
    late = client(server, "kept_a")
    answer = late.receive()
    database.publish("kept_a", "after")

    assert (gap["type"], gap["reason"]) == ("gap", "not_kept")
    assert (answer["type"], answer["durable"]) == ("subscribed", True)
    assert early.payloads(1) == late.payloads(1) == ["after"]
    assert server.get("/readyz")[0] == 200
    wait_until(lambda: "pgbridge_journal_away 0" in server.get("/metrics")[2])
    server.stop()


def test_who_comes_after_an_uninstall_finds_plain_channels(
    durable_database: Database,
    gunicorn: Callable[..., Gunicorn],
    client: Callable[..., Client],
) -> None:
    server = gunicorn(durable_database.url).start()
    early = client(server, "kept_a")
    assert early.receive()["durable"] is True

    pgbridge(durable_database, "uninstall", "--yes")

    assert early.receive()["reason"] == "journal_lost"
    wait_until(lambda: server.readiness()["journal"]["state"] == "none")
    late = client(server, "kept_a")
    assert late.receive()["durable"] is False
    durable_database.notify("kept_a", "hello")
    assert late.payloads(1) == ["hello"]


# The journal on the command line.


@contextmanager
def listening(
    database: Database, *arguments: str
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Run `pgbridge listen`; gives a function that waits for its next line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge.cli", "listen", *arguments],
        env={**os.environ, "BRIDGE_DATABASE_URL": database.url},
        stdout=subprocess.PIPE,
        text=True,
    )
    stdout = process.stdout
    assert stdout is not None
    try:
        yield lambda: json.loads(stdout.readline())
    finally:
        process.terminate()
        process.communicate()


def test_listen_after_a_cursor_prints_what_is_kept_and_what_comes(
    durable_database: Database, gunicorn: Callable[..., Gunicorn]
) -> None:
    gunicorn(durable_database.url).start()
    [(cursor,)] = durable_database.execute("SELECT bridge.cursor()")
    epoch = cursor.partition("-")[0]
    for payload in ("one", "two"):
        assert (
            pgbridge(
                durable_database, "publish", "--durable", "kept_a", payload
            ).returncode
            == 0
        )
    durable_database.publish("kept_b", "other")
    wait_until(lambda: durable_database.positions() == 3)

    with listening(durable_database, "kept_a", "--after", f"{epoch}-1") as next_line:
        lines = [next_line()]
        durable_database.publish("kept_a", "three")
        lines.append(next_line())

    assert lines == [
        {"channel": "kept_a", "payload": "two", "cursor": f"{epoch}-2"},
        {"channel": "kept_a", "payload": "three", "cursor": f"{epoch}-4"},
    ]


def test_listen_prints_what_comes_to_durable_channels_too(
    durable_database: Database, gunicorn: Callable[..., Gunicorn]
) -> None:
    gunicorn(durable_database.url).start()
    durable_database.publish("kept_a", "before")
    wait_until(lambda: durable_database.positions() == 1)
    long = "kept_" + "x" * 100

    with listening(durable_database, "kept_a", "plain", long) as next_line:
        wait_until(
            lambda: durable_database.execute(
                "SELECT 1 FROM pg_stat_activity "
                "WHERE datname = current_database() AND state = 'idle' "
                "AND query LIKE 'EXECUTE pgbridge_tail%%'"
                "AND application_name = ''"
            )
        )
        lines = []
        for publish, channel in (
            (durable_database.publish, "kept_a"),
            (durable_database.publish, long),
            (durable_database.notify, "plain"),
            (durable_database.notify, "kept_a"),
        ):
            publish(channel, "x")
            lines.append(next_line())

    epoch = lines[0]["cursor"].partition("-")[0]
    assert lines[2].pop("pid") != lines[3].pop("pid")  # a session each
    assert lines == [
        {"channel": "kept_a", "payload": "x", "cursor": f"{epoch}-2"},
        {"channel": long, "payload": "x", "cursor": f"{epoch}-3"},
        {"channel": "plain", "payload": "x"},
        {"channel": "kept_a", "payload": "x"},
    ]


def test_listen_after_a_cursor_that_is_no_good_says_why(
    durable_database: Database,
) -> None:
    [(cursor,)] = durable_database.execute("SELECT bridge.cursor()")
    epoch = cursor.partition("-")[0]
    durable_database.publish("kept_a", "x")
    durable_database.execute("SELECT bridge.step()")
    durable_database.execute("UPDATE bridge.journal SET at = at - interval '2 days'")
    durable_database.execute("SELECT bridge.prune()")

    def problem(after: str) -> str:
        run = pgbridge(durable_database, "listen", "kept_a", "--after", after)
        assert run.returncode == 1
        return run.stderr

    assert "cursor 'x' is not valid" in problem("x")
    assert "cursor 'abc-1' is of another epoch than" in problem("abc-1")
    assert f"cursor '{epoch}-9' is ahead of the journal" in problem(f"{epoch}-9")
    assert "not kept any more" in problem(f"{epoch}-0")


def test_journal_without_the_schema_says_what_to_do(database: Database) -> None:
    for arguments in (
        ("publish", "--durable", "a", "x"),
        ("listen", "a", "--after", "e-1"),
    ):
        run = pgbridge(database, *arguments)

        assert run.returncode == 1
        assert "run  pgbridge install" in run.stderr


def test_functions_have_a_comment_and_a_path(durable_database: Database) -> None:
    with closing(psycopg2.connect(durable_database.url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT proname FROM pg_proc "
                "WHERE pronamespace = 'bridge'::regnamespace "
                "AND (obj_description(oid, 'pg_proc') IS NULL "
                "OR proconfig::text NOT LIKE '%search_path=pg_catalog, pg_temp%')"
            )
            assert cursor.fetchall() == []


@pytest.mark.parametrize("table", ["tick", "state", "floor"])
def test_table_that_was_emptied_is_said_in_one_line(
    gunicorn: Callable[..., Gunicorn], durable_database: Database, table: str
) -> None:
    server = gunicorn(durable_database.url).start()

    durable_database.execute(f"TRUNCATE bridge.{table}")

    for arguments in (["status"], ["doctor"], ["listen", "kept_a"]):
        said = pgbridge(durable_database, *arguments)
        assert said.returncode == 1, arguments
        lines = (said.stdout + said.stderr).splitlines()
        assert sum("somebody has emptied" in line for line in lines) == 1, arguments
        assert "Traceback" not in said.stderr
    wait_until(lambda: "journal cannot be read" in server.log)
    assert "somebody has emptied" in server.log
    assert "Traceback" not in server.log
