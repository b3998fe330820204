"""Settings from the environment: every parser's edges, all problems at once."""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from typing import Any

import pytest

from bridge.values.environment import describe, variable
from bridge.values.errors import SettingsError
from bridge.values.settings import Settings

DEFAULTS: dict[str, Any] = {
    "database_url": None,
    "database_password_file": None,
    "public_channels": (),
    "access": None,
    "token_keys_file": None,
    "token_audience": None,
    "token_cookie": None,
    "access_timeout": 5.0,
    "access_threads": 4,
    "max_access_checks": 64,
    "allowed_origins": (),
    "allowed_hosts": (),
    "trusted_proxies": (),
    "max_connections": 0,
    "max_channels": 128,
    "max_connections_per_address": 0,
    "max_subscribes_per_second": 50.0,
    "max_message_rate": 50.0,
    "max_request_rate_per_address": 0.0,
    "max_errors": 20,
    "max_message_bytes": 65536,
    "backlog_bytes": 1048576,
    "send_buffer_bytes": 262144,
    "handshake_timeout": 10.0,
    "authenticate_timeout": 10.0,
    "write_timeout": 30.0,
    "heartbeat_interval": 25.0,
    "drain_window": 20.0,
    "max_listeners": 0,
    "max_listen_channels": 10_000,
    "max_payload_bytes": 4194304,
    "recent_bytes": 16777216,
    "tripwire": True,
    "metrics_peers": ("127.0.0.0/8", "::1/128", "unix"),
    "run_folder": None,
    "unlisten_delay": 30.0,
    "health_interval": 5.0,
    "health_timeout": 5.0,
}


def read(**environ: str) -> Settings:
    """Settings of these variables, which must cause no warning."""
    settings, _, warnings = Settings.from_environ(environ)
    assert warnings == []
    return settings


def value(name: str, text: str) -> Any:
    """What the field's own variable, set to `text`, makes of it."""
    return getattr(read(**{f"BRIDGE_{name.upper()}": text}), name)


def problems(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ(environ)
    return caught.value.problems


def problem(name: str, text: str) -> str:
    """The one problem of the field's own variable, after its value."""
    name = f"BRIDGE_{name.upper()}"
    [found] = problems(**{name: text})
    beginning = f"{name}={text!r} is not valid: "
    assert found.startswith(beginning)
    return found[len(beginning) :]


# The whole.


@pytest.mark.parametrize("name", [item.name for item in fields(Settings)])
def test_setting_has_its_default(name: str) -> None:
    assert getattr(read(), name) == DEFAULTS[name]


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_blank_variable_counts_as_not_set(blank: str) -> None:
    environ = {variable(item): blank for item in fields(Settings)}

    settings, sources, warnings = Settings.from_environ(environ)

    assert (settings, sources, warnings) == (Settings(), {}, [])


def test_each_setting_is_read_from_its_variable() -> None:
    settings = read(
        BRIDGE_DATABASE_URL="postgresql://db/x",
        BRIDGE_DATABASE_PASSWORD_FILE="/run/password",
        BRIDGE_PUBLIC_CHANNELS="watchers_*, news",
        BRIDGE_ACCESS="site.access:Policy",
        BRIDGE_ALLOWED_ORIGINS="https://a.example",
        BRIDGE_ALLOWED_HOSTS="a.example",
        BRIDGE_TRUSTED_PROXIES="unix",
        BRIDGE_MAX_CHANNELS="7",
        BRIDGE_WRITE_TIMEOUT="1.5",
    )

    assert settings == Settings(
        database_url="postgresql://db/x",
        database_password_file="/run/password",
        public_channels=("watchers_*", "news"),
        access="site.access:Policy",
        allowed_origins=("https://a.example",),
        allowed_hosts=("a.example",),
        trusted_proxies=("unix",),
        max_channels=7,
        write_timeout=1.5,
    )


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().max_channels = 1  # type: ignore[misc]


def test_sources_name_the_variables_that_were_set() -> None:
    _, sources, _ = Settings.from_environ(
        {
            "DATABASE_URL": "postgresql://db/x",
            "BRIDGE_MAX_CHANNELS": "7",
            "BRIDGE_ACCESS": "",
        }
    )

    assert sources == {
        "database_url": "DATABASE_URL",
        "max_channels": "BRIDGE_MAX_CHANNELS",
    }


def test_all_problems_are_told_at_once() -> None:
    assert problems(
        BRIDGE_MAX_CHANNELS="many",
        BRIDGE_WRITE_TIMEOUT="0",
        BRIDGE_MAX_ERORRS="5",
        BRIDGE_SOMETHING_ELSE="1",
        DATABASE_URL="mysql://db/x",
    ) == (
        "DATABASE_URL=*** is not valid: 'postgresql://' is expected, not 'mysql://'",
        "BRIDGE_MAX_CHANNELS='many' is not valid: a whole number of channels is "
        "expected",
        "BRIDGE_WRITE_TIMEOUT='0' is not valid: 1 to 3600 seconds are allowed",
        "BRIDGE_MAX_ERORRS is not a setting: did you mean BRIDGE_MAX_ERRORS?",
    )


# Variables that are none.


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BRIDGE_MAX_CHANEL", "BRIDGE_MAX_CHANNELS"),
        ("BRIDGE_PUBLIC_CHANNEL", "BRIDGE_PUBLIC_CHANNELS"),
        ("BRIDGE_ACCES", "BRIDGE_ACCESS"),
        ("BRIDGE_DATABASEURL", "BRIDGE_DATABASE_URL"),
        ("BRIDGE_ALLOWED_ORIGIN", "BRIDGE_ALLOWED_ORIGINS"),
    ],
)
def test_near_miss_is_a_problem_that_names_the_setting(name: str, meant: str) -> None:
    assert problems(**{name: "secret-value"}) == (
        f"{name} is not a setting: did you mean {meant}?",
    )


