"""The temporary files of a run: in one folder, and none of them left at its end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["TemporaryFiles", "nothing_left"]

OURS = ("pgbridge-", "tmp", "wgunicorn-")
"""How names of ours begin, of Python's own and Gunicorn's. What browsers and the
embedded PostgreSQL leave is removed as well, but is nobody's fault here."""

DEFAULT_RUN_FOLDER = f"pgbridge-{os.getuid()}"
"""It stays by design."""


class TemporaryFiles:
    """From here on this process and its children have theirs in a new folder."""

    def __init__(self) -> None:
        self._before = os.environ.get("TMPDIR")
        self.folder = Path(tempfile.mkdtemp(prefix="pgbridge-"))
        # PostgreSQL may run as another user.
        self.folder.chmod(0o755)
        self._use(str(self.folder))

    def remove(self) -> list[str]:
        """Remove the folder; returns what of ours was still in it."""
        self._use(self._before)
        left = sorted(
            file.name for file in self.folder.iterdir() if _is_ours(file.name)
        )
        shutil.rmtree(self.folder)
        return left

    def _use(self, folder: str | None) -> None:
        if folder is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = folder
        tempfile.tempdir = None  # it is remembered


@contextmanager
def nothing_left() -> Iterator[None]:
    """Run something that must remove all its temporary files.

    Raises:
        AssertionError: it has not.
    """
    files = TemporaryFiles()
    left: list[str] = []
    try:
        yield
    finally:
        left = files.remove()
    assert not left, f"left among the temporary files: {', '.join(left)}"


def _is_ours(name: str) -> bool:
    return name.startswith(OURS) and name != DEFAULT_RUN_FOLDER
