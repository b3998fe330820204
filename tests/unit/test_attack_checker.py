"""The checker of the attack: it must not find anybody innocent who is not."""

from __future__ import annotations

from typing import Any

from support.attack.checker import check
from support.attack.finding import STRICT, Finding, Kind, Rules, summary
from support.attack.history import Asked, Closed, Entry, Heard, Opened
from support.attack.truth import Journal, Moment

# Channel "a" has the even positions of epoch e, "b" the odd ones; the number of
# an event is its position. Event n of plain channel "p" began at second 10 n
# and had committed a second later.
JOURNAL = Journal(
    [("e", at, "b" if at % 2 else "a", at) for at in range(1, 21)]
    + [("f", at, "a", at) for at in range(21, 26)]
)
PLAIN = {"p": {n: Moment(10.0 * n, 10.0 * n + 1) for n in range(1, 21)}}


def heard(type: str, at: float = 0.0, **fields: Any) -> Heard:
    return Heard(at, {"type": type, **fields})


def event(position: int, channel: str = "a", epoch: str = "e") -> Heard:
    return heard(
        "notification",
        channel=channel,
        cursor=f"{epoch}-{position}",
        data={"n": position},
    )


def plain(number: int) -> Heard:
    return heard("notification", channel="p", data={"n": number})


def gap(reason: str, cursor: str | None = None, channel: str = "a") -> Heard:
    fields = {} if cursor is None else {"cursor": cursor}
    return heard("gap", channel=channel, reason=reason, **fields)


def begun(cursor: str = "e-0", channel: str = "a", id: int = 1) -> list[Entry]:
    """Subscribed without a cursor: everything after `cursor` is due."""
    return [
        Asked("subscribe", id, channel),
        subscribed(id, channel, cursor, resumed=False),
    ]


def resumed(given: str, said: str | None = None, id: int = 1) -> list[Entry]:
    """Subscribed to "a" with a cursor, and resumed."""
    return [
        Asked("subscribe", id, "a", given, True),
        subscribed(id, "a", said or given, resumed=True),
    ]


def subscribed(id: int, channel: str, cursor: str, *, resumed: bool) -> Heard:
    return heard(
        "subscribed",
        channel=channel,
        id=id,
        durable=True,
        resumed=resumed,
        cursor=cursor,
    )


def begun_plain(at: float = 0.0, *, resume: bool = False) -> list[Entry]:
    return [
        Asked("subscribe", 1, "p", resume=resume),
        heard("subscribed", at, channel="p", id=1, durable=False, resumed=False),
    ]


def found(*entries: Entry, rules: Rules = STRICT) -> list[Kind]:
    history = [Opened(), *entries, Closed()]
    return [one.kind for one in check(history, JOURNAL, PLAIN, rules)]


def gaps(*reasons: str) -> Rules:
    return Rules(frozenset(reasons))


# What is right.


def test_everything_of_a_channel_in_its_order_is_right() -> None:
    assert found(*begun("e-4"), event(6), event(8), event(10)) == []


def test_resumed_subscription_begins_at_the_cursor_given() -> None:
    assert found(*resumed("e-4"), event(6), event(8)) == []


def test_channels_are_apart() -> None:
    assert (
        found(
            *begun("e-4"),
            *begun("e-4", "b", 2),
            event(6),
            event(5, "b"),
            event(7, "b"),
            event(8),
        )
        == []
    )


def test_heartbeat_between_events_is_right_where_nothing_is_missing() -> None:
    entries = [*begun("e-4"), event(6), heard("heartbeat", cursor="e-7"), event(8)]

    assert found(*entries) == []
    assert found(*begun("e-4"), heard("heartbeat")) == []


def test_new_subscription_may_begin_before_what_the_last_one_had() -> None:
    assert (
        found(
            *begun("e-4"),
            event(6),
            Asked("unsubscribe", 2, "a"),
            Asked("subscribe", 3, "a", "e-4", True),
            event(8),
            heard("unsubscribed", channel="a", reason="requested", id=2),
            subscribed(3, "a", "e-4", resumed=True),
            event(6),
            event(8),
        )
        == []
    )


def test_another_connection_begins_anew() -> None:
    assert found(*begun("e-4"), event(6), Closed(), Opened(), *begun("e-10")) == []


def test_gap_that_the_run_explains_is_right() -> None:
    entries = [*begun("e-4"), gap("expired", "e-12"), event(14)]

    assert found(*entries, rules=gaps("expired")) == []


def test_gap_leads_to_another_epoch() -> None:
    entries = [*begun("e-4"), gap("epoch_changed", "f-20"), event(21, epoch="f")]

    assert found(*entries, rules=gaps("epoch_changed")) == []


# Steps.


def test_event_left_out_is_lost() -> None:
    assert found(*begun("e-4"), event(6), event(10)) == [Kind.LOST]
    assert found(*resumed("e-4"), event(8)) == [Kind.LOST]


def test_what_is_lost_is_found_once() -> None:
    assert found(*begun("e-4"), event(10), event(12)) == [Kind.LOST]