def test_other_unknown_variable_is_a_warning() -> None:
    settings, sources, warnings = Settings.from_environ(
        {"BRIDGE_WEATHER": "secret-value", "BRIDGE_COLOUR": "red"}
    )

    assert (settings, sources) == (Settings(), {})
    assert warnings == [
        "BRIDGE_COLOUR is not a setting of pgbridge and does nothing",
        "BRIDGE_WEATHER is not a setting of pgbridge and does nothing",
    ]


@pytest.mark.parametrize(
    "name", ["BRIDGE_TEST_DATABASE_URL", "MAX_CHANNELS", "bridge_access", "BRIDGE"]
)
def test_variable_of_somebody_else_is_not_looked_at(name: str) -> None:
    assert read(**{name: "x"}) == Settings()


def test_no_setting_is_taken_for_a_misspelling_of_another() -> None:
    # BRIDGE_HEALTH_INTERVAL and BRIDGE_HEARTBEAT_INTERVAL are near each other.
    settings = read(BRIDGE_HEALTH_INTERVAL="1", BRIDGE_HEARTBEAT_INTERVAL="2")

    assert (settings.health_interval, settings.heartbeat_interval) == (1.0, 2.0)


# Seconds.

SECONDS = {
    "access_timeout": ("0.1", "60"),
    "handshake_timeout": ("0.5", "600"),
    "authenticate_timeout": ("0.1", "600"),
    "write_timeout": ("1", "3600"),
    "heartbeat_interval": ("0.5", "3600"),
    "drain_window": ("0", "3600"),
    "unlisten_delay": ("0", "3600"),
    "health_interval": ("0.1", "3600"),
    "health_timeout": ("0.1", "3600"),
}


@pytest.mark.parametrize("name", SECONDS)
def test_seconds_are_taken_at_both_limits(name: str) -> None:
    low, high = SECONDS[name]

    assert (value(name, low), value(name, high)) == (float(low), float(high))


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("off", [-0.01, 0.01])
def test_seconds_beyond_a_limit_are_a_problem(name: str, off: float) -> None:
    low, high = SECONDS[name]
    text = str(float(low) + off if off < 0 else float(high) + off)

    assert problem(name, text) == f"{low} to {high} seconds are allowed"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "1e9"])
def test_seconds_that_are_no_duration_are_a_problem(text: str) -> None:
    assert problem("write_timeout", text) == "1 to 3600 seconds are allowed"


