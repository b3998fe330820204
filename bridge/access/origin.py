"""Whose page a request comes from, and which client it is.

A browser sends cookies with a WebSocket handshake whatever page opened it, so
the Origin is the only thing between a foreign page and a user's channels.

Pure: works on header values.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bridge.values.errors import RequestRefused

__all__ = ["OriginRules", "Peer", "Proxies"]

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class OriginRules:
    """Which pages may connect.

    Attributes:
        allowed_origins: beside the site's own, for example
            ``https://www.example.com``; ``null`` for sandboxed pages.
        allowed_hosts: names that the Host header may carry, against DNS
            rebinding; empty: any.
    """

    allowed_origins: frozenset[str]
    allowed_hosts: frozenset[str]

    def check(self, origin: str | None, host: str, scheme: str | None) -> None:
        """Let a WebSocket handshake pass or refuse it.

        Args:
            origin: the Origin header; None when there is none.
            host: the Host header.
            scheme: ``http`` or ``https`` where it is known, else None.

        Raises:
            RequestRefused: 403.
        """
        if self.allowed_hosts and _host(host) not in self.allowed_hosts:
            raise RequestRefused(403, f"Host {host!r} is not served here")
        # Not a browser: a browser always says where its page is from.
        if origin is None or origin in self.allowed_origins:
            return
        if not _same_site(origin, host, scheme):
            raise RequestRefused(403, f"Origin {origin!r} is not allowed")


def _same_site(origin: str, host: str, scheme: str | None) -> bool:
    try:
        page, site = urlsplit(origin), urlsplit(f"//{host}")
        page_port = page.port or _DEFAULT_PORTS.get(page.scheme)
        site_port = site.port or _DEFAULT_PORTS.get(scheme or page.scheme)
    except ValueError:
        return False
    return (
        page.hostname is not None
        and page.scheme in ("http", "https")
        and scheme in (None, page.scheme)
        and (page.hostname, page_port) == (site.hostname, site_port)
    )


def _host(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class Peer:
    """The client behind the proxies.

    Attributes:
        address: its IP address; "" when nobody said (a Unix socket without
            the header).
        scheme: ``http`` or ``https`` as the client used it; None: unknown.
    """

    address: str
    scheme: str | None

    def __str__(self) -> str:
        return self.address or "-"


class Proxies:
    """The proxies whose X-Forwarded-* headers are believed.

    Args:
        trusted: networks in CIDR notation, and ``unix`` for whoever connects
            to the Unix socket.

    Raises:
        ValueError: an entry is neither.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        entries = list(trusted)
        self._unix = "unix" in entries
        self._networks = [
            ipaddress.ip_network(entry) for entry in entries if entry != "unix"
        ]

    def peer(
        self,
        remote: str,
        forwarded_for: str | None,
        forwarded_proto: str | None,
        tls: bool,
    ) -> Peer:
        """Find the client of a request.

        Args:
            remote: the address of the TCP peer; "" for a Unix socket.
            forwarded_for: the X-Forwarded-For header.
            forwarded_proto: the X-Forwarded-Proto header.
            tls: this server itself ended TLS.
        """
        if not self.trusts(remote):
            return Peer(remote, "https" if tls else None)
        address = remote
        # The right-most address that is none of our proxies': what stands left of
        # it may be forged.
        for entry in reversed((forwarded_for or "").split(",")):
            if not _is_address(entry.strip()):
                break
            address = entry.strip()
            if not self.trusts(address):
                break
        scheme = (forwarded_proto or "").strip().lower()
        return Peer(address, scheme if scheme in ("http", "https") else None)

    def client_address(self, environ: Mapping[str, Any]) -> str:
        """Return the address of a WSGI request's client; "" when nobody said."""
        return self.peer(
            environ.get("REMOTE_ADDR", ""),
            environ.get("HTTP_X_FORWARDED_FOR"),
            None,
            tls=False,
        ).address

    def trusts(self, address: str) -> bool:
        """Tell whether an address is one of theirs; "" is the Unix socket."""
        if not address:
            return self._unix
        if not _is_address(address):
            return False
        ip = ipaddress.ip_address(address)
        # A socket for both families shows IPv4 addresses mapped into IPv6.
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
