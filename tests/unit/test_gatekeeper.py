"""Asking a policy: off the hub, within a deadline, so many at a time."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.event
import pytest

from bridge.access import Identity, Request, TokenExpired, TokenInvalid, Unavailable
from bridge.access.gatekeeper import MAX_REMEMBERED_REFUSALS, Gatekeeper
from bridge.values.channels import Patterns
from bridge.values.errors import ClientError
from unit.loop import TIMEOUT, run_until

ADA = Identity("ada")
REQUEST = Request(
    path="/ws",
    headers={"authorization": "Bearer s3cret"},
    cookies={"session": "s3cret"},
    query={"channel": "s3cret"},
    address="192.0.2.1",
)


class Says:
    """A policy whose answer is what `answer` returns for a channel."""

    def __init__(self, answer: Callable[[str], Any], cooperative: bool = False) -> None:
        self._answer = answer
        self.cooperative = cooperative
        self.asked: list[tuple[Identity | None, str]] = []

    def identify(self, request: Request) -> Any:
        return self._answer(request.path)

    def may_subscribe(self, identity: Identity | None, channel: str) -> Any:
        self.asked.append((identity, channel))
        return self._answer(channel)


class Held:
    """An answer that a native thread waits for until `release` is called."""

    def __init__(self, answer: object = True) -> None:
        self._answer = answer
        self._released = threading.Event()
        #: How many threads have come here.
        self.waiting = 0

    def __call__(self, channel: str) -> Any:
        self.waiting += 1
        assert self._released.wait(TIMEOUT)
        return self._answer

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.release()


def gatekeeper(policy: Any, **options: Any) -> Gatekeeper:
    return Gatekeeper(
        policy=policy,
        **{
            "public": Patterns(["public_*"]),
            "threads": 2,
            "timeout": TIMEOUT,
            "max_checks": 8,
            **options,
        },
    )


def refusal(call: Callable[[], object]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        call()
    return caught.value


CANNOT_CHECK = ("access cannot be checked now", 5.0)


def unavailable(call: Callable[[], object]) -> tuple[str, float | None]:
    error = refusal(call)
    return error.message, error.retry_delay


# Without a policy.


def test_public_channel_is_open_to_everybody() -> None:
    gate = gatekeeper(None)

    assert gate.may_subscribe(None, "public_news") is True
    assert gate.may_subscribe(ADA, "public_news") is True


def test_every_other_channel_is_closed() -> None:
    gate = gatekeeper(None)

    assert gate.may_subscribe(ADA, "news") is False
    assert gate.may_subscribe(ADA, "not_public_news") is False


def test_without_policy_nobody_is_known() -> None:
    assert gatekeeper(None).identify(REQUEST) is None


# Asking.


def test_policy_is_not_asked_about_a_public_channel() -> None:
    policy = Says(lambda channel: False)

    allowed = gatekeeper(policy).may_subscribe(ADA, "public_news")

    assert (allowed, policy.asked) == (True, [])


def test_policy_decides_about_every_other_channel() -> None:
    policy = Says(lambda channel: channel == "inbox")
    gate = gatekeeper(policy)

    assert gate.may_subscribe(ADA, "inbox") is True
    assert gate.may_subscribe(None, "outbox") is False
    assert policy.asked == [(ADA, "inbox"), (None, "outbox")]


@pytest.mark.parametrize("identity", [ADA, None])
def test_policy_says_who_a_client_is(identity: Identity | None) -> None:
    assert gatekeeper(Says(lambda path: identity)).identify(REQUEST) is identity


def test_policy_runs_in_a_native_thread() -> None:
    threads: list[int] = []

    def answer(channel: str) -> bool:
        threads.append(threading.get_ident())
        return True

    gatekeeper(Says(answer)).may_subscribe(ADA, "inbox")

    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_policy_that_blocks_does_not_stop_the_loop(held: Held) -> None:
    gate = gatekeeper(Says(held))
    asking = gevent.spawn(gate.may_subscribe, ADA, "inbox")

    # This greenlet runs while the policy blocks its thread.
    run_until(lambda: held.waiting == 1)
    before = asking.ready()
    held.release()

    assert before is False
    assert asking.get(timeout=TIMEOUT) is True


def test_policy_that_hangs_for_one_answers_another(held: Held) -> None:
    gate = gatekeeper(Says(lambda channel: held(channel) if channel == "a" else True))
    asking = gevent.spawn(gate.may_subscribe, ADA, "a")
    run_until(lambda: held.waiting == 1)

    assert gate.may_subscribe(ADA, "b") is True
    assert asking.ready() is False
    held.release()
    assert asking.get(timeout=TIMEOUT) is True


def test_questions_wait_for_a_thread(held: Held) -> None:
    gate = gatekeeper(Says(held), threads=2)
    asking = [gevent.spawn(gate.may_subscribe, ADA, str(n)) for n in range(5)]
    run_until(lambda: held.waiting == 2)

    held.release()

    assert [one.get(timeout=TIMEOUT) for one in asking] == [True] * 5
    assert held.waiting == 5


# Failing.


def test_policy_that_raises_is_unavailable_and_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def answer(channel: str) -> bool:
        raise RuntimeError("a policy's bug")

    gate = gatekeeper(Says(answer))

    assert unavailable(lambda: gate.may_subscribe(ADA, "inbox")) == CANNOT_CHECK
    [record] = caplog.records
    assert record.getMessage() == "access policy: may_subscribe failed"
    assert (record.levelno, record.action) == (logging.ERROR, "policy_failed")  # type: ignore[attr-defined]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "a policy's bug"
    # Neither gevent's pool nor anything else prints it a second time.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("cooperative", [False, True])
def test_policy_that_exits_does_not_end_the_worker(cooperative: bool) -> None:
    gate = gatekeeper(Says(lambda channel: sys.exit(3), cooperative))

    asking = gevent.spawn(unavailable, lambda: gate.may_subscribe(ADA, "inbox"))
    run_until(asking.ready)

    assert asking.value == CANNOT_CHECK


def test_policy_that_cannot_identify_is_unavailable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(path: str) -> Identity:
        raise RuntimeError("a policy's bug")

    gate = gatekeeper(Says(answer))

    assert unavailable(lambda: gate.identify(REQUEST)) == CANNOT_CHECK
    assert [record.getMessage() for record in caplog.records] == [
        "access policy: identify failed"
    ]


def test_policy_that_hangs_is_unavailable_after_the_timeout(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gatekeeper(Says(held), timeout=0.05)
    began = time.monotonic()

    assert unavailable(lambda: gate.may_subscribe(ADA, "inbox")) == CANNOT_CHECK
    assert 0.04 < time.monotonic() - began < 5
    [record] = caplog.records
    assert record.getMessage() == (
        "access policy: may_subscribe did not answer within 0.05 s "
        "(BRIDGE_ACCESS_TIMEOUT)"
    )
    assert (record.levelno, record.action) == (logging.WARNING, "policy_timeout")  # type: ignore[attr-defined]


def test_waiting_for_a_thread_counts_against_the_timeout(held: Held) -> None:
    gate = gatekeeper(Says(held), threads=1, timeout=0.05)
    unavailable(lambda: gate.may_subscribe(ADA, "a"))

    # The only thread still hangs.
    assert unavailable(lambda: gate.may_subscribe(ADA, "b")) == CANNOT_CHECK
    assert held.waiting == 1


def test_policy_is_asked_again_after_it_hung(held: Held) -> None:
    gate = gatekeeper(Says(held), threads=1, timeout=0.05)
    unavailable(lambda: gate.may_subscribe(ADA, "a"))

    held.release()

    def answered() -> bool:
        try:
            return gate.may_subscribe(ADA, "b")
        except Unavailable:
            return False

    run_until(answered)


@pytest.mark.parametrize("answer", [None, 1, 0, "yes", [], ADA])
def test_answer_that_is_no_bool_is_unavailable(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gatekeeper(Says(lambda channel: answer))

    assert unavailable(lambda: gate.may_subscribe(ADA, "inbox")) == CANNOT_CHECK
    [record] = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == f"may_subscribe returned {answer!r}"


@pytest.mark.parametrize("answer", ["ada", True, {"subject": "ada"}])
def test_identity_of_another_type_is_unavailable(answer: object) -> None:
    gate = gatekeeper(Says(lambda path: answer))

    assert unavailable(lambda: gate.identify(REQUEST)) == CANNOT_CHECK


# Tokens of clients that are connected.


class Tokens(Says):
    """A policy that also takes tokens."""

    def authenticate(self, token: str) -> Any:
        return self._answer(token)


def test_policy_without_authenticate_takes_no_tokens() -> None:
    gate = gatekeeper(Says(lambda channel: True))

    assert gate.takes_tokens is False
    with pytest.raises(TokenInvalid, match=r"^this server takes no tokens$"):
        gate.authenticate("token")


def test_without_policy_no_tokens_are_taken() -> None:
    assert gatekeeper(None).takes_tokens is False


def test_policy_says_whose_token_it_is() -> None:
    asked: list[str] = []

    def answer(token: str) -> Identity:
        asked.append(token)
        return ADA

    gate = gatekeeper(Tokens(answer))

    assert gate.takes_tokens is True
    assert gate.authenticate("token") is ADA
    assert asked == ["token"]


@pytest.mark.parametrize("answer", [None, "ada", True])
def test_token_must_be_somebodys(answer: object) -> None:
    gate = gatekeeper(Tokens(lambda token: answer))

    assert unavailable(lambda: gate.authenticate("token")) == CANNOT_CHECK


@pytest.mark.parametrize("cooperative", [True, False])
@pytest.mark.parametrize("error", [TokenInvalid("no"), TokenExpired("too late")])
def test_policys_own_word_about_a_client_passes(
    error: ClientError, cooperative: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(token: str) -> Identity:
        raise error

    gate = gatekeeper(Tokens(answer, cooperative=cooperative), max_checks=1)

    for call in (lambda: gate.authenticate("token"), lambda: gate.identify(REQUEST)):
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error
    assert caplog.records == []


def test_public_channel_is_known_without_asking() -> None:
    policy = Says(lambda channel: True)
    gate = gatekeeper(policy)

    assert (gate.is_public("public_news"), gate.is_public("inbox")) == (True, False)
    assert policy.asked == []


# Bounds.


def test_one_question_too_many_is_unavailable_at_once(held: Held) -> None:
    policy = Says(held)
    gate = gatekeeper(policy, max_checks=2)
    asking = [gevent.spawn(gate.may_subscribe, ADA, str(n)) for n in range(2)]
    run_until(lambda: held.waiting == 2)

    assert unavailable(lambda: gate.may_subscribe(ADA, "inbox")) == (
        "too many access checks",
        5.0,
    )
    held.release()
    assert [one.get(timeout=TIMEOUT) for one in asking] == [True, True]
    assert gate.may_subscribe(ADA, "inbox") is True


def test_who_a_client_is_can_be_asked_while_may_subscribe_hangs(held: Held) -> None:
    def answer(asked: str) -> object:
        return held(asked) if asked == "inbox" else ADA

    gate = gatekeeper(Says(answer), threads=1, max_checks=1)
    asking = gevent.spawn(gate.may_subscribe, ADA, "inbox")
    run_until(lambda: held.waiting == 1)

    assert gate.identify(REQUEST) == ADA
    held.release()
    asking.get(timeout=TIMEOUT)


def test_public_channel_is_open_also_with_too_many_questions(held: Held) -> None:
    gate = gatekeeper(Says(held), max_checks=1)
    asking = gevent.spawn(gate.may_subscribe, ADA, "inbox")
    run_until(lambda: held.waiting == 1)

    assert gate.may_subscribe(None, "public_news") is True
    held.release()
    asking.get(timeout=TIMEOUT)


@pytest.mark.parametrize("way", ["raises", "hangs", "no bool", "killed"])
def test_question_that_failed_gives_its_place_back(way: str, held: Held) -> None:
    def answer(channel: str) -> Any:
        if channel == "good":
            return True
        if way == "raises":
            raise RuntimeError("a policy's bug")
        return None if way == "no bool" else held(channel)

    gate = gatekeeper(
        Says(answer), max_checks=1, timeout=0.05 if way == "hangs" else TIMEOUT
    )

    if way == "killed":
        asking = gevent.spawn(gate.may_subscribe, ADA, "bad")
        run_until(lambda: held.waiting == 1)
        asking.kill(timeout=TIMEOUT)
    else:
        unavailable(lambda: gate.may_subscribe(ADA, "bad"))

    assert gate.may_subscribe(ADA, "good") is True


# Cooperative policies.


def test_cooperative_policy_runs_in_the_asking_greenlet() -> None:
    greenlets: list[object] = []

    def answer(channel: str) -> bool:
        greenlets.append(gevent.getcurrent())
        return True

    gatekeeper(Says(answer, cooperative=True)).may_subscribe(ADA, "inbox")

    assert greenlets == [gevent.getcurrent()]


def test_cooperative_policy_may_wait_as_gevent_does() -> None:
    event = gevent.event.Event()
    gate = gatekeeper(Says(lambda channel: event.wait(), cooperative=True))
    asking = gevent.spawn(gate.may_subscribe, ADA, "inbox")
    gevent.sleep(0)

    event.set()

    assert asking.get(timeout=TIMEOUT) is True


def test_cooperative_policy_that_hangs_is_unavailable_after_the_timeout() -> None:
    never = gevent.event.Event()
    gate = gatekeeper(
        Says(lambda channel: never.wait(), cooperative=True), timeout=0.05
    )

    assert unavailable(lambda: gate.may_subscribe(ADA, "inbox")) == CANNOT_CHECK


def test_cooperative_policy_that_raises_is_unavailable() -> None:
    def answer(channel: str) -> bool:
        raise RuntimeError("a policy's bug")

    gate = gatekeeper(Says(answer, cooperative=True))

    assert unavailable(lambda: gate.may_subscribe(ADA, "inbox")) == CANNOT_CHECK


# What is logged of refusals.


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.action == "subscribe_refused"  # type: ignore[attr-defined]
    ]


def test_refusal_without_policy_names_what_to_set(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gatekeeper(None).may_subscribe(None, "inbox")

    assert refusals(caplog) == [
        "channel 'inbox' refused: to open it to everybody set "
        "BRIDGE_PUBLIC_CHANNELS=inbox, to decide for each client set BRIDGE_ACCESS"
    ]


def test_refusal_of_the_policy_names_who_said_no(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gatekeeper(Says(lambda channel: False)).may_subscribe(ADA, "inbox")

    assert refusals(caplog) == [
        "channel 'inbox' refused: the policy of BRIDGE_ACCESS said no, and "
        "BRIDGE_PUBLIC_CHANNELS ['public_*'] does not open it"
    ]


def test_refusal_is_logged_once_a_channel(caplog: pytest.LogCaptureFixture) -> None:
    gate = gatekeeper(None)

    for channel in ("a", "b", "a", "b", "public_c"):
        gate.may_subscribe(None, channel)

    assert [message[:19] for message in refusals(caplog)] == [
        "channel 'a' refused",
        "channel 'b' refused",
    ]


def test_only_so_many_refusals_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    gate = gatekeeper(None)

    for number in range(MAX_REMEMBERED_REFUSALS + 10):
        gate.may_subscribe(None, f"channel {number}")

    assert len(refusals(caplog)) == MAX_REMEMBERED_REFUSALS


def test_what_cannot_be_checked_is_not_logged_as_a_refusal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = gatekeeper(Says(lambda channel: None))

    unavailable(lambda: gate.may_subscribe(ADA, "inbox"))

    assert refusals(caplog) == []


# What a policy sees.
