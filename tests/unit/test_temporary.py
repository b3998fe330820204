"""The check that a run leaves no temporary files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.temporary import TemporaryFiles, nothing_left


def test_what_is_left_is_named_and_removed() -> None:
    with pytest.raises(AssertionError, match=r"pgbridge-forgotten"):
        leave_a_folder()


@nothing_left()
def leave_a_folder() -> None:
    tempfile.mkdtemp(prefix="pgbridge-forgotten-")


def test_children_have_theirs_in_the_same_folder() -> None:
    files = TemporaryFiles()
    script = "import tempfile; print(tempfile.mkdtemp())"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    made = Path(run.stdout.strip())

    assert made.parent == files.folder
    assert files.remove() == [made.name]
    assert not made.exists()


def test_afterwards_they_are_where_they_were() -> None:
    before = tempfile.gettempdir(), os.environ.get("TMPDIR")

    with nothing_left():
        assert tempfile.gettempdir() != before[0]

    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before


def test_default_run_folder_may_stay() -> None:
    with nothing_left():
        Path(tempfile.gettempdir(), f"pgbridge-{os.getuid()}").mkdir()
