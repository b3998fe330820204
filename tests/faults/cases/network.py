"""The way between the bridge and PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from support.proxy import Proxy

from faults.fault import Fault
from faults.stage import Stage
from faults.witness import Witness

HOSTS = Path("/etc/hosts")
NAME = "database.test"
OLD_ADDRESS, NEW_ADDRESS = "127.0.0.2", "127.0.0.3"


class _Proxied(Fault):
    """The bridge goes through a proxy, writers do not."""

    def prepare(self, stage: Stage) -> None:
        self._proxy = Proxy(stage.cluster.port)
        stage.stack.callback(self._proxy.close)
        stage.url = stage.database.url.replace(
            f"port={stage.cluster.port}", f"port={self._proxy.port}"
        )

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return True


class Stall(_Proxied):
    name = "stalled"
    says = (
        "nothing passes between bridge and PostgreSQL for {fault.hold:g} s, "
        "without a reset"
    )
    hold = 30.0
    quick_hold = 4.0

    def settings(self) -> dict[str, object]:
        return {"health_interval": 0.5, "health_timeout": 1} if self.quick else {}

    def strike(self, stage: Stage) -> None:
        self._proxy.stall()

    def heal(self, stage: Stage) -> None:
        self._proxy.flow()


class Reset(_Proxied):
    name = "reset"
    says = "every connection between bridge and PostgreSQL is reset (RST)"

    def strike(self, stage: Stage) -> None:
        self._proxy.reset()


class Moved(Fault):
    """The server's name gets another address.

    The bridge sees a hosts file of its own, in a mount namespace.
    """

    name = "moved"
    says = (
        "PostgreSQL moves to another address, its name follows {fault.hold:g} s later, "
        "and the old address refuses"
    )
    hold = 3.0
    quick_hold = 0.3

    def impossible(self) -> str | None:
        with tempfile.NamedTemporaryFile() as file:
            done = subprocess.run(
                [*_own_hosts(file.name), "true"], capture_output=True, text=True
            )
        return done.stderr.strip() or None

    def prepare(self, stage: Stage) -> None:
        self._hosts = stage.cluster.folder.with_suffix(".hosts")
        stage.stack.callback(self._hosts.unlink)
        self._lead_to(OLD_ADDRESS)
        self._listen_at(stage, OLD_ADDRESS)
        stage.url = stage.database.url.replace("host=127.0.0.1", f"host={NAME}")

    def dress(self, stage: Stage) -> None:
        stage.server.command[:0] = _own_hosts(str(self._hosts))

    def strike(self, stage: Stage) -> None:
        self._listen_at(stage, NEW_ADDRESS)

    def heal(self, stage: Stage) -> None:
        self._lead_to(NEW_ADDRESS)

    def delays(self, stage: Stage, witness: Witness) -> bool:
        return True

    @staticmethod
    def _listen_at(stage: Stage, address: str) -> None:
        # Writers go to the first, which stays.
        stage.cluster.options["listen_addresses"] = f"127.0.0.1,{address}"
        stage.cluster.restart()

    def _lead_to(self, address: str) -> None:
        # The same file, since it is mounted.
        self._hosts.write_text(f"{HOSTS.read_text()}\n{address} {NAME}\n")


def _own_hosts(path: str) -> list[str]:
    """Return what runs a command with a hosts file of its own."""
    root = [] if os.getuid() == 0 else ["--map-root-user"]
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    return ["unshare", *root, "--mount", "sh", "-c", script, path]


FAULTS = (Stall, Reset, Moved)
