"""PgBouncer in front of a server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from support.waiting import free_port, wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
ignore_startup_parameters = extra_float_digits,options
"""


class PgBouncer:
    """One running pooler.

    Args:
        port: the server's.
        mode: session or transaction.
    """

    def __init__(self, port: int, mode: str) -> None:
        assert PROGRAM is not None
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="pgbridge-test-"))
        ini = self._folder / "pgbouncer.ini"
        users = self._folder / "users"
        users.write_text('"postgres" ""\n')
        ini.write_text(
            CONFIGURATION.format(server=port, port=self.port, mode=mode, users=users)
        )
        user = None
        if os.getuid() == 0:  # it refuses to run as root
            user = "postgres"
            shutil.chown(self._folder, user)
        self._process = subprocess.Popen(
            [PROGRAM, "-q", str(ini)], user=user, cwd="/", stderr=subprocess.DEVNULL
        )
        wait_until(self._is_open)

    def _is_open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)
