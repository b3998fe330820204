"""Ask the policy who a client is and whether it may have a channel.

Private by default: a channel is open to everybody when it matches
`BRIDGE_PUBLIC_CHANNELS`; any other one only when the policy of `BRIDGE_ACCESS`
says so. A policy is the application's code and may do anything: it runs in a
native thread (a blocking ORM call in gevent's hub would stop every client),
under a deadline, and only so many questions wait at a time. Who a client is and
what it may have are asked in different threads: clients of public channels
come in while `may_subscribe` hangs.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar, cast

import gevent
from gevent.threadpool import ThreadPool

from bridge.access.policy import Policy, Request, TokenPolicy
from bridge.values.channels import Patterns
from bridge.values.counters import COUNTERS
from bridge.values.errors import ClientError, TokenInvalid, Unavailable
from bridge.values.identity import Identity

__all__ = ["Gatekeeper"]

log = logging.getLogger(__name__)

RETRY_DELAY = 5.0
"""Seconds after which a client asks again when nobody could answer."""

MAX_REMEMBERED_REFUSALS = 256
"""Channels whose refusal is logged once each; further ones are not logged."""

T = TypeVar("T")


class Gatekeeper:
    """Asks the policy, bounded in time and number.

    Args:
        public: channels that are open to everybody.
        policy: None when every other channel is closed.
        threads: native threads for each kind of question.
        timeout: seconds for one question, waiting for a thread included.
        max_checks: questions of a kind that may be open at a time.
    """

    def __init__(
        self,
        *,
        public: Patterns,
        policy: Policy | None,
        threads: int,
        timeout: float,
        max_checks: int,
    ) -> None:
        self._public = public
        self._policy = policy
        self._cooperative = bool(getattr(policy, "cooperative", False))
        self._threads = threads
        self._pools: dict[str, ThreadPool] = {}
        self._timeout = timeout
        self._max_checks = max_checks
        #: Questions open now, of each kind.
        self._open: Counter[str] = Counter()
        self._refused: set[str] = set()

    def identify(self, request: Request) -> Identity | None:
        """Tell who a client is.

        Raises:
            TokenInvalid, TokenExpired: it brought a token that is no good.
            Unavailable: the policy failed or did not answer in time.
        """
        policy = self._policy
        if policy is None:
            return None
        return self._ask(
            "identify", lambda: policy.identify(request), (Identity, type(None))
        )

    @property
    def has_policy(self) -> bool:
        """Whether there is anybody to ask who a client is."""
        return self._policy is not None

    @property
    def takes_tokens(self) -> bool:
        """Whether the policy takes tokens after the handshake."""
        return hasattr(self._policy, "authenticate")

    def authenticate(self, token: str) -> Identity:
        """Tell whose token it is.

        Raises:
            TokenInvalid, TokenExpired: it is no good.
            Unavailable: the policy failed or did not answer in time.
        """
        if not self.takes_tokens:
            raise TokenInvalid("this server takes no tokens")
        policy = cast(TokenPolicy, self._policy)
        return self._ask("authenticate", lambda: policy.authenticate(token), Identity)

    def is_public(self, channel: str) -> bool:
        """Tell whether everybody may have a channel."""
        return self._public.match(channel)

    def may_subscribe(self, identity: Identity | None, channel: str) -> bool:
        """Tell whether a client may have a channel.

        Raises:
            Unavailable: the policy failed or did not answer in time.
        """
        if self.is_public(channel):
            return True
        policy = self._policy
        allowed = policy is not None and self._ask(
            "may_subscribe", lambda: policy.may_subscribe(identity, channel), bool
        )
        if not allowed:
            self._log_refusal(channel)
        return allowed

    def _ask(
        self,
        question: str,
        call: Callable[[], T],
        expected: type | tuple[type, ...],
    ) -> T:
        """Run `call` where it may block, for at most the timeout."""
        if self._open[question] >= self._max_checks:
            COUNTERS.refused_checks += 1
            raise Unavailable("too many access checks", retry_delay=RETRY_DELAY)
        self._open[question] += 1
        try:
            with gevent.Timeout(self._timeout):
                answer = (
                    call() if self._cooperative else self._in_thread(question, call)
                )
            # A forgotten coroutine, for one, is true and would open the door.
            if not isinstance(answer, expected):
                raise TypeError(f"{question} returned {answer!r}")
            return answer
        except ClientError:
            raise  # The policy's own word about the client.
        except gevent.Timeout:
            log.warning(
                "access policy: %s did not answer within %g s (BRIDGE_ACCESS_TIMEOUT)",
                question,
                self._timeout,
                extra={"action": "policy_timeout"},
            )
        except (Exception, SystemExit):
            log.exception(
                "access policy: %s failed",
                question,
                extra={"action": "policy_failed"},
            )
        finally:
            self._open[question] -= 1
        COUNTERS.refused_checks += 1
        raise Unavailable("access cannot be checked now", retry_delay=RETRY_DELAY)

    def _in_thread(self, question: str, call: Callable[[], T]) -> T:
        if question not in self._pools:
            self._pools[question] = ThreadPool(self._threads)
        result: Any = self._pools[question].spawn(_outcome, call).get()
        value, error = result
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def _log_refusal(self, channel: str) -> None:
        if channel in self._refused or len(self._refused) >= MAX_REMEMBERED_REFUSALS:
            return
        self._refused.add(channel)
        remedy = (
            f"the policy of BRIDGE_ACCESS said no, and BRIDGE_PUBLIC_CHANNELS "
            f"{list(self._public.patterns)} does not open it"
            if self._policy is not None
            else f"to open it to everybody set BRIDGE_PUBLIC_CHANNELS={channel}, "
            "to decide for each client set BRIDGE_ACCESS"
        )
        log.warning(
            "channel %r refused: %s",
            channel,
            remedy,
            extra={"action": "subscribe_refused"},
        )


def _outcome(call: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Carry an error as a value: gevent prints what a thread raises."""
    try:
        return call(), None
    except Exception as exc:
        return None, exc
    except BaseException as exc:  # A policy must not end the worker.
        return None, RuntimeError(repr(exc))
