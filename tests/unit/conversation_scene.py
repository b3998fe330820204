"""A client's conversation, for its tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge.core.conversation import Conversation
from bridge.core.hub import Hub
from bridge.core.service import Service
from bridge.core.subscription import State
from bridge.values.errors import (
    ClientError,
    CloseCode,
    TokenInvalid,
)
from bridge.values.identity import Identity
from bridge.values.limits import Rate
from bridge.values.message import Batch
from bridge.wire import native
from unit.doubles import (
    Demand,
    RecordingOutlet,
    plain_hub,
)

NO_LIMIT = Rate(per_second=0, burst=1)


def _everybody(identity: Identity | None, channel: str) -> bool:
    return True


class Gate:
    """Decides about access.

    Args:
        tokens: what each token is worth; None: no tokens are taken.
    """

    def __init__(
        self,
        may_subscribe: Callable[[Identity | None, str], bool],
        tokens: Mapping[str, Identity | ClientError] | None,
    ) -> None:
        self.may_subscribe = may_subscribe
        self.takes_tokens = tokens is not None
        self._tokens = tokens or {}
        #: Called when a token is asked about.
        self.on_token: Callable[[], None] | None = None

    def is_public(self, channel: str) -> bool:
        return channel.startswith("public")

    def authenticate(self, token: str) -> Identity:
        if self.on_token is not None:
            self.on_token()
        found = self._tokens.get(token, TokenInvalid("this server takes no tokens"))
        if isinstance(found, ClientError):
            raise found
        return found


class Talk:
    """A conversation with all that it needs; `closed` is how it was closed.

    Args:
        may_subscribe: the policy.
        tokens: what each token is worth; None: no tokens are taken.
        state: how channels stand when they are first wanted.
        make: makes the hub.
        hub: its options.
    """

    def __init__(
        self,
        *,
        may_subscribe: Callable[[Identity | None, str], bool] = _everybody,
        tokens: Mapping[str, Identity | ClientError] | None = None,
        state: State = State.LIVE,
        identity: Identity | None = None,
        max_channels: int = 3,
        max_errors: int = 20,
        subscribe_rate: Rate = NO_LIMIT,
        make: Callable[..., Hub] = plain_hub,
        **hub: Any,
    ) -> None:
        self.demand = Demand(state)
        self.hub = make(self.demand.want, self.demand.unwant, **hub)
        self.outlet = RecordingOutlet()
        self.gate = Gate(may_subscribe, tokens)
        #: Monotonic seconds.
        self.now = 1000.0
        #: After how many seconds the alarm is to come; None: it is not set.
        self.alarm: float | None = None
        self.closed: list[tuple[CloseCode, str]] = []
        self.conversation = Conversation(
            Service(
                hub=self.hub,
                access=self.gate,
                heartbeat_interval=25.0,
                max_channels=max_channels,
                subscribe_rate=subscribe_rate,
                max_errors=max_errors,
                authenticate_timeout=10.0,
                clock=lambda: self.now,
            ),
            identity=identity,
            codec=native,
            outlet=self.outlet,
            close=self._close,
            set_alarm=self._set_alarm,
        )

    def _set_alarm(self, seconds: float | None) -> None:
        self.alarm = seconds

    def _close(self, code: CloseCode, reason: str) -> None:
        self.closed.append((code, reason))
        # As every connection does.
        self.conversation.end()

    def say(self, type: str, **fields: Any) -> list[dict[str, Any]]:
        """Send a request; return what the client is told from then on."""
        return self.say_text(json.dumps({"type": type, **fields}))

    def say_text(self, text: str) -> list[dict[str, Any]]:
        self.outlet.take()
        self.conversation.receive(text)
        return self.outlet.messages

    def publish(self, channel: str, *payloads: str) -> None:
        self.hub.publish(Batch(channel, payloads))


def subscribed(channel: str, **id: Any) -> dict[str, Any]:
    return {
        "type": "subscribed",
        "channel": channel,
        "durable": False,
        "resumed": False,
        **id,
    }


def error(code: str, message: str, **fields: Any) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message, **fields}


WELCOME = {
    "type": "welcome",
    "protocol": 1,
    "heartbeat_interval": 25.0,
    "max_channels": 3,
    "authenticated": False,
}
NOT_KEPT = {"type": "gap", "channel": "a", "reason": "not_kept", "reload_window": 1.0}


ADA = Identity("ada")


def ada_for(seconds: float) -> Identity:
    return Identity("ada", expires_at=time.time() + seconds)
