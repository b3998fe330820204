"""What a page of the attack keeps must be what the shipped client keeps."""

from __future__ import annotations

from typing import Any

from support.attack.memory import Memory


def memory(*messages: dict[str, Any]) -> Memory:
    found = Memory()
    for message in messages:
        found.hear(message)
    return found


def subscribed(channel: str = "a", *, durable: bool = True, **fields: Any) -> Any:
    fields = {"resumed": False, **fields}
    return {"type": "subscribed", "channel": channel, "durable": durable, **fields}


def event(cursor: str, number: int = 1) -> dict[str, Any]:
    data = {"n": number}
    return {"type": "notification", "channel": "a", "cursor": cursor, "data": data}


def test_cursor_is_that_of_the_last_word_that_has_one() -> None:
    assert memory(subscribed(cursor="e-1")).cursors == {"a": "e-1"}
    assert memory(subscribed(cursor="e-1"), event("e-2")).cursors == {"a": "e-2"}
    gap = {"type": "gap", "channel": "a", "cursor": "e-9"}
    assert memory(subscribed(cursor="e-1"), gap).cursors == {"a": "e-9"}


def test_answer_of_who_resumes_does_not_move_the_cursor() -> None:
    found = memory(subscribed(cursor="e-1"), subscribed(cursor="e-9", resumed=True))

    assert found.cursors == {"a": "e-1"}


def test_heartbeat_moves_all_durable_channels() -> None:
    found = memory(
        subscribed(cursor="e-1"),
        subscribed("b", cursor="e-1"),
        subscribed("p", durable=False),
        {"type": "heartbeat", "cursor": "e-5"},
        {"type": "heartbeat"},
    )

    assert found.cursors == {"a": "e-5", "b": "e-5"}


def test_heartbeat_does_not_move_what_was_left() -> None:
    left = {"type": "unsubscribed", "channel": "a"}
    heartbeat = {"type": "heartbeat", "cursor": "e-5"}

    assert memory(subscribed(cursor="e-1"), left, heartbeat).cursors == {"a": "e-1"}


def test_new_connection_keeps_cursors_alone() -> None:
    found = memory(subscribed(cursor="e-1"), event("e-2", 7))
    found.waiting[1] = "a"

    found.connect()

    assert found.cursors == {"a": "e-2"}
    assert found.known == {"a"}
    assert (found.live, found.waiting, found.numbers) == ({}, {}, {})


def test_answers_are_taken_off() -> None:
    found = Memory()
    found.waiting = {1: "a", 2: "b", 3: "a"}

    found.hear({"type": "error", "id": 2, "code": "unavailable"})
    found.hear({"type": "unsubscribed", "channel": "a", "id": 3})

    assert found.waiting == {}
    assert found.refused == {"b"}
