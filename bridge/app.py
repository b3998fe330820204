"""The Flask application: routes, and nothing that runs.

/ws, /ws/<channel>     WebSocket (docs/protocol.md)
/healthz               the process answers
/readyz                it should get traffic, or why not
/metrics               numbers for Prometheus, not for everybody
/static/client/        the browser client
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

from flask import Flask, Response, abort, jsonify, request

from bridge.access.policy import load_policy
from bridge.clients import handshake
from bridge.clients.connection import HAND_OVER, Connection, opener
from bridge.clients.websocket import WebSocketConnection
from bridge.operations.health import readiness
from bridge.operations.metrics import render
from bridge.server.entrance import WORKER_CLASS_NEEDED, admit, clients
from bridge.server.run_folder import RunFolder
from bridge.server.runtime import Runtime
from bridge.values.errors import RequestRefused, SettingsError
from bridge.values.settings import Settings
from bridge.wire import native

__all__ = ["create_app"]

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
"""Headers by which a proxy says whose request it passes on."""


@dataclass(frozen=True, slots=True)
class Transport:
    """One protocol by which clients are served.

    Attributes:
        rules: its URL rules; `channel` in them is the first channel.
        accept: checks a request's environ and returns the answer's headers;
            raises `RequestRefused`.
        status: the answer's.
        connection: what becomes of the socket.
        upgrade: whether its requests ask for `Upgrade: websocket`.
    """

    rules: tuple[str, ...]
    accept: Callable[[Mapping[str, Any]], Mapping[str, str]]
    status: int
    connection: type[Connection]
    upgrade: bool = False


TRANSPORTS = (
    Transport(
        rules=("/ws", "/ws/<path:channel>"),
        accept=partial(handshake.accept, subprotocol=native.SUBPROTOCOL),
        status=101,
        connection=WebSocketConnection,
        upgrade=True,
    ),
)


def create_app(settings: Settings | None = None) -> Flask:
    """Create the application. Starts nothing: the worker does.

    Args:
        settings: default: those of the environment.

    Raises:
        SettingsError: with every problem at once.
    """
    if settings is None:
        settings, _, _ = Settings.from_environ(os.environ)
    policy = None
    if settings.access is not None:
        try:
            policy = load_policy(settings.access)
        except ValueError as exc:
            problem = f"BRIDGE_ACCESS={settings.access!r} cannot be used: {exc}"
            raise SettingsError([problem]) from exc
    runtime = Runtime(settings, policy)
    app = Flask(
        "bridge",
        static_folder=str(files("bridge.static") / "client"),
        static_url_path="/static/client",
    )
    # A channel may contain slashes, also two in a row.
    app.url_map.merge_slashes = False
    app.extensions["pgbridge"] = runtime

    for transport in TRANSPORTS:
        _register(app, runtime, transport)

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="ok")

    @app.get("/readyz")
    def readyz() -> tuple[Response, int]:
        ready, report = readiness(runtime)
        if runtime.clients is None:
            report["reason"] = WORKER_CLASS_NEEDED
        return jsonify(report), 200 if ready else 503

    @app.get("/metrics")
    def metrics() -> Response:
        remote = request.environ.get("REMOTE_ADDR", "")
        # What a proxy passes on comes from anybody.
        passed_on = any(name in request.headers for name in FORWARDED)
        if passed_on or not runtime.metrics_peers.trusts(remote):
            abort(404)
        folder = RunFolder(runtime.settings.run_folder)
        page, content_type = render(folder, runtime, request.headers.get("Accept", ""))
        return Response(page, content_type=content_type)

    @app.after_request
    def headers(response: Response) -> Response:
        if request.endpoint == "static":
            # Public code: a page of another origin may import the client.
            response.headers["Access-Control-Allow-Origin"] = "*"
        elif request.endpoint in ("healthz", "readyz"):
            response.headers["Cache-Control"] = "no-store"
        return response

    app.register_error_handler(RequestRefused, _refused)
    return app


def _register(app: Flask, runtime: Runtime, transport: Transport) -> None:
    """Add the routes of a transport."""

    def view(channel: str | None = None) -> Response:
        options = clients(runtime)
        headers = transport.accept(request.environ)
        visitor = admit(
            runtime, options, request, () if channel is None else (channel,)
        )
        request.environ[HAND_OVER](
            transport.status, opener(transport.connection, options, visitor)
        )
        return Response(status=transport.status, headers=headers)

    for rule in transport.rules:
        # An upgrade request matches only rules with websocket=True, any other
        # one only those without, where it is told what to do instead.
        for upgrade in {False, transport.upgrade}:
            app.add_url_rule(rule, rule, view, websocket=upgrade)


def _refused(refusal: RequestRefused) -> Response:
    return Response(
        refusal.message + "\n",
        status=refusal.http_status,
        headers=refusal.headers,
        mimetype="text/plain",
    )
