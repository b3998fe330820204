"""A crowd that means no good takes nothing from those who came to listen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from support.crowd import Audience, Crowd, publish
from support.gunicorn import Gunicorn
from support.postgres import Database
from support.waiting import wait_until


def test_audience_loses_nothing_while_a_crowd_is_at_the_door(
    gunicorn: Callable[..., Gunicorn], database: Database
) -> None:
    server = gunicorn(
        database.url, handshake_timeout=1, arguments=("--worker-connections", "400")
    ).start()
    crowd = Crowd(server, seed=1)

    def health() -> int:
        try:
            return server.get("/healthz")[0]
        except OSError:
            return 0  # No room was left, not even to wait for the request.

    with closing(Audience(server, "news", 20)) as audience:
        crowd.be_silent(200)
        crowd.send_garbage(20)
        crowd.come_and_go(10)
        writer = threading.Thread(target=publish, args=(database, "news", 200, 100))
        writer.start()
        try:
            assert audience.read_until(last=199, timeout=30)
            # On a slow machine all the room may be taken.
            wait_until(lambda: health() in (200, 503))
        finally:
            crowd.stop()
            writer.join()

        assert list(audience.numbers.values()) == [list(range(200))] * 20
        assert audience.closed == 0
    assert crowd.connects > 200
    assert crowd.garbage_bytes > 1000
    # It may be until what they left behind is gone.
    wait_until(lambda: health() == 200)
    wait_until(lambda: server.readiness()["connections"]["open"] == 0)
    assert "Traceback" not in server.log
