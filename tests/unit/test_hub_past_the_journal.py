"""Notifications of durable channels that went past the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from bridge.core.entries import Entry
from bridge.core.subscription import State
from bridge.values.channels import Patterns
from bridge.values.counters import COUNTERS
from bridge.values.cursor import Cursor
from bridge.values.message import Batch, Gap
from bridge.wire import native
from unit.doubles import (
    CountingCodec,
)
from unit.hub_scene import (
    MANY,
    keeping,
    notification,
    slow_gap,
)


@pytest.fixture
def strays() -> Callable[[], int]:
    """Tell how many more notifications went past the journal."""
    before = COUNTERS.strays
    return lambda: COUNTERS.strays - before


def test_notification_past_the_journal_is_delivered_without_cursor(
    strays: Callable[[], int],
) -> None:
    house = keeping()
    first, second = house.crowd(2, "kept")

    house.publish("1", "2", channel="kept")

    told = [notification("1", "kept"), notification("2", "kept")]
    assert first.told == second.told == told
    # The journal's alone may be dropped.
    assert first.outlet.owners == [None]
    assert strays() == 2


def test_notification_past_the_journal_is_said_once_for_each_channel(
    caplog: pytest.LogCaptureFixture, strays: Callable[[], int]
) -> None:
    house = keeping()
    house.crowd(2, "kept 1")
    house.crowd(1, "kept 2")

    with caplog.at_level(logging.WARNING, "bridge.core.hub"):
        house.hub.publish(Batch("kept 1", ("x",), pid=4711))
        house.hub.publish(Batch("kept 1", ("y",), pid=4712))
        house.hub.publish(Batch("kept 2", ("z",), pid=4713))

    def line(channel: str, pid: int) -> str:
        return (
            f"channel '{channel}' is durable, and backend {pid} publishes to it with "
            "NOTIFY: that is delivered, and not kept; use bridge.publish"
        )

    assert caplog.messages == [line("kept 1", 4711), line("kept 2", 4713)]
    assert {record.__dict__["action"] for record in caplog.records} == {
        "stray_notification"
    }
    assert strays() == 3


def test_notification_past_the_journal_needs_no_listener_that_is_live() -> None:
    house = keeping(State.PENDING)
    [guest] = house.crowd(1, "kept")

    house.publish("1", channel="kept")

    assert guest.told == [notification("1", "kept")]


def test_notification_past_the_journal_is_encoded_once_for_each_codec() -> None:
    house = keeping()
    one, other = CountingCodec(), CountingCodec()
    guests = [house.new("kept", codec) for codec in (one, other, one)]
    one.encoded.clear()
    other.encoded.clear()

    house.publish("1", channel="kept")

    assert one.encoded == other.encoded == ["Batch", "Gap"]
    assert [guest.told[1:] for guest in guests] == [[notification("1", "kept")]] * 3


def test_notifications_past_the_journal_of_several_chunks_are_written_in_order() -> (
    None
):
    house = keeping()
    [guest] = house.crowd(1, "kept")
    large = [character * native.MAX_CHUNK_BYTES for character in "xy"]

    house.publish(*large, channel="kept")

    assert guest.told == [notification(text, "kept") for text in large]
    assert len(guest.outlet.chunks) == 2


def test_one_who_is_not_answered_gets_nothing_past_the_journal(
    strays: Callable[[], int],
) -> None:
    house = keeping()
    guest = house.new("kept", cursor=Cursor("e1", 3))

    house.publish("1", channel="kept")

    assert guest.told == []
    assert strays() == 1


def test_slow_client_has_a_gap_for_what_goes_past_the_journal() -> None:
    house = keeping()
    slow, quick = house.crowd(2, "kept")
    slow.outlet.stuck = True
    house.hub.feed.advance([Entry(6, "kept", "six")], 6, house.hub.publish_to_plain)

    house.publish("1", channel="kept")
    slow.outlet.release()

    six = notification("six", "kept") | {"cursor": "e1-6"}
    assert slow.told == [six, slow_gap()]
    assert quick.told == [six, notification("1", "kept")]


def test_one_who_leaves_gets_no_more_of_what_goes_past_the_journal() -> None:
    house = keeping()
    guests = house.crowd(MANY, "kept")
    house.step = 0.005

    house.meanwhile = guests[-1].leave
    house.publish("1", channel="kept")

    assert house.pauses == 4
    assert [len(guest.told) for guest in guests] == [1] * (MANY - 1) + [0]


def test_channel_of_both_kinds_delivers_a_notification_to_each_once() -> None:
    house = keeping()
    [plain] = house.crowd(1, "a")
    house.hub.know(Patterns(["*"]))
    [kept] = house.crowd(1, "a")

    house.publish("1")

    assert plain.told == kept.told == [notification("1")]
    assert house.demand.calls == [("want", "a")]


def test_channel_of_both_kinds_is_wanted_until_the_last_has_left() -> None:
    house = keeping()
    [plain] = house.crowd(1, "a")
    house.hub.know(Patterns(["*"]))
    [kept] = house.crowd(1, "a")

    plain.leave()
    before = list(house.demand.calls)
    kept.leave()

    assert before == [("want", "a")]
    assert house.demand.calls == [("want", "a"), ("unwant", "a")]


def test_plain_channel_has_no_strays(strays: Callable[[], int]) -> None:
    house = keeping()
    house.crowd(1)

    house.publish("1")

    assert strays() == 0


def test_gap_of_the_journal_goes_to_plain_ones_as_it_is() -> None:
    house = keeping()
    [guest] = house.crowd(1)

    house.hub.publish_to_plain(Batch("a", (Gap("a", "too_large", 1.0),), ("e1-6",)))

    assert guest.told == [slow_gap("a") | {"reason": "too_large"}]