def test_event_that_comes_again_is_found() -> None:
    assert found(*begun("e-4"), event(6), event(6)) == [Kind.TWICE]
    assert found(*begun("e-4"), event(6), event(8), event(6)) == [Kind.TWICE]


def test_event_at_the_cursor_given_is_found() -> None:
    assert found(*resumed("e-6"), event(6)) == [Kind.TWICE]


def test_event_that_is_not_in_the_journal_is_found() -> None:
    assert found(*begun("e-4"), event(7), event(8)) == [Kind.FOREIGN, Kind.LOST]
    wrong = heard("notification", channel="a", cursor="e-6", data={"n": 8})
    assert found(*begun("e-4"), wrong) == [Kind.FOREIGN]


def test_event_without_a_cursor_is_found() -> None:
    bare = heard("notification", channel="a", data={"n": 6})

    assert found(*begun("e-4"), bare) == [Kind.FOREIGN]


def test_event_of_another_epoch_without_a_gap_is_found() -> None:
    assert found(*begun("e-20"), event(21, epoch="f")) == [Kind.EPOCH]


def test_event_of_the_old_epoch_after_the_gap_is_found() -> None:
    entries = [*begun("e-4"), gap("epoch_changed", "f-20"), event(6)]

    assert found(*entries, rules=gaps("epoch_changed")) == [Kind.EPOCH]


# Positions.


def test_heartbeat_ahead_of_what_has_come_is_found_and_does_not_count() -> None:
    entries = [*begun("e-4"), heard("heartbeat", cursor="e-8"), event(6), event(8)]

    assert found(*entries) == [Kind.UNTRUE]


def test_event_at_or_before_a_heartbeat_is_found() -> None:
    entries = [*begun("e-4"), event(6), heard("heartbeat", cursor="e-7"), event(6)]

    assert found(*entries) == [Kind.TWICE]


def test_heartbeat_that_goes_back_is_found() -> None:
    entries = [*begun("e-4"), event(6), event(8), heard("heartbeat", cursor="e-6")]

    assert found(*entries) == [Kind.BACK]


def test_heartbeat_is_held_against_each_channel() -> None:
    entries = [*begun("e-4"), *begun("e-4", "b", 2), event(6)]

    assert found(*entries, heard("heartbeat", cursor="e-6")) == [Kind.UNTRUE]


def test_heartbeat_of_another_epoch_is_found() -> None:
    assert found(*begun("e-4"), heard("heartbeat", cursor="f-20")) == [Kind.EPOCH]


def test_heartbeat_does_not_concern_plain_channels() -> None:
    assert found(*begun_plain(), heard("heartbeat", cursor="e-8")) == []


def again(cursor: str) -> list[Entry]:
    return [Asked("subscribe", 9, "a"), subscribed(9, "a", cursor, resumed=False)]


def test_second_answer_must_be_true_as_well() -> None:
    assert found(*begun("e-4"), event(6), *again("e-7"), event(8)) == []
    assert found(*begun("e-4"), event(6), *again("e-8"), event(8)) == [Kind.UNTRUE]
    assert found(*begun("e-4"), event(6), *again("e-5"), event(8)) == [Kind.BACK]


def test_resumed_answer_says_the_cursor_given() -> None:
    assert found(*resumed("e-4", "e-9"), event(6)) == [Kind.NOT_GIVEN]
    nothing = [Asked("subscribe", 1, "a"), subscribed(1, "a", "e-4", resumed=True)]
    assert found(*nothing) == [Kind.NOT_GIVEN]


# Gaps.


def test_gap_without_a_reason_is_found() -> None:
    assert found(*begun("e-4"), gap("expired", "e-8")) == [Kind.NEEDLESS]


def test_gap_that_goes_back_is_found() -> None:
    entries = [*begun("e-4"), event(6), gap("expired", "e-5"), event(8)]

    assert found(*entries, rules=gaps("expired")) == [Kind.BACK]


def not_resumed(cursor: str | None) -> list[Entry]:
    return [
        Asked("subscribe", 1, "a", cursor, True),
        subscribed(1, "a", "e-8", resumed=False),
    ]


def test_who_could_not_resume_is_told_a_gap_first() -> None:
    rules = gaps("expired")
    told = gap("expired", "e-8")

    assert found(*not_resumed("e-4"), told, event(10), rules=rules) == []
    assert found(*not_resumed("e-4"), event(10), rules=rules) == [Kind.NO_GAP]


def test_who_comes_back_without_a_cursor_is_told_that_nothing_is_kept() -> None:
    assert found(*not_resumed(None), gap("not_kept", "e-8"), event(10)) == []
    assert found(*not_resumed(None), event(10)) == [Kind.NO_GAP]
    assert found(*not_resumed("e-4"), gap("not_kept", "e-8")) == [Kind.NEEDLESS]


