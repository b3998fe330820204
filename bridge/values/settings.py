"""Every setting: its variable, default, unit and meaning.

Settings come from the environment alone, so that Gunicorn's `raw_env`,
systemd and containers all work. docs/settings.md and the operator's page in
gunicorn.conf.py are generated from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.values import parsers as parse
from bridge.values.environment import read, setting
from bridge.values.errors import SettingsError

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The effective settings of a process."""

    database_url: str | None = setting(
        parse.database_url,
        None,
        shown="–",
        says="Where PostgreSQL is: a libpq URL or connection string. Listening "
        "needs a session of its own: not a pooler in transaction mode.",
        also="DATABASE_URL",
        secret=True,
    )
    database_password_file: str | None = setting(
        str,
        None,
        shown="–",
        says="A file that holds the password alone; read anew at each connection.",
    )
    public_channels: tuple[str, ...] = setting(
        parse.names,
        (),
        shown="empty",
        says="Channel patterns open to everybody, separated by commas; `*` stands "
        "for any run of characters. Empty: none is.",
    )
    access: str | None = setting(
        parse.dotted_path,
        None,
        shown="empty",
        says="Dotted path of the policy that decides about every other channel. "
        "Empty: they are closed.",
    )
    token_keys_file: str | None = setting(
        str,
        None,
        shown="–",
        says="For the signed-token policy: a JSON file with the keys (docs/access.md).",
    )
    token_audience: str | None = setting(
        str,
        None,
        shown="–",
        says="For the signed-token policy: the `aud` that a token must have. "
        "Not set: a token must have none.",
    )
    token_cookie: str | None = setting(
        str,
        None,
        shown="–",
        says="For the signed-token policy: the cookie that carries the token. "
        "Not set: only the Authorization header and `authenticate` do.",
    )
    access_timeout: float = setting(
        parse.seconds(0.1, 60),
        5.0,
        shown="5 s",
        says="How long the policy may take for one answer.",
    )
    access_threads: int = setting(
        parse.whole(1, 100, "threads"),
        4,
        shown="4",
        says="Native threads of a worker for each kind of question to the policy.",
    )
    max_access_checks: int = setting(
        parse.whole(1, 10_000, "checks"),
        64,
        shown="64",
        says="Questions of a kind to the policy that may wait in a worker; further "
        "ones are answered `unavailable`.",
    )
    allowed_origins: tuple[str, ...] = setting(
        parse.origins,
        (),
        shown="empty",
        says="Origins of pages that may connect beside those of the site itself, "
        "separated by commas. Empty: only the site's own.",
    )
    allowed_hosts: tuple[str, ...] = setting(
        parse.hosts,
        (),
        shown="empty",
        says="Names that the Host header may carry, against DNS rebinding. Empty: any.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        parse.proxies,
        (),
        shown="empty",
        says="Networks, and `unix` for the Unix socket, whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed. Empty: none.",
    )
    max_connections: int = setting(
        parse.whole(0, 1_000_000, "connections"),
        0,
        shown="worker_connections − 100",
        says="Clients of a worker; further ones get 503. 0, and at most: Gunicorn's "
        "worker_connections less 100, which are for everything that is no client.",
    )
    max_channels: int = setting(
        parse.whole(1, 100_000, "channels"),
        128,
        shown="128",
        says="Channels of one client.",
    )
    max_connections_per_address: int = setting(
        parse.whole(0, 1_000_000, "connections"),
        0,
        shown="0",
        says="Clients of a worker from one IPv4 address or one IPv6 /64; further "
        "ones get 503. 0: any number. Behind a proxy it needs "
        "BRIDGE_TRUSTED_PROXIES.",
    )
    max_subscribes_per_second: float = setting(
        parse.number(0, 1_000_000, "subscribes"),
        50.0,
        shown="50",
        says="Subscribes of one client, after a burst of 256; further ones are "
        "answered `rate_limited`. 0: any number.",
    )
    max_message_rate: float = setting(
        parse.number(0, 1_000_000, "messages"),
        50.0,
        shown="50",
        says="Messages and control frames of one client a second, after a burst of "
        "500, or of twice BRIDGE_MAX_CHANNELS; further ones are read later. 0: any "
        "number.",
    )
    max_request_rate_per_address: float = setting(
        parse.number(0, 1_000_000, "requests"),
        0.0,
        shown="0",
        says="HTTP requests, handshakes among them, of one IPv4 address or one IPv6 "
        "/64 a second to a worker, after a burst of ten seconds' worth; further ones "
        "wait, for 10 s at most, or get 503. 0: any number. Behind a proxy it needs "
        "BRIDGE_TRUSTED_PROXIES.",
    )
    max_errors: int = setting(
        parse.whole(0, 1_000_000, "errors"),
        20,
        shown="20",
        says="Mistakes of one client before it is closed with 4500. 0: any number.",
    )
    max_message_bytes: int = setting(
        parse.whole(1024, 1 << 24, "bytes"),
        64 * 1024,
        shown="65536 bytes",
        says="Largest message taken from a client.",
    )
    backlog_bytes: int = setting(
        parse.whole(16 * 1024, 1 << 30, "bytes"),
        1024 * 1024,
        shown="1048576 bytes",
        says="What is kept for a client that does not keep up; beyond it "
        "notifications are dropped and a `gap` is told.",
    )
    max_payload_bytes: int = setting(
        parse.whole(1024, 1 << 28, "bytes"),
        4 * 1024 * 1024,
        shown="4194304 bytes",
        says="Largest payload of a durable channel that is delivered; clients are "
        "told `gap {too_large}` in the place of a larger one.",
    )
    recent_bytes: int = setting(
        parse.whole(0, 1 << 30, "bytes"),
        16 * 1024 * 1024,
        shown="16777216 bytes",
        says="Newest entries of durable channels that a worker keeps in memory, "
        "for clients that come back. 0: they are read from the table.",
    )
    send_buffer_bytes: int = setting(
        parse.whole(0, 1 << 30, "bytes"),
        256 * 1024,
        shown="262144 bytes",
        says="The kernel's send buffer of a connection; without a bound it holds "
        "megabytes more for a slow client. 0: the system's default.",
    )
    handshake_timeout: float = setting(
        parse.seconds(0.5, 600),
        10.0,
        shown="10 s",
        says="For the head of a connection's first request, and for a TLS handshake.",
    )
    authenticate_timeout: float = setting(
        parse.seconds(0.1, 600),
        10.0,
        shown="10 s",
        says="How long a client whose channels need a token may take to send it.",
    )
    write_timeout: float = setting(
        parse.seconds(1, 3600),
        30.0,
        shown="30 s",
        says="A client that takes no byte for so long while something waits for "
        "it is dropped.",
    )
    heartbeat_interval: float = setting(
        parse.seconds(0.5, 3600),
        25.0,
        shown="25 s",
        says="Between two heartbeats to a client; below the idle time-outs of "
        "proxies, which are often 30 or 60 s.",
    )
    metrics_peers: tuple[str, ...] = setting(
        parse.proxies,
        ("127.0.0.0/8", "::1/128", "unix"),
        shown="127.0.0.0/8,::1/128,unix",
        says="Networks, and `unix` for the Unix socket, that may read /metrics; what a "
        "proxy passes on may not.",
    )
    run_folder: str | None = setting(
        parse.socket_folder,
        None,
        shown="pgbridge-UID in /tmp",
        says="Where workers leave their numbers, and what they have seen of the "
        "journal, and answer `pgbridge clients`; closed to other users.",
    )
    drain_window: float = setting(
        parse.seconds(0, 3600),
        20.0,
        shown="20 s",
        says="Over which a stopping worker closes its clients, 200 a second or "
        "faster. At most graceful_timeout less 4 s.",
    )
    max_listeners: int = setting(
        parse.whole(0, 100, "sessions"),
        0,
        shown="max(1, 4 // workers)",
        says="Sessions of a worker that LISTEN. Each one that listens makes every "
        "NOTIFY of the cluster slower. 0: 4 shared by the host's workers.",
    )
    tripwire: bool = setting(
        parse.switch,
        True,
        shown="on",
        says="Whether durable channels are listened to as well, for publishers "
        "that go past the journal with NOTIFY.",
    )
    max_listen_channels: int = setting(
        parse.whole(1, 1_000_000, "channels"),
        10_000,
        shown="10000",
        says="Channels that a worker listens to; further ones are answered "
        "`unavailable`.",
    )
    unlisten_delay: float = setting(
        parse.seconds(0, 3600),
        30.0,
        shown="30 s",
        says="From the last subscriber's leaving to UNLISTEN.",
    )
    health_interval: float = setting(
        parse.seconds(0.1, 3600),
        5.0,
        shown="5 s",
        says="Between two round trips on a session that listens.",
    )
    health_timeout: float = setting(
        parse.seconds(0.1, 3600),
        5.0,
        shown="5 s",
        says="Within which PostgreSQL must answer a round trip, or a connection "
        "must be made.",
    )

    @property
    def required_database_url(self) -> str:
        """`database_url`, where nothing works without it.

        Raises:
            SettingsError: it is not set.
        """
        if self.database_url is None:
            raise SettingsError(
                [
                    "BRIDGE_DATABASE_URL is not set (nor DATABASE_URL): set it to "
                    "postgresql://user@host/database"
                ]
            )
        return self.database_url

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str]
    ) -> tuple[Settings, dict[str, str], list[str]]:
        """Read the settings.

        Returns:
            The settings; for each field that was set, the variable it came
            from; and warnings, one sentence each.

        Raises:
            SettingsError: with every problem at once.
        """
        values, sources, warnings = read(cls, environ)
        return cls(**values), sources, warnings
