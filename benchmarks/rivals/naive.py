"""The obvious bridge: a queue and a blocked greenlet for every subscriber.

Gunicorn with gevent-websocket's own worker, a Flask view that blocks, and one
greenlet that listens. It is what one writes first: no limits, no heartbeats,
no second try when PostgreSQL goes away.

    NAIVE_DATABASE_URL=postgresql://... gunicorn \\
        -k geventwebsocket.gunicorn.workers.GeventWebSocketWorker naive:app
"""

from __future__ import annotations

import json
import os
from collections import defaultdict

import gevent
import psycopg2
from flask import Flask, request
from gevent import select
from gevent.queue import Queue
from geventwebsocket.exceptions import WebSocketError
from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Identifier

app = Flask(__name__)
subscribers: defaultdict[str, set[Queue[str]]] = defaultdict(set)


def connect() -> Connection:
    """Connect, and spawn the greenlet that hands notifications on."""
    connection = psycopg2.connect(os.environ["NAIVE_DATABASE_URL"])
    connection.autocommit = True
    gevent.spawn(run, connection)
    return connection


def run(connection: Connection) -> None:
    """Put every notification into every queue of its channel."""
    while True:
        select.select([connection], [], [])
        connection.poll()
        hand_on(connection)


def hand_on(connection: Connection) -> None:
    """Empty the list of notifications."""
    while connection.notifies:
        notify = connection.notifies.pop(0)
        message = {
            "type": "notification",
            "channel": notify.channel,
            "data": json.loads(notify.payload),
        }
        text = json.dumps(message, separators=(",", ":"))
        for queue in subscribers[notify.channel]:
            queue.put(text)


listener: Connection | None = None


def listen(channel: str) -> None:
    """LISTEN to a channel, on the worker's one connection."""
    global listener
    if listener is None:
        listener = connect()
    with listener.cursor() as cursor:
        cursor.execute(SQL("LISTEN {}").format(Identifier(channel)))
    hand_on(listener)


@app.route("/ws", websocket=True)
def websocket() -> str:
    """Serve one subscriber until it is gone."""
    socket = request.environ["wsgi.websocket"]
    channel = request.args["channel"]
    if channel not in subscribers:
        listen(channel)
    queue: Queue[str] = Queue()
    subscribers[channel].add(queue)
    try:
        socket.send(json.dumps({"type": "subscribed", "channel": channel}))
        while True:
            socket.send(queue.get())
    except WebSocketError:
        pass  # The client is gone.
    finally:
        subscribers[channel].discard(queue)
    return ""


@app.get("/readyz")
def readyz() -> str:
    """Answer while the process does."""
    return "ready"
