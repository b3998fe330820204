"""The Flask application: routes, and nothing that runs.

/ws, /ws/<channel>     WebSocket (docs/protocol.md)
/healthz               the process answers
/readyz                it should get traffic, or why not
/metrics               numbers for Prometheus, not for everybody
/static/client/        the browser client
"""

from __future__ import annotations

import logging
import os
from importlib.resources import files

from flask import Flask, Response, abort, jsonify, request

from bridge.access.policy import Request, load_policy
from bridge.clients.handshake import UPGRADE, accept
from bridge.clients.websocket import opener
from bridge.operations.health import readiness
from bridge.operations.metrics import render
from bridge.server.run_folder import RunFolder
from bridge.server.runtime import Runtime
from bridge.values.errors import ClientError, RequestRefused, SettingsError, Unavailable
from bridge.values.settings import Settings
from bridge.wire import native

__all__ = ["create_app"]

log = logging.getLogger(__name__)

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
"""Headers by which a proxy says whose request it passes on."""

RETRY_AFTER = 5
"""Seconds, for a client that is refused because of load."""

WORKER_CLASS_NEEDED = (
    "pgbridge needs Gunicorn's worker class bridge.worker.BridgeWorker: "
    "start it with  pgbridge serve,  or set  "
    'worker_class = "bridge.worker.BridgeWorker"'
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

    def websocket(channel: str | None = None) -> Response:
        if runtime.websocket is None:
            raise RequestRefused(501, WORKER_CLASS_NEEDED)
        headers = accept(request.environ, native.SUBPROTOCOL)
        address = _check_origin(runtime)
        options = runtime.websocket
        if runtime.draining or options.connections.full:
            raise _overloaded("no more connections here, try again")
        if options.addresses.full(address):
            raise _overloaded("no more connections from your address, try again")
        identity = refusal = None
        try:
            if runtime.gatekeeper.has_policy:
                identity = runtime.gatekeeper.identify(_policy_request(address))
        except Unavailable as exc:
            raise _overloaded(exc.message) from exc
        except ClientError as exc:
            refusal = exc
        channels = request.args.getlist("channel")
        request.environ[UPGRADE](
            opener(
                options,
                channels=channels if channel is None else [channel, *channels],
                cursor=request.args.get("cursor"),
                identity=identity,
                refusal=refusal,
                address=address,
            )
        )
        return Response(status=101, headers=headers)

    # An upgrade request matches only rules with websocket=True, any other one
    # only those without.
    for rule in ("/ws", "/ws/<path:channel>"):
        for upgrade in (True, False):
            app.add_url_rule(rule, view_func=websocket, websocket=upgrade)

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="ok")

    @app.get("/readyz")
    def readyz() -> tuple[Response, int]:
        ready, report = readiness(runtime)
        if runtime.websocket is None:
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


def _check_origin(runtime: Runtime) -> str:
    """Refuse a foreign page; return the client's address."""
    headers = request.headers
    peer = runtime.proxies.peer(
        request.environ.get("REMOTE_ADDR", ""),
        headers.get("X-Forwarded-For"),
        headers.get("X-Forwarded-Proto"),
        tls=request.environ["wsgi.url_scheme"] == "https",
    )
    try:
        runtime.origins.check(
            headers.get("Origin"), headers.get("Host", ""), peer.scheme
        )
    except RequestRefused as refusal:
        log.warning(
            "refused %s: %s; to allow it, add it to %s (the request's Host is %r, "
            "its scheme %s)",
            peer,
            refusal,
            "BRIDGE_ALLOWED_HOSTS"
            if "not served" in refusal.message
            else "BRIDGE_ALLOWED_ORIGINS",
            headers.get("Host", ""),
            peer.scheme or "unknown",
            extra={"action": "origin_refused"},
        )
        raise
    return peer.address


def _policy_request(address: str) -> Request:
    return Request(
        path=request.path,
        headers={name.lower(): value for name, value in request.headers.items()},
        cookies=dict(request.cookies),
        query={name: request.args[name] for name in request.args},
        address=address,
    )


def _overloaded(message: str) -> RequestRefused:
    return RequestRefused(503, message, {"Retry-After": str(RETRY_AFTER)})


def _refused(refusal: RequestRefused) -> Response:
    return Response(
        refusal.message + "\n",
        status=refusal.http_status,
        headers=refusal.headers,
        mimetype="text/plain",
    )
