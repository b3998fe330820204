"""pgbridge publish, listen, settings, serve."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.client import Client
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.process import running
from support.waiting import wait_until

Connect = Callable[..., Client]

TESTS = str(Path(__file__).parent.parent)


def pgbridge(
    *arguments: str, input: str | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BRIDGE_", "DATABASE_URL"))
    }
    return subprocess.run(
        [sys.executable, "-m", "bridge.cli", *arguments],
        env={**clean, **environ},
        input=input,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_publish_reaches_a_browser(
    bridge: Gunicorn, shared_database: Database, channel: str, client: Connect
) -> None:
    subscriber = client(bridge, channel)
    subscriber.receive()
    url = shared_database.url

    by_argument = pgbridge("publish", channel, '{"a": 1}', DATABASE_URL=url)
    by_input = pgbridge("publish", channel, "-", input="piped", DATABASE_URL=url)

    assert (by_argument.returncode, by_argument.stderr) == (0, "")
    assert by_input.returncode == 0
    assert subscriber.payloads(2) == [{"a": 1}, "piped"]


def test_publish_says_what_is_wrong(shared_database: Database) -> None:
    url = shared_database.url

    too_long = pgbridge("publish", "a", "x" * 8000, BRIDGE_DATABASE_URL=url)
    no_text = pgbridge("publish", "a", "-", input="a\0b", BRIDGE_DATABASE_URL=url)
    bad_name = pgbridge("publish", "x" * 64, "text", BRIDGE_DATABASE_URL=url)
    no_url = pgbridge("publish", "a", "text")
    nobody = pgbridge(
        "publish", "a", "text", DATABASE_URL="postgresql://u:secret@127.0.0.1:1/x"
    )

    runs = (too_long, no_text, bad_name, no_url, nobody)
    assert [run.returncode for run in runs] == [1] * 5
    assert "the payload has 8,000 bytes: pg_notify takes 7,999" in too_long.stderr
    assert "the payload has a NUL character" in no_text.stderr
    assert "64 bytes, at most 63 are allowed" in bad_name.stderr
    assert "BRIDGE_DATABASE_URL is not set" in no_url.stderr
    assert "cannot connect to host=127.0.0.1 port=1 user=u dbname=x" in nobody.stderr
    assert "secret" not in nobody.stderr
    for run in runs:
        assert "Traceback" not in run.stderr


def test_listen_prints_lines_of_json(database: Database) -> None:
    environ = {**os.environ, "BRIDGE_DATABASE_URL": database.url}
    command = [sys.executable, "-m", "bridge.cli", "listen", "a", 'b"; --']
    with running(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        wait_until(
            lambda: database.execute(
                "SELECT 1 FROM pg_stat_activity "
                "WHERE datname = current_database() AND state = 'idle' "
                "AND query LIKE 'LISTEN%%b%%'"
            )
        )
        database.notify("a", "one\ntwo")
        database.notify('b"; --', "ü")
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        code = process.wait(10)

    assert [(line["channel"], line["payload"]) for line in lines] == [
        ("a", "one\ntwo"),
        ('b"; --', "ü"),
    ]
    assert code == 130


def test_interrupt_ends_what_a_shell_has_in_the_background(
    database: Database,
) -> None:
    """Which ignores it: that is what a shell does for `command &`."""
    environ = {**os.environ, "BRIDGE_DATABASE_URL": database.url}
    command = [sys.executable, "-m", "bridge.cli", "listen", "a"]
    with running(
        command, env=environ, preexec_fn=_ignore_interrupts, stdout=subprocess.PIPE
    ) as process:
        wait_until(
            lambda: database.execute(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
                "AND query LIKE 'LISTEN%%'"
            )
        )
        process.send_signal(signal.SIGINT)
        code = process.wait(10)

    assert code == 130


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_settings_shows_values_sources_and_no_secret() -> None:
    run = pgbridge(
        "settings",
        DATABASE_URL="postgresql+psycopg2://u:secret@db/x",
        BRIDGE_PUBLIC_CHANNELS="a_*, b",
        BRIDGE_SOMETHING_ELSE="1",
    )

    assert run.returncode == 0
    lines = run.stdout.splitlines()
    assert "BRIDGE_DATABASE_URL=host=db user=u dbname=x  (from DATABASE_URL)" in lines
    assert "BRIDGE_PUBLIC_CHANNELS=a_*,b  (from BRIDGE_PUBLIC_CHANNELS)" in lines
    assert "BRIDGE_MAX_CHANNELS=128  (default)" in lines
    assert "BRIDGE_SOMETHING_ELSE is not a setting" in run.stderr
    assert "secret" not in run.stdout + run.stderr


def test_serve_reports_all_problems_at_once_and_starts_nothing() -> None:
    run = pgbridge("serve", BRIDGE_MAX_CHANNEL="3", BRIDGE_WRITE_TIMEOUT="soon")

    assert run.returncode == 1
    assert "BRIDGE_MAX_CHANNEL is not a setting: did you mean BRIDGE_MAX_CHANNELS?" in (
        run.stderr
    )
    assert "BRIDGE_WRITE_TIMEOUT='soon' is not valid" in run.stderr
    assert "Traceback" not in run.stderr
    assert "Booting worker" not in run.stderr


@pytest.mark.parametrize(
    ("arguments", "environ", "line"),
    [
        (
            ("--worker-connections", "0"),
            {},
            "worker_connections = 0 leaves no room for clients",
        ),
        (("-k", "sync"), {}, "worker_class is 'sync', which serves no WebSocket"),
        (("-k", "gevent"), {}, "worker_class is 'gevent', which serves no"),
        (("-k", "gthread"), {}, "worker_class is 'gthread', which serves no"),
        (("--preload",), {}, "drop --preload, or set  preload_app = False"),
        (("-w", "0"), {}, "workers = 0 serves nobody: set 1 or more"),
        ((), {"WEB_CONCURRENCY": "0"}, "workers = 0 serves nobody: set 1 or more"),
        ((), {"BRIDGE_RUN_FOLDER": "/proc/nowhere"}, "'/proc/nowhere' cannot be used"),
        ((), {"BRIDGE_RUN_FOLDER": "/etc/passwd"}, "cannot be used: File exists"),
        ((), {"BRIDGE_RUN_FOLDER": "/usr"}, "'/usr' must be a folder that belongs"),
        ((), {"BRIDGE_ACCESS": "no.such.Policy"}, "No module named 'no'"),
        (
            (),
            {"BRIDGE_DATABASE_URL": "postgresql://u:secret@h/x?pool_size=5"},
            "the database URL has a parameter 'pool_size', which libpq",
        ),
        ((), {"BRIDGE_DATABASE_URL": "postgresql://[h/x"}, "URL is not valid"),
        ((), {"BRIDGE_ACCESS": "os.getcwd"}, "it has no method 'identify'"),
        (
            (),
            {"BRIDGE_ACCESS": "support.policies.CannotBeMade", "PYTHONPATH": TESTS},
            "cannot be used: RuntimeError: no settings of the site two lines",
        ),
        (
            (),
            {"BRIDGE_ACCESS": "bridge.hooks.signed_token.SignedToken"},
            "BRIDGE_TOKEN_KEYS_FILE",
        ),
        (("-b", "127.0.0.1:65536"), {}, "cannot listen at port 65536: 65535 is"),
        (("-b", "[::1]:99999"), {}, "cannot listen at port 99999: 65535 is"),
        (
            (),
            {"BRIDGE_RUN_FOLDER": f"/tmp/{'x' * 80}"},
            "it is too long for the Unix sockets in there: at most 82 bytes",
        ),
    ],
)
def test_serve_says_in_one_line_why_it_cannot(
    arguments: tuple[str, ...], environ: dict[str, str], line: str
) -> None:
    url = {"BRIDGE_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    run = pgbridge("serve", "-b", "127.0.0.1:0", *arguments, **(url | environ))

    assert run.returncode == 1
    assert line in run.stderr
    assert "secret" not in run.stderr
    assert run.stderr.count("[ERROR]") == 1
    assert "Traceback" not in run.stderr
    assert "Booting worker" not in run.stderr


@pytest.mark.parametrize("number", ["-1", "x"])
def test_serve_says_in_one_line_what_is_no_number_of_workers(number: str) -> None:
    url = {"BRIDGE_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    run = pgbridge("serve", **url, WEB_CONCURRENCY=number)

    assert run.returncode == 1
    [line] = run.stderr.splitlines()
    assert f"WEB_CONCURRENCY={number!r} is no whole number of workers" in line


def test_worker_class_of_a_configuration_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "site.py"
    config.write_text(
        "from bridge.hooks.gunicorn_conf import *\n"
        "worker_class = 'gthread'\nbind = '127.0.0.1:0'\n"
    )
    url = {"BRIDGE_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    run = pgbridge("serve", "-c", str(config), **url)

    assert run.returncode == 1
    assert "worker_class is 'gthread'" in run.stderr
    assert "Listening at" not in run.stderr


def test_without_the_hooks_a_worker_says_it_in_one_line(tmp_path: Path) -> None:
    config = tmp_path / "site.py"
    config.write_text(
        "worker_class = 'bridge.worker.BridgeWorker'\nbind = '127.0.0.1:0'\n"
    )
    run = pgbridge(
        "serve",
        *("-c", str(config)),
        BRIDGE_DATABASE_URL="postgresql://127.0.0.1:1/x",
        BRIDGE_ACCESS="no.such.Policy",
    )

    assert run.returncode == 3
    assert run.stderr.count("BRIDGE_ACCESS='no.such.Policy' cannot be used") == 1
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("port", ["65535", "70000", "-1"])
def test_demo_says_in_one_line_that_there_is_no_such_port(port: str) -> None:
    run = pgbridge("demo", "--port", port)

    assert run.returncode == 1
    [line] = run.stderr.splitlines()
    assert "cannot listen at 127.0.0.1:" in line
    assert "65535 is the highest port; choose 9000" in line


def test_run_folder_may_have_the_longest_path_that_is_allowed(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    with TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "x" * (81 - len(short)))
        server = gunicorn(database.url, run_folder=folder).start()

        assert len(bytes(folder)) == 82
        assert list(folder.glob("*.sock"))
        assert "Traceback" not in server.log
        server.stop()


def test_serve_warns_about_settings_that_do_nothing(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(
        database.url,
        arguments=("--max-requests", "10", "--graceful-timeout", "5"),
    ).start()

    assert "max_requests does nothing under this worker class" in server.log
    assert "keepalive does nothing" not in server.log
    assert "graceful_timeout = 5 is too short" in server.log
