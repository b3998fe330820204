"""The temporary files of a run: in one folder, and none of them left at its end."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["TemporaryFiles", "nothing_left"]

ALLOWED = (f"pgbridge-{os.getuid()}", "pytest-of-", ".lockfile")
"""What begins like this stays by design: the default of BRIDGE_RUN_FOLDER, what
pytest keeps, the lock of the embedded PostgreSQL."""


class TemporaryFiles:
    """From here on this process and its children have theirs in a new folder."""

    def __init__(self) -> None:
        self._before = os.environ.get("TMPDIR")
        self.folder = Path(tempfile.mkdtemp(prefix="pgbridge-"))
        # PostgreSQL may run as another user.
        self.folder.chmod(0o755)
        self._use(str(self.folder))

    def remove(self) -> list[str]:
        """Go back to where they were before; returns what is still there."""
        self._use(self._before)
        left = sorted(
            file.name for file in self.folder.iterdir() if not _is_allowed(file.name)
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


def _is_allowed(name: str) -> bool:
    return name.startswith(ALLOWED)
