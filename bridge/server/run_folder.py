"""Where the workers of a host leave what the others and the operator ask for.

Each worker has two files in one folder that belongs to its user alone: its
numbers, written once a second, and a Unix socket on which it says who its
clients are. Names are ``MASTER-WORKER.json`` and ``.sock``, with process
numbers, so that several deployments can share the folder. What was seen of
their journals is there as well (`bridge.postgres.witness`).
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bridge.values.errors import SettingsError

__all__ = ["ENDED", "RunFolder"]

ENDED = "ended"
"""In the place of a worker's number: what all that have ended had counted."""

CONNECT_TIMEOUT = 2.0
"""Seconds; a worker that is frozen does not answer."""

Numbers = dict[str, float]


class RunFolder:
    """The folder of this user, on this host.

    Args:
        path: None: ``pgbridge-UID`` among the temporary files.

    Raises:
        SettingsError: it cannot be had, or others could write there.
    """

    def __init__(self, path: str | None) -> None:
        if path is None:
            path = str(Path(tempfile.gettempdir()) / f"pgbridge-{os.getuid()}")
        self.path = Path(path)
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            found = self.path.lstat()
        except OSError as exc:
            raise SettingsError(
                [f"BRIDGE_RUN_FOLDER={path!r} cannot be used: {exc.strerror}"]
            ) from exc
        if (
            found.st_uid != os.getuid()
            or found.st_mode & 0o077
            or not self.path.is_dir()
        ):
            raise SettingsError(
                [
                    f"BRIDGE_RUN_FOLDER={path!r} must be a folder that belongs to this "
                    "user and is closed to others (mode 0700)"
                ]
            )

    def socket_path(self, master: int, worker: int) -> str:
        """Return where a worker listens."""
        return str(self.path / f"{master}-{worker}.sock")

    def write(self, master: int, worker: int | str, numbers: Numbers) -> None:
        """Leave a worker's numbers."""
        target = self.path / f"{master}-{worker}.json"
        fresh = target.with_suffix(f".{os.getpid()}.new")
        fresh.write_text(json.dumps(numbers))
        fresh.replace(target)

    def read(self, master: int) -> dict[str, Numbers]:
        """Return the numbers of a deployment's workers, by process number."""
        found = {}
        for file in self.path.glob(f"{master}-*.json"):
            with suppress(OSError, ValueError):
                found[file.stem.partition("-")[2]] = json.loads(file.read_text())
        return found

    def end(self, master: int, worker: int, totals: Numbers) -> None:
        """A worker has ended: keep its totals, forget the rest.

        Args:
            totals: those of its numbers that only grow.
        """
        ended = self.read(master).get(ENDED, {})
        for name, value in totals.items():
            ended[name] = ended.get(name, 0) + value
        self.write(master, ENDED, ended)
        for kind in ("json", "sock"):
            with suppress(OSError):
                (self.path / f"{master}-{worker}.{kind}").unlink()

    def tidy(self) -> None:
        """Remove what masters have left that are gone."""
        for file in self.path.iterdir():
            master = file.name.partition("-")[0]
            if master.isdigit() and not _is_alive(int(master)):
                with suppress(OSError):
                    file.unlink()

    def clients(self) -> Iterator[dict[str, Any]]:
        """Ask every worker of every deployment who its clients are."""
        for file in sorted(self.path.glob("*-*.sock")):
            worker = file.stem.partition("-")[2]
            with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(CONNECT_TIMEOUT)
                sock.connect(str(file))
                with sock.makefile(encoding="utf-8") as lines:
                    for line in lines:
                        yield {"worker": int(worker), **json.loads(line)}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