@pytest.mark.parametrize("text", ["5s", "five", "1,5", "0x10"])
def test_seconds_that_are_no_number_are_a_problem(text: str) -> None:
    assert problem("write_timeout", text) == "a number of seconds is expected"


@pytest.mark.parametrize("text", ["2.5", " 2.5 ", "25e-1"])
def test_seconds_are_a_decimal_number(text: str) -> None:
    assert value("write_timeout", text) == 2.5


# A rate.


RATES = {
    "max_subscribes_per_second": "subscribes",
    "max_message_rate": "messages",
    "max_request_rate_per_address": "requests",
}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize(
    ("text", "rate"), [("0", 0.0), ("0.5", 0.5), ("50", 50.0), ("1000000", 1e6)]
)
def test_rate_is_a_decimal_number(name: str, text: str, rate: float) -> None:
    assert value(name, text) == rate


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("text", ["-1", "1000001", "nan", "inf"])
def test_rate_beyond_a_limit_is_a_problem(name: str, text: str) -> None:
    assert problem(name, text) == f"0 to 1e+06 {RATES[name]} are allowed"


@pytest.mark.parametrize("name", RATES)
def test_rate_that_is_no_number_is_a_problem(name: str) -> None:
    assert problem(name, "many") == f"a number of {RATES[name]} is expected"


# Switches.


@pytest.mark.parametrize(
    ("text", "on"),
    [("on", True), ("1", True), (" Yes ", True), ("off", False), ("FALSE", False)],
)
def test_switch_is_on_or_off(text: str, on: bool) -> None:
    assert value("tripwire", text) is on


@pytest.mark.parametrize("text", ["maybe", "2", "o n"])
def test_switch_that_is_neither_is_a_problem(text: str) -> None:
    assert problem("tripwire", text) == "'on' or 'off' is expected"


# Whole numbers.

WHOLE = {
    "access_threads": (1, 100, "threads"),
    "max_access_checks": (1, 10_000, "checks"),
    "max_connections": (0, 1_000_000, "connections"),
    "max_connections_per_address": (0, 1_000_000, "connections"),
    "max_channels": (1, 100_000, "channels"),
    "max_errors": (0, 1_000_000, "errors"),
    "max_message_bytes": (1024, 16_777_216, "bytes"),
    "max_payload_bytes": (1024, 268_435_456, "bytes"),
    "recent_bytes": (0, 1_073_741_824, "bytes"),
    "backlog_bytes": (16_384, 1_073_741_824, "bytes"),
    "send_buffer_bytes": (0, 1_073_741_824, "bytes"),
    "max_listeners": (0, 100, "sessions"),
    "max_listen_channels": (1, 1_000_000, "channels"),
}


def test_every_setting_with_a_limit_is_in_these_tables() -> None:
    numbers = {
        name for name, default in DEFAULTS.items() if type(default) not in (tuple, bool)
    }

    texts = {name for name, default in DEFAULTS.items() if default is None}
    assert numbers - texts - set(RATES) == {*SECONDS, *WHOLE}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_number_is_taken_at_both_limits(name: str) -> None:
    low, high, _ = WHOLE[name]

    assert (value(name, str(low)), value(name, str(high))) == (low, high)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_number_above_its_limit_is_a_problem(name: str) -> None:
    low, high, what = WHOLE[name]

    assert problem(name, str(high + 1)) == f"{low} to {high} {what} are allowed"


@pytest.mark.parametrize("name", [name for name in WHOLE if WHOLE[name][0]])
def test_whole_number_below_its_limit_is_a_problem(name: str) -> None:
    low, high, what = WHOLE[name]

    assert problem(name, str(low - 1)) == f"{low} to {high} {what} are allowed"


@pytest.mark.parametrize(
    "text", ["-1", "+1", "1.0", "1e3", "1_000", "64k", "١", "9" * 19]
)
def test_text_that_is_no_whole_number_is_a_problem(text: str) -> None:
    assert problem("max_channels", text) == ("a whole number of channels is expected")


@pytest.mark.parametrize("text", ["7", " 7\n", "007"])
def test_whole_number_may_have_spaces_and_zeros_before_it(text: str) -> None:
    assert value("max_channels", text) == 7


