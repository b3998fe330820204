"""What is remembered of a journal, by one worker and by others."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from bridge.postgres.witness import MAX_EPOCHS, Seen, Witness

ID = "cluster/1/2"


def witness(folder: Path | None, address: str = "db:5432/site") -> Witness:
    return Witness(folder, address)


def the_file(folder: Path) -> Path:
    [path] = folder.iterdir()
    return path


def test_nothing_was_seen_at_first(tmp_path: Path) -> None:
    assert witness(tmp_path).last(ID) is None


def test_other_workers_know_what_one_has_seen(tmp_path: Path) -> None:
    one = witness(tmp_path)
    one.begin(ID, "e", 3, None)
    one.note(ID, "e", 5, (50, 500))
    one.close()

    assert witness(tmp_path).last(ID) == Seen(("e",), 5, (50, 500))
    assert witness(tmp_path).last("cluster/1/3") is None
    assert witness(tmp_path, "copy:5432/site").last(ID) is None


def test_without_a_folder_only_the_process_knows() -> None:
    one = witness(None)
    one.begin(ID, "e", 3, (30, 300))
    one.note(ID, "e", 4, (40, 400))

    assert one.last(ID) == Seen(("e",), 4, (40, 400))
    assert witness(None).last(ID) is None


def test_worker_that_is_late_takes_nothing_back(tmp_path: Path) -> None:
    fast, slow = witness(tmp_path), witness(tmp_path)
    for one in (fast, slow):
        one.begin(ID, "e", 1, (10, 100))
    fast.note(ID, "e", 9, (90, 900))

    slow.note(ID, "e", 5, (50, 500))

    assert witness(tmp_path).last(ID) == Seen(("e",), 9, (90, 900))
    assert slow.last(ID) == Seen(("e",), 9, (90, 900))


def test_worker_that_is_late_does_not_bring_an_old_epoch_back(tmp_path: Path) -> None:
    fast, slow = witness(tmp_path), witness(tmp_path)
    for one in (fast, slow):
        one.begin(ID, "e", 1, (10, 100))
    fast.begin(ID, "f", 1, None)

    slow.note(ID, "e", 7, (70, 700))
    slow.begin(ID, "e", 8, (80, 800))

    assert slow.last(ID) == Seen(("e", "f"), 1, None)
    assert witness(tmp_path).last(ID) == Seen(("e", "f"), 1, None)


def test_entry_that_was_seen_is_kept_at_its_position(tmp_path: Path) -> None:
    one = witness(tmp_path)
    one.begin(ID, "e", 1, (10, 100))
    one.begin(ID, "e", 1, None)

    assert one.last(ID) == Seen(("e",), 1, (10, 100))


def test_only_an_epoch_that_has_begun_is_noted(tmp_path: Path) -> None:
    one = witness(tmp_path)
    one.note(ID, "e", 1, (10, 100))
    one.begin(ID, "e", 1, (10, 100))
    one.note(ID, "f", 2, (20, 200))

    assert one.last(ID) == Seen(("e",), 1, (10, 100))


def test_so_many_epochs_are_kept(tmp_path: Path) -> None:
    one = witness(tmp_path)
    for number in range(MAX_EPOCHS + 4):
        one.begin(ID, f"{number:010}", number, (1 << 40, 1 << 60))

    last = witness(tmp_path).last(ID)
    assert last is not None
    assert last.epochs == tuple(f"{n:010}" for n in range(4, MAX_EPOCHS + 4))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"epochs": 1, "position": "x", "entry": []}',
        '{"epochs": [], "position": 1, "entry": null}',
        '{"epochs": ["e"], "position": 9223372036854775808, "entry": null}',
        '{"epochs": ["e"], "position": 1, "entry": [1]}',
    ],
)
def test_file_that_makes_no_sense_is_written_anew(tmp_path: Path, text: str) -> None:
    one = witness(tmp_path)
    one.begin(ID, "e", 1, (10, 100))
    the_file(tmp_path).write_text(text)

    assert witness(tmp_path).last(ID) is None
    one.note(ID, "e", 2, (20, 200))
    assert witness(tmp_path).last(ID) == Seen(("e",), 2, (20, 200))


def test_file_that_is_gone_is_made_again(tmp_path: Path) -> None:
    one = witness(tmp_path)
    one.begin(ID, "e", 1, (10, 100))
    the_file(tmp_path).unlink()

    one.begin(ID, "e", 1, (10, 100))

    assert witness(tmp_path).last(ID) == Seen(("e",), 1, (10, 100))


def test_lock_of_another_is_not_waited_for(tmp_path: Path) -> None:
    one = witness(tmp_path)
    one.begin(ID, "e", 1, (10, 100))
    with the_file(tmp_path).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one.note(ID, "e", 2, (20, 200))
        assert witness(tmp_path).last(ID) == Seen(("e",), 1, (10, 100))

    one.note(ID, "e", 3, (30, 300))
    assert witness(tmp_path).last(ID) == Seen(("e",), 3, (30, 300))


def test_folder_that_cannot_be_written_leaves_the_process(tmp_path: Path) -> None:
    one = witness(tmp_path / "gone")
    one.begin(ID, "e", 1, (10, 100))

    assert one.last(ID) == Seen(("e",), 1, (10, 100))


def test_file_is_closed_to_others(tmp_path: Path) -> None:
    witness(tmp_path).begin(ID, "e", 1, None)

    assert os.stat(the_file(tmp_path)).st_mode & 0o777 == 0o600
