"""Cursors, as a client gives them and is told them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bridge.core.entries import Entry, Page
from bridge.values.channels import Patterns
from bridge.values.errors import (
    CloseCode,
)
from bridge.values.identity import Identity
from bridge.values.limits import Rate
from unit.conversation_scene import (
    NOT_KEPT,
    WELCOME,
    Talk,
    error,
    subscribed,
)
from unit.doubles import (
    Time,
    durable_hub,
    make_hub,
    messages,
)

# Durable channels.


def keeping(**options: Any) -> Talk:
    """A talk over a journal, whose position is 5."""
    return Talk(make=durable_hub, **options)


def undecided(**options: Any) -> Talk:
    """A talk before it is known which channels are durable."""
    return Talk(make=make_hub, patterns=None, **options)


def answered(channel: str = "kept", **changes: Any) -> dict[str, Any]:
    return subscribed(channel) | {"durable": True, "cursor": "e1-5", **changes}


def bring(talk: Talk, channel: str, *payloads: str) -> None:
    """Let the journal's tail bring so many entries."""
    feed = talk.hub.feed
    entries = [
        Entry(position, channel, payload)
        for position, payload in enumerate(payloads, feed.position + 1)
    ]
    feed.advance(entries, entries[-1].position, talk.hub.publish_to_plain)


def replay(talk: Talk) -> None:
    """Bring one who is behind forward; there is nothing in between."""
    feed = talk.hub.feed
    need = feed.work()
    assert need is not None
    feed.replayed(need, Page((), need.upto, feed.epoch, feed.floor, feed.position))


def bad_cursor(**fields: Any) -> dict[str, Any]:
    return error("bad_cursor", "cursor 'c' is not valid", **fields)


def test_durable_channel_is_answered_with_its_cursor() -> None:
    assert keeping().say("subscribe", channel="kept", id=1) == [answered(id=1)]


def test_durable_channel_is_resumed_from_the_cursor_of_the_client() -> None:
    talk = keeping()

    told = talk.say("subscribe", channel="kept", cursor="e1-5")

    assert told == [answered(resumed=True)]


def test_durable_channels_of_the_url_are_resumed_from_one_cursor() -> None:
    talk = keeping()

    talk.conversation.open(["kept 1", "a", "kept 2"], cursor="e1-5")

    assert talk.outlet.messages == [
        WELCOME,
        answered("kept 1", resumed=True),
        subscribed("a"),
        NOT_KEPT,
        answered("kept 2", resumed=True),
    ]


def test_cursor_that_no_server_gave_is_refused() -> None:
    talk = keeping()

    refused = talk.say("subscribe", channel="kept", cursor="c", id=1)
    again = talk.say("subscribe", channel="kept", id=2)

    assert refused == [bad_cursor(id=1, channel="kept")]
    assert again == [answered(id=2)]


def test_bad_cursor_is_a_mistake_and_the_policy_is_not_asked() -> None:
    asked: list[str] = []

    def policy(identity: Identity | None, channel: str) -> bool:
        asked.append(channel)
        return True

    talk = keeping(may_subscribe=policy, max_errors=2)

    for _ in range(2):
        talk.say("subscribe", channel="kept", cursor="c")

    assert talk.closed == [(CloseCode.TOO_MANY_ERRORS, "too many errors")]
    assert asked == []


def test_bad_cursor_takes_nothing_from_the_rate() -> None:
    talk = keeping(subscribe_rate=Rate(per_second=1, burst=1))
    talk.say("subscribe", channel="kept", cursor="c")

    assert talk.say("subscribe", channel="kept") == [answered()]


def test_bad_cursor_is_refused_as_long_as_the_channel_may_be_durable() -> None:
    talk = undecided()

    assert talk.say("subscribe", channel="a", cursor="c") == [bad_cursor(channel="a")]
    assert talk.hub.subscriptions == 0


def test_cursor_of_a_channel_that_turns_out_to_be_plain_proves_nothing() -> None:
    talk = undecided()
    before = talk.say("subscribe", channel="a", cursor="e1-5", id=1)

    talk.hub.know(Patterns([]))

    assert before == []
    assert talk.outlet.messages == [subscribed("a", id=1), NOT_KEPT]


def test_second_subscribe_before_it_is_known_what_is_durable_is_refused_for_now() -> (
    None
):
    talk = undecided()
    talk.say("subscribe", channel="a", id=1)

    assert talk.say("subscribe", channel="a", id=2) == [
        error(
            "unavailable",
            "channel 'a' is not listened to yet",
            id=2,
            channel="a",
            retry_delay=1.0,
        )
    ]


@pytest.mark.parametrize(
    ("make", "channel", "most"),
    [(keeping, "a", 63), (keeping, "kept", 255), (undecided, "a", 255)],
)
def test_name_may_be_as_long_as_its_kind_allows(
    make: Callable[[], Talk], channel: str, most: int
) -> None:
    name = channel + "x" * (most - len(channel))
    talk = make()

    talk.say("subscribe", channel=name)
    [refused] = talk.say("subscribe", channel=name + "x")

    assert talk.conversation.channels == [name]
    assert refused == error(
        "bad_channel",
        f"channel {(name[:60] + '…')!r} is not valid: {most + 1} bytes, "
        f"at most {most} are allowed",
        channel=name + "x",
    )