# Lists.


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ("a",)),
        ("a,b", ("a", "b")),
        (" a b , c ,", ("a b", "c")),
        (",,", ()),
    ],
)
def test_names_are_separated_by_commas(text: str, names: tuple[str, ...]) -> None:
    assert value("public_channels", text) == names


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://a.example", ("https://a.example",)),
        ("http://A.example:8000", ("http://a.example:8000",)),
        ("http://[::1]:8000, null", ("http://[::1]:8000", "null")),
    ],
)
def test_origin_is_a_scheme_and_a_host(text: str, origins: tuple[str, ...]) -> None:
    assert value("allowed_origins", text) == origins


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://a.example:443", "https://a.example"),
        ("https://A.Example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://[::1]:80", "http://[::1]"),
        ("https://a.example:80", "https://a.example:80"),
        ("http://a.example:443", "http://a.example:443"),
        ("https://a.example:4430", "https://a.example:4430"),
    ],
)
def test_default_port_of_an_origin_is_left_out_as_browsers_do(
    text: str, origin: str
) -> None:
    assert value("allowed_origins", text) == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "a.example",
        "https://*.example",
        "https://a.example/",
        "https://a.example/page",
        "https://a.example?x",
        "https://a.example#x",
        "https://",
        "ftp://a.example",
        "https://a b",
    ],
)
def test_anything_else_is_no_origin(origin: str) -> None:
    assert problem("allowed_origins", origin) == (
        f"{origin!r} is no origin: 'https://host' or 'https://host:port', without a "
        "path or '*', is expected"
    )


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a.example", ("a.example",)),
        ("A.Example, b.example", ("a.example", "b.example")),
        ("[::1]", ("::1",)),
        ("127.0.0.1", ("127.0.0.1",)),
    ],
)
def test_host_is_a_name_without_port(text: str, hosts: tuple[str, ...]) -> None:
    assert value("allowed_hosts", text) == hosts


@pytest.mark.parametrize(
    "host",
    [
        "a.example:80",
        "https://a.example",
        "*.example",
        "a b",
        "a@b",
        "a/",
        "::1",
        "[::1]:8000",
        "[::1",
        "[a/b",
        "[*]",
        "[x y]",
        "[]",
    ],
)
def test_anything_else_is_no_host(host: str) -> None:
    assert problem("allowed_hosts", host) == f"{host!r} is no host name without port"


@pytest.mark.parametrize(
    ("text", "proxies"),
    [
        ("unix", ("unix",)),
        ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
        ("192.0.2.1", ("192.0.2.1",)),
    ],
)
def test_proxy_is_a_network_or_the_unix_socket(
    text: str, proxies: tuple[str, ...]
) -> None:
    assert value("trusted_proxies", text) == proxies


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("10.0.0.1/8", "10.0.0.1/8 has host bits set"),
        (
            "proxy.example",
            "'proxy.example' does not appear to be an IPv4 or IPv6 network",
        ),
    ],
)
def test_anything_else_is_no_proxy(proxy: str, why: str) -> None:
    assert problem("trusted_proxies", f"unix,{proxy}") == (
        f"{why}; a network or 'unix' is expected"
    )


# The policy.


@pytest.mark.parametrize(
    "path", ["site.Policy", "site:Policy", "a.b.c", "a.b:c", "_a._b"]
)
def test_policy_is_a_dotted_path(path: str) -> None:
    assert value("access", path) == path


@pytest.mark.parametrize(
    "path", ["Policy", ".Policy", "site.", "1site.Policy", "a b.c", "a/b.c", "a.b:c.d"]
)
def test_anything_else_is_no_dotted_path(path: str) -> None:
    assert problem("access", path) == (
        "a dotted path like 'package.module.name' is expected"
    )