def test_gap_for_one_event_covers_no_other() -> None:
    right = [*begun("e-4"), gap("too_large", "e-6"), event(8)]
    wrong = [*begun("e-4"), gap("too_large", "e-8"), event(10)]

    assert found(*right, rules=gaps("too_large")) == []
    assert found(*wrong, rules=gaps("too_large")) == [Kind.LOST]


# Requests.


def test_answers_are_one_for_each_request() -> None:
    ping = Asked("ping", 5)
    pong = heard("pong", id=5)

    assert found(ping, pong) == []
    assert found(ping, pong, pong) == [Kind.ANSWERED_ODDLY]
    assert found(ping, heard("unsubscribed", channel="a", id=5)) == [
        Kind.ANSWERED_ODDLY
    ]
    assert found(pong) == [Kind.ANSWERED_ODDLY]


def test_subscribed_without_an_id_is_found() -> None:
    bare = heard("subscribed", channel="a", durable=True, resumed=False, cursor="e-1")

    assert found(bare) == [Kind.ANSWERED_ODDLY]


def test_subscribe_is_answered_before_the_channel_is_left() -> None:
    asked = [Asked("subscribe", 1, "a"), Asked("unsubscribe", 2, "a")]
    left = heard("unsubscribed", channel="a", reason="requested", id=2)
    refused = heard("error", channel="a", id=1, code="unavailable")

    assert found(*asked, left) == [Kind.UNANSWERED]
    assert found(*asked, refused, left) == []


def test_request_of_another_channel_may_still_wait() -> None:
    asked = [Asked("subscribe", 1, "b"), Asked("unsubscribe", 2, "a")]

    assert found(*asked, heard("unsubscribed", channel="a", id=2)) == []


def test_request_may_be_cut_off_but_not_forgotten() -> None:
    history = [Opened(), Asked("ping", 1)]

    assert check([*history, Closed()], JOURNAL, PLAIN) == []
    [finding] = check([*history, Closed(complete=True)], JOURNAL, PLAIN)
    assert finding.kind is Kind.UNANSWERED


def test_words_about_a_channel_that_was_left_are_found() -> None:
    left = heard("unsubscribed", channel="a", reason="revoked")

    assert found(event(6)) == [Kind.STRAY]
    assert found(gap("expired", "e-6")) == [Kind.STRAY]
    assert found(*begun("e-4"), left, event(6)) == [Kind.STRAY]


def test_error_without_an_id_ends_the_subscription() -> None:
    refused = heard("error", channel="a", code="unavailable")

    assert found(*begun("e-4"), refused, event(6)) == [Kind.STRAY]


def test_durable_channel_may_be_plain_only_while_the_schema_is_away() -> None:
    entries = [
        Asked("subscribe", 1, "a"),
        heard("subscribed", channel="a", id=1, durable=False, resumed=False),
        heard("notification", channel="a", data={"n": 6}),
        gap("not_kept"),
    ]

    assert found(*entries, rules=Rules(removed=True)) == []
    assert found(*entries) == [Kind.ANSWERED_ODDLY]


# Plain channels.


def test_plain_events_come_one_after_another() -> None:
    assert found(*begun_plain(35.0), plain(4), plain(5)) == []
    assert found(*begun_plain(35.0), plain(4), plain(6)) == [Kind.LOST]
    assert found(*begun_plain(35.0), plain(4), plain(4)) == [Kind.TWICE]
    assert found(*begun_plain(35.0), plain(4), plain(3)) == [Kind.TWICE]
    assert found(*begun_plain(35.0), plain(21)) == [Kind.FOREIGN]


def test_plain_run_may_begin_early_and_not_late() -> None:
    assert found(*begun_plain(35.0), plain(3)) == []
    assert found(*begun_plain(35.0), plain(5)) == [Kind.LOST]


def test_gap_stands_for_plain_events() -> None:
    assert found(*begun_plain(35.0), plain(4), gap("slow", None, "p"), plain(9)) == []
    assert found(*begun_plain(35.0), gap("slow", None, "p"), plain(9)) == []


def test_gap_does_not_stand_for_what_it_says_is_complete() -> None:
    def told(since: float) -> Heard:
        return heard("gap", channel="p", reason="slow", since=since)

    assert found(*begun_plain(35.0), plain(4), told(50.5), plain(7)) == []
    assert found(*begun_plain(35.0), plain(4), told(51.5), plain(7)) == [Kind.LOST]
    assert found(*begun_plain(35.0), plain(4), told(51.5), told(40.0), plain(7)) == []


def test_who_comes_back_to_a_plain_channel_is_told_a_gap() -> None:
    entries = begun_plain(35.0, resume=True)

    assert found(*entries, gap("not_kept", None, "p"), plain(9)) == []
    assert found(*entries, plain(4)) == [Kind.NO_GAP]


def test_findings_are_summed_up_with_examples() -> None:
    findings = [Finding(Kind.LOST, str(number)) for number in range(3)]

    assert summary([*findings, Finding(Kind.TWICE, "x")]) == [
        "3 × lost in silence: 0 | 1",
        "1 × at or before a position that had been said: x",
    ]