def test_second_subscribe_of_one_who_is_live_has_the_cursor_of_the_tail() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept", id=1)
    bring(talk, "kept", "six")

    again = talk.say("subscribe", channel="kept", id=2)

    assert again == [answered(id=2, cursor="e1-6")]
    assert talk.hub.subscriptions == 1


def test_second_subscribe_of_one_who_is_behind_has_its_own_cursor() -> None:
    # What is in memory needs no table: it is answered, and not yet forward.
    talk = keeping(max_recent_bytes=1000)
    bring(talk, "kept", "six", "seven")
    first = talk.say("subscribe", channel="kept", cursor="e1-5", id=1)

    again = talk.say("subscribe", channel="kept", id=2)

    assert first == [answered(id=1, cursor="e1-5", resumed=True)]
    assert again == [answered(id=2, cursor="e1-5")]


def test_second_subscribe_says_no_cursor_while_something_may_be_dropped() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept", id=1)

    talk.outlet.idle = False
    [again] = talk.say("subscribe", channel="kept", id=2)

    assert again == subscribed("kept") | {"durable": True, "id": 2}


def test_second_subscribe_of_one_who_is_not_judged_yet_is_refused_for_now() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept", cursor="e1-3", id=1)

    [refused] = talk.say("subscribe", channel="kept", cursor="e1-3", id=2)
    talk.outlet.take()
    replay(talk)

    assert (refused["code"], refused["retry_delay"]) == ("unavailable", 1.0)
    assert talk.outlet.messages == [answered(id=1, resumed=True, cursor="e1-3")]


def test_second_subscribe_of_a_plain_channel_has_no_cursor() -> None:
    talk = keeping()
    talk.say("subscribe", channel="a")

    assert talk.say("subscribe", channel="a") == [subscribed("a")]


def test_end_leaves_durable_channels_too() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept")
    talk.say("subscribe", channel="kept 2", cursor="e1-3")

    talk.conversation.end()

    assert (talk.hub.subscriptions, talk.hub.channels) == (0, 0)
    assert (talk.hub.feed.subscriptions, talk.hub.feed.behind) == (0, 0)


# Heartbeats.


def heartbeat(talk: Talk) -> dict[str, Any]:
    [message] = messages(talk.conversation.heartbeat())
    return message


LIVES = {"type": "heartbeat"}


def test_heartbeat_of_one_without_durable_channels_has_no_cursor() -> None:
    talk = keeping()
    before = heartbeat(talk)
    talk.say("subscribe", channel="a")

    assert before == heartbeat(talk) == LIVES


def test_heartbeat_has_the_cursor_of_the_tail_when_all_durable_channels_are_live() -> (
    None
):
    talk = keeping()
    for channel in ("kept 1", "a", "kept 2"):
        talk.say("subscribe", channel=channel)

    bring(talk, "kept 3", "not for this client")

    assert heartbeat(talk) == LIVES | {"cursor": "e1-6"}


def test_heartbeat_has_no_cursor_while_one_channel_is_behind() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept 1")
    talk.say("subscribe", channel="kept 2", cursor="e1-3")

    before = heartbeat(talk)
    replay(talk)

    assert before == LIVES
    assert heartbeat(talk) == LIVES | {"cursor": "e1-5"}


def test_heartbeat_has_no_cursor_while_something_waits_that_may_be_dropped() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept")

    talk.outlet.idle = False

    assert heartbeat(talk) == LIVES


def test_heartbeat_has_no_cursor_while_entries_are_written() -> None:
    time = Time()
    talk = keeping(clock=time.clock, pause=time.pause)
    talk.say("subscribe", channel="kept")
    time.step = 0.005
    found: list[dict[str, Any]] = []

    time.meanwhile = lambda: found.append(heartbeat(talk))
    bring(talk, "kept", "six")

    assert found == [LIVES]
    assert heartbeat(talk) == LIVES | {"cursor": "e1-6"}


def test_heartbeat_has_no_cursor_while_the_journal_is_away() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept")

    talk.hub.journal_lost()
    away = heartbeat(talk)
    talk.hub.feed.opened("e1", 0, 5)

    assert away == LIVES
    assert heartbeat(talk) == LIVES | {"cursor": "e1-5"}


def test_heartbeat_has_no_cursor_before_it_is_known_what_is_durable() -> None:
    talk = undecided()
    talk.say("subscribe", channel="a")

    assert heartbeat(talk) == LIVES


def test_heartbeat_forgets_a_channel_that_was_left() -> None:
    talk = keeping()
    talk.say("subscribe", channel="kept 1")
    talk.say("subscribe", channel="kept 2", cursor="e1-3")

    talk.say("unsubscribe", channel="kept 2")

    assert heartbeat(talk) == LIVES | {"cursor": "e1-5"}


def test_heartbeat_is_encoded_once_for_all_clients_of_a_moment() -> None:
    first, second = keeping(), keeping()
    for talk in (first, second):
        talk.say("subscribe", channel="kept")

    assert first.conversation.heartbeat() is second.conversation.heartbeat()