# The database.


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("postgresql://u:p@db/x", "postgresql://u:p@db/x"),
        ("postgres://db/x", "postgres://db/x"),
        ("postgresql+psycopg2://db/x", "postgresql://db/x"),
        ("postgres+asyncpg://db/x", "postgresql://db/x"),
        ("postgis://db/x", "postgresql://db/x"),
        (" postgresql://db/x\n", "postgresql://db/x"),
        ("host=db dbname=x", "host=db dbname=x"),
        ("host=db password=a://b", "host=db password=a://b"),
    ],
)
def test_url_may_carry_the_driver_of_another_library(text: str, url: str) -> None:
    assert value("database_url", text) == url


def test_own_database_variable_wins_over_the_common_one() -> None:
    settings, sources, _ = Settings.from_environ(
        {
            "DATABASE_URL": "postgresql://common/x",
            "BRIDGE_DATABASE_URL": "postgresql://own/x",
        }
    )

    assert settings.database_url == "postgresql://own/x"
    assert sources == {"database_url": "BRIDGE_DATABASE_URL"}


def test_blank_own_database_variable_leaves_the_common_one() -> None:
    settings, sources, _ = Settings.from_environ(
        {"DATABASE_URL": "postgresql://common/x", "BRIDGE_DATABASE_URL": " "}
    )

    assert settings.database_url == "postgresql://common/x"
    assert sources == {"database_url": "DATABASE_URL"}


def test_common_database_variable_is_not_judged_when_it_is_not_used() -> None:
    assert (
        read(
            DATABASE_URL="mysql://db/x", BRIDGE_DATABASE_URL="postgresql://db/x"
        ).database_url
        == "postgresql://db/x"
    )


@pytest.mark.parametrize("scheme", ["mysql", "mysql+pymysql", "postgresqlx", "http"])
def test_url_of_another_database_is_a_problem_without_the_url(scheme: str) -> None:
    assert problems(BRIDGE_DATABASE_URL=f"{scheme}://user:s3cret@db/x") == (
        "BRIDGE_DATABASE_URL=*** is not valid: 'postgresql://' is expected, not "
        f"'{scheme}://'",
    )


def test_repr_does_not_show_the_database_url() -> None:
    settings = read(BRIDGE_DATABASE_URL="postgresql://user:s3cret@db/x")

    assert "database_url" not in repr(settings)
    assert "s3cret" not in repr(settings)


def test_required_database_url_is_the_one_that_was_set() -> None:
    settings = read(DATABASE_URL="postgresql://db/x")

    assert settings.required_database_url == "postgresql://db/x"


@pytest.mark.parametrize("environ", [{}, {"BRIDGE_DATABASE_URL": " "}])
def test_required_database_url_that_is_missing_says_what_to_set(
    environ: dict[str, str],
) -> None:
    with pytest.raises(SettingsError) as caught:
        _ = read(**environ).required_database_url

    assert caught.value.problems == (
        "BRIDGE_DATABASE_URL is not set (nor DATABASE_URL): set it to "
        "postgresql://user@host/database",
    )


# The page.


def test_every_setting_is_described() -> None:
    rows = describe(Settings)

    assert [name for name, _, _ in rows] == [
        "BRIDGE_DATABASE_URL (else DATABASE_URL)",
        *(f"BRIDGE_{item.name.upper()}" for item in fields(Settings)[1:]),
    ]


def test_description_has_default_and_meaning() -> None:
    assert (
        "BRIDGE_MAX_CHANNELS",
        "128",
        "Channels of one client.",
    ) in describe(Settings)


@pytest.mark.parametrize("row", describe(Settings), ids=lambda row: row[0])
def test_description_is_complete(row: tuple[str, str, str]) -> None:
    _, shown, says = row

    assert shown
    assert says.endswith(".")


@pytest.mark.parametrize("name", [*SECONDS, *WHOLE])
def test_shown_default_is_the_default(name: str) -> None:
    [item] = [item for item in fields(Settings) if item.name == name]
    shown = item.metadata["shown"]
    computed = {
        "max_connections": "worker_connections − 100",
        "max_listeners": "max(1, 4 // workers)",
    }

    if name in computed:
        assert shown == computed[name]
    elif name in SECONDS:
        assert shown == f"{DEFAULTS[name]:g} s"
    elif WHOLE[name][2] == "bytes":
        assert shown == f"{DEFAULTS[name]} bytes"
    else:
        assert shown == str(DEFAULTS[name])
