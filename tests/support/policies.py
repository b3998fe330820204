"""Policies for tests, named by BRIDGE_ACCESS in the servers they start."""

from __future__ import annotations

import random
import time

from bridge.access import Forbidden, Identity, Request


class ByUserHeader:
    """Believes X-User; each user has its inbox; some channels do harm."""

    def identify(self, request: Request) -> Identity | None:
        user = request.headers.get("x-user")
        if user == "raise":
            raise RuntimeError("a policy's bug")
        if user == "banned":
            raise Forbidden("you are banned")
        return Identity(user) if user else None

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        if channel == "hang":
            time.sleep(2)
        if channel == "raise":
            raise RuntimeError("a policy's bug")
        return identity is not None and channel == f"inbox_{identity.subject}"


class Slow:
    """Takes four seconds to tell who anybody is."""

    def identify(self, request: Request) -> Identity | None:
        time.sleep(4)
        return None

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        return False


class Sleeps:
    """Takes as many seconds for an answer as the channel's name says."""

    def identify(self, request: Request) -> Identity | None:
        return None

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        time.sleep(float(channel.removeprefix("sleep_")))
        return False


class Spins:
    """Says that it never waits, and keeps the event loop busy."""

    cooperative = True

    def identify(self, request: Request) -> Identity | None:
        return None

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        until = time.monotonic() + 1.6
        while time.monotonic() < until:
            pass
        return True


class Dawdles:
    """Lets everybody in, after up to a fifth of a second."""

    def identify(self, request: Request) -> Identity | None:
        return None

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        time.sleep(random.uniform(0, 0.2))
        return True


class CannotBeMade:
    """Its constructor raises, in two lines."""

    def __init__(self) -> None:
        raise RuntimeError("no settings of the site\ntwo lines")
