"""The judge of the faults: it must not find anybody innocent who is not."""

from __future__ import annotations

from faults.account import Entry, Published, Received, Subscribed, Told, Verdict, judge

# Event n of writer "a" begins at second 10 n and has committed a second later.


def published(*numbers: int, writer: str = "a") -> list[Published]:
    return [
        Published("c", writer, number, 10.0 * number, 10.0 * number + 1)
        for number in numbers
    ]


def received(number: int, at: float | None = None, writer: str = "a") -> Received:
    at = 10.0 * number + 2 if at is None else at
    return Received(at, writer, number, 10.0 * number)


def kept(number: int, position: int, epoch: str = "e") -> Received:
    return Received(10.0 * number + 2, "a", number, 10.0 * number, (epoch, position))


def plain(events: list[Published], *entries: Entry) -> Verdict:
    return judge(events, [Subscribed(0.0), *entries], kept=False)


def durable(events: list[Published], *entries: Entry) -> Verdict:
    return judge(events, [Subscribed(0.0), *entries], kept=True)


def counts(verdict: Verdict) -> dict[str, int]:
    """What is not 0, beside how many events were due."""
    names = ("lost", "twice", "disorder", "uncommitted", "gaps", "needless")
    return {name: getattr(verdict, name) for name in names if getattr(verdict, name)}


def test_everything_has_arrived() -> None:
    verdict = plain(published(1, 2), received(1), received(2))

    assert verdict == Verdict(events=2)
    assert verdict.wrong == 0


def test_event_that_is_missing_is_lost() -> None:
    verdict = plain(published(1, 2, 3), received(1), received(3))

    assert counts(verdict) == {"lost": 1}
    assert verdict.events == 3
    assert verdict.wrong == 1
    assert "number=2" in verdict.examples[0]


def test_event_that_never_came_at_the_end_is_lost() -> None:
    assert counts(plain(published(1, 2), received(1))) == {"lost": 1}


def test_gap_in_its_place_tells_of_it() -> None:
    verdict = plain(published(1, 2, 3), received(1), Told(25.0, 15.0), received(3))

    assert counts(verdict) == {"gaps": 1}


def test_gap_before_the_commit_does_not() -> None:
    verdict = plain(published(1, 2, 3), received(1), Told(19.0, 5.0), received(3))

    assert counts(verdict) == {"lost": 1, "gaps": 1, "needless": 1}


def test_gap_that_says_that_the_commit_is_complete_does_not() -> None:
    verdict = plain(published(1, 2, 3), received(1), Told(25.0, 22.0), received(3))

    assert counts(verdict) == {"lost": 1, "gaps": 1, "needless": 1}


def test_gap_without_a_time_tells_of_all_since_the_last_event() -> None:
    verdict = plain(published(1, 2, 3, 4), received(1), Told(35.0), received(4))

    assert counts(verdict) == {"gaps": 1}


def test_gap_in_another_place_does_not() -> None:
    late = plain(published(1, 2, 3), received(1), received(3), Told(35.0, 5.0))
    early = plain(published(1, 2, 3), Told(35.0, 5.0), received(1), received(3))

    assert counts(late) == counts(early) == {"lost": 1, "gaps": 1, "needless": 1}


def test_places_are_by_writer() -> None:
    events = published(1, 2) + published(1, writer="b")

    verdict = plain(events, received(1), Told(25.0), received(1, 26.0, writer="b"))

    assert counts(verdict) == {"gaps": 1}


def test_gap_for_nothing_is_counted() -> None:
    verdict = plain(published(1, 2), received(1), Told(15.0), received(2))

    assert counts(verdict) == {"gaps": 1, "needless": 1}
    assert verdict.wrong == 0


def test_what_began_before_the_subscription_need_not_arrive() -> None:
    verdict = judge(
        published(1, 2, 3), [Subscribed(20.5), received(2), received(3)], kept=False
    )

    assert verdict == Verdict(events=1)


def test_nothing_is_due_to_who_was_never_subscribed() -> None:
    assert judge(published(1), [], kept=False) == Verdict()


