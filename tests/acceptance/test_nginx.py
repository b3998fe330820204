"""The reference deployment: nginx in front of a Unix socket."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.waiting import free_port, wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

EXAMPLE = Path(__file__).parents[2] / "examples" / "nginx.conf"

MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@pytest.fixture
def site(
    request: pytest.FixtureRequest,
    gunicorn: Callable[..., Gunicorn],
    database: Database,
    tmp_path: Path,
) -> Iterator[tuple[int, Gunicorn]]:
    """The example as it stands, but for its addresses; yields nginx's port.

    Its parameter, if it has one: further settings of the bridge.
    """
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(nginx).exists():
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    settings = getattr(request, "param", {})
    server = gunicorn(
        database.url, unix=True, trusted_proxies="unix", **settings
    ).start()
    port = free_port()
    text = EXAMPLE.read_text()
    for old, new in (
        ("/run/pgbridge/pgbridge.sock", str(server.path)),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "site.conf").write_text(text)
    (tmp_path / "main.conf").write_text(MAIN.format(folder=tmp_path))
    # The socket's folder is private; nginx's workers run as nobody.
    server.folder.chmod(0o755)
    tmp_path.chmod(0o755)
    process = subprocess.Popen(
        [nginx, "-p", tmp_path, "-c", tmp_path / "main.conf", "-e", "stderr"],
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(lambda: _status(port, "/static/client/pgbridge.js") == 200)
        yield port, server
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_notification_passes_nginx_both_ways(
    site: tuple[int, Gunicorn], database: Database
) -> None:
    port, server = site

    with connect(
        f"ws://127.0.0.1:{port}/ws/a%2Fb",
        origin=f"http://127.0.0.1:{port}",
        proxy=None,
    ) as subscriber:
        types = [json.loads(subscriber.recv())["type"] for _ in "12"]
        database.notify("a/b", "through nginx")
        message = json.loads(subscriber.recv())
        subscriber.send('{"type":"ping","id":1}')
        pong = json.loads(subscriber.recv())

    assert types == ["welcome", "subscribed"]
    assert message["text"] == "through nginx"
    assert pong == {"type": "pong", "id": 1}
    # X-Forwarded-For is believed: the Unix socket itself has no address.
    assert "subscriber 127.0.0.1 opened" in server.log


def test_several_clients_come_and_go_on_one_unix_socket(
    site: tuple[int, Gunicorn], database: Database
) -> None:
    port, server = site
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                connect(f"ws://127.0.0.1:{port}/ws?channel=a", proxy=None)
            )
            for _ in range(10)
        ]
        for subscriber in clients:
            subscriber.recv(), subscriber.recv()

        for subscriber in clients[::2]:
            subscriber.close()
        wait_until(lambda: server.readiness()["connections"]["open"] == 5)
        database.notify("a", "to those who stayed")

        for subscriber in clients[1::2]:
            assert json.loads(subscriber.recv())["text"] == "to those who stayed"
    assert "Traceback" not in server.log


def test_foreign_origin_is_refused_through_nginx(
    site: tuple[int, Gunicorn],
) -> None:
    port, _ = site

    with pytest.raises(InvalidStatus) as refused:
        connect(
            f"ws://127.0.0.1:{port}/ws", origin="https://evil.example", proxy=None
        ).__enter__()

    assert refused.value.response.status_code == 403


def test_page_over_https_is_told_apart_from_http(site: tuple[int, Gunicorn]) -> None:
    # nginx says X-Forwarded-Proto: http, so a page over https is another site.
    port, _ = site

    with pytest.raises(InvalidStatus) as refused:
        connect(
            f"ws://127.0.0.1:{port}/ws",
            origin=f"https://127.0.0.1:{port}",
            proxy=None,
        ).__enter__()

    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("site", [{"max_request_rate_per_address": 0.5}], indirect=True)
def test_client_whose_requests_wait_holds_nobody_else_up(
    site: tuple[int, Gunicorn],
) -> None:
    port, _ = site

    def ask(address: str) -> int:
        connection = http.client.HTTPConnection(
            "127.0.0.1", port, source_address=(address, 0)
        )
        with closing(connection):
            connection.request("GET", "/static/client/pgbridge.js")
            return connection.getresponse().status

    late: list[int] = []
    # Five at once; then one in two seconds, and not later than ten.
    greedy = [
        threading.Thread(target=lambda: late.append(ask("127.0.0.2"))) for _ in range(7)
    ]
    for thread in greedy:
        thread.start()
    wait_until(lambda: late.count(200) == 5)
    others = [ask(f"127.0.0.{n}") for n in range(3, 20)]
    meanwhile = len(late)
    for thread in greedy:
        thread.join()

    assert others == [200] * 17
    assert meanwhile < 7
    assert late == [200] * 7
