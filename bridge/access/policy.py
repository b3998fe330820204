"""What a policy is: the site's own code, which `BRIDGE_ACCESS` names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bridge.values.identity import Identity

__all__ = ["Policy", "Request", "TokenPolicy", "load_policy"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy sees of a handshake.

    Attributes:
        headers: by lower-case name.
        cookies: by name.
        query: by name, the last value of each.
        address: the client's IP address; "" when unknown.
    """

    path: str
    headers: Mapping[str, str] = field(repr=False)
    cookies: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    address: str


class Policy(Protocol):
    """What `BRIDGE_ACCESS` names: a class without arguments, or an object.

    With `cooperative = True` it is called in a greenlet instead of a thread;
    then it must only wait in ways that gevent knows.
    """

    def identify(self, request: Request) -> Identity | None:
        """Tell who a client is, once a connection; None: nobody known."""

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        """Tell whether that client may have a channel."""


class TokenPolicy(Policy, Protocol):
    """A policy that also takes a token from a client that is connected."""

    def authenticate(self, token: str) -> Identity:
        """Tell whose token it is. Raises `TokenInvalid` or `TokenExpired`."""


def load_policy(path: str) -> Policy:
    """Import the policy that a dotted path names.

    Raises:
        ValueError: there is no such thing, or it is no policy.
    """
    module_name, _, name = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
        policy = found() if isinstance(found, type) else found
    except Exception as exc:
        raise ValueError(f"{type(exc).__name__}: {exc}") from exc
    for method in ("identify", "may_subscribe"):
        if not callable(getattr(policy, method, None)):
            raise ValueError(f"it has no method {method!r}")
    return policy  # type: ignore[no-any-return]