def test_commit_of_unknown_outcome_may_arrive_or_not() -> None:
    unknown = [Published("c", "a", 2, 20.0, None)]

    without = plain(published(1) + unknown, received(1))
    with_it = plain(published(1) + unknown, received(1), received(2))

    assert without == with_it == Verdict(events=1)


def test_gap_may_tell_of_an_unknown_outcome_and_count_as_needless() -> None:
    unknown = [Published("c", "a", 2, 20.0, None)]

    verdict = plain(published(1) + unknown, received(1), Told(25.0, 15.0))

    assert counts(verdict) == {"gaps": 1, "needless": 1}


def test_what_was_rolled_back_and_arrives_is_found() -> None:
    assert counts(plain(published(1), received(1), received(2))) == {"uncommitted": 1}


def test_event_that_comes_again_is_twice() -> None:
    events = published(1, 2)

    assert counts(plain(events, received(1), received(2), received(1))) == {"twice": 1}
    assert counts(durable(events, kept(1, 1), kept(2, 2), kept(1, 3))) == {"twice": 1}


def test_another_connection_may_repeat_on_plain_channels_alone() -> None:
    events = published(1, 2)
    again = Subscribed(15.0)

    assert not counts(plain(events, received(1), again, received(1), received(2)))
    assert counts(durable(events, kept(1, 1), again, kept(1, 1), kept(2, 2))) == {
        "twice": 1
    }


def test_events_of_one_writer_ascend() -> None:
    assert counts(plain(published(1, 2), received(2), received(1))) == {"disorder": 1}


def test_what_had_committed_before_another_began_comes_first() -> None:
    events = published(1) + published(2, writer="b")

    verdict = plain(events, received(2, writer="b"), received(1))

    assert counts(verdict) == {"disorder": 1}


def test_overlapping_transactions_come_in_any_order() -> None:
    events = [Published("c", "a", 1, 10.0, 30.0), Published("c", "b", 1, 20.0, 40.0)]
    first, second = Received(41.0, "a", 1, 10.0), Received(41.0, "b", 1, 20.0)

    assert not counts(plain(events, first, second))
    assert not counts(plain(events, second, first))


def test_positions_ascend_within_an_epoch() -> None:
    events = published(1, 2)

    assert not counts(durable(events, kept(1, 7), kept(2, 8)))
    assert not counts(durable(events, kept(1, 7), kept(2, 1, "f")))
    assert counts(durable(events, kept(1, 7), kept(2, 7))) == {"disorder": 1}
    assert counts(durable(events, kept(1, 7), kept(2, 6))) == {"disorder": 1}


def test_another_epoch_may_repeat_only_after_a_gap() -> None:
    events = published(1, 2)
    first = kept(1, 7), kept(2, 8)
    again = kept(1, 7, "f"), kept(2, 8, "f")

    assert not counts(durable(events, *first, Told(35.0), *again)).keys() - {
        "gaps",
        "needless",
    }
    assert counts(durable(events, *first, *again)) == {"twice": 2}
    assert counts(durable(events, *first, Told(35.0), *first)).keys() > {"twice"}
    assert counts(durable(events, *first, Told(35.0), *again, again[0])) == {
        "twice": 1,
        "gaps": 1,
        "needless": 1,
    }


def test_gap_covers_what_is_missing_before_what_comes_again() -> None:
    entries = kept(1, 7), kept(2, 8), Told(35.0), kept(2, 8, "f"), kept(4, 9, "f")

    assert counts(durable(published(1, 2, 3, 4), *entries)) == {"gaps": 1}


def test_verdicts_add_up_and_keep_some_examples() -> None:
    one = plain(published(1, 2), received(1))
    others = [plain(published(number)) for number in range(3, 12)]

    total = sum([one, one, *others], Verdict())

    assert (total.events, total.lost) == (13, 11)
    assert "number=2" in total.examples[0]
    assert "number=3" in total.examples[1]
    assert len(total.examples) == 5
