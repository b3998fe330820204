"""Who comes in: one way for every transport.

In this order: the page's origin, room here, room for the
client's address, and who the client is. What is refused before anything was
accepted is a `RequestRefused`; a client whose login is no good comes in, to be
told why by its transport: a browser cannot read the status of a handshake.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from werkzeug.wrappers import Request

from bridge import access
from bridge.clients.connection import ConnectionOptions, Visitor
from bridge.server.runtime import Runtime
from bridge.values.errors import ClientError, RequestRefused, Unavailable

__all__ = ["WORKER_CLASS_NEEDED", "admit", "clients"]

log = logging.getLogger(__name__)

RETRY_AFTER = 5
"""Seconds, for a client that is refused because of load."""

WORKER_CLASS_NEEDED = (
    "pgbridge needs Gunicorn's worker class bridge.worker.BridgeWorker: "
    "start it with  pgbridge serve,  or set  "
    'worker_class = "bridge.worker.BridgeWorker"'
)


def clients(runtime: Runtime) -> ConnectionOptions:
    """Return what connections need; raises `RequestRefused` in a foreign worker."""
    if runtime.clients is None:
        raise RequestRefused(501, WORKER_CLASS_NEEDED)
    return runtime.clients


def admit(
    runtime: Runtime,
    options: ConnectionOptions,
    request: Request,
    channels: Sequence[str],
) -> Visitor:
    """Let a client in; may wait for the policy.

    Args:
        channels: those that the path names, before those of the query.

    Raises:
        RequestRefused: 403 for the page's origin, 503 when there is no room, or
            nobody can say now who the client is.
    """
    address = _check_origin(runtime, request)
    if runtime.draining or options.connections.full:
        raise _overloaded("no more connections here, try again")
    if options.addresses.full(address):
        raise _overloaded("no more connections from your address, try again")
    identity = refusal = None
    try:
        if runtime.gatekeeper.has_policy:
            identity = runtime.gatekeeper.identify(_policy_request(request, address))
    except Unavailable as exc:
        raise _overloaded(exc.message) from exc
    except ClientError as exc:
        refusal = exc
    return Visitor(
        channels=[*channels, *request.args.getlist("channel")],
        cursor=request.args.get("cursor"),
        identity=identity,
        refusal=refusal,
        address=address,
    )


def _check_origin(runtime: Runtime, request: Request) -> str:
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


def _policy_request(request: Request, address: str) -> access.Request:
    return access.Request(
        path=request.path,
        headers={name.lower(): value for name, value in request.headers.items()},
        cookies=dict(request.cookies),
        query={name: request.args[name] for name in request.args},
        address=address,
    )


def _overloaded(message: str) -> RequestRefused:
    return RequestRefused(503, message, {"Retry-After": str(RETRY_AFTER)})
