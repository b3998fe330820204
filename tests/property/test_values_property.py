"""Channels, settings, origins, addresses, handshakes: any text is judged."""

from __future__ import annotations

from dataclasses import fields
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.access.origin import OriginRules, Proxies
from bridge.clients.handshake import accept
from bridge.values.channels import Patterns, check_channel
from bridge.values.environment import variable
from bridge.values.errors import BadChannel, RequestRefused, SettingsError
from bridge.values.settings import Settings

quick = settings(deadline=None, max_examples=200)

any_text = st.text(st.characters(exclude_categories=()))


# Channels.


@quick
@given(st.one_of(any_text, st.text(min_size=55, max_size=70), st.just("bridge_x")))
def test_any_text_is_a_channel_or_is_refused(name: str) -> None:
    try:
        checked = check_channel(name)
    except BadChannel as error:
        # It can be written into a log and a message.
        str(error).encode()
        assert str(error).startswith("channel ")
        assert len(str(error)) < 500
        return
    assert checked is name
    assert 1 <= len(name.encode()) <= 63
    assert not any(ord(character) < 0x20 for character in name)
    assert not set(name) & {"\x7f", "*"}
    assert not name.startswith("bridge_")


short = st.text("ab*\n.", max_size=7)


def covers(pattern: str, channel: str) -> bool:
    """What `Patterns` should say, written another way."""

    @cache
    def match(p: int, c: int) -> bool:
        if p == len(pattern):
            return c == len(channel)
        if pattern[p] == "*":
            return match(p + 1, c) or (c < len(channel) and match(p, c + 1))
        return c < len(channel) and pattern[p] == channel[c] and match(p + 1, c + 1)

    return match(0, 0)


@quick
@given(st.lists(short, min_size=1, max_size=3), short)
def test_patterns_cover_what_one_of_them_covers(
    patterns: list[str], channel: str
) -> None:
    expected = any(covers(pattern, channel) for pattern in patterns)

    # A set whose only pattern is empty covers nothing.
    if any(patterns):
        assert Patterns(patterns).match(channel) is expected


# Settings.


@quick
@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from([variable(item) for item in fields(Settings)]),
            any_text.map(lambda rest: f"BRIDGE_{rest}"),
        ),
        st.one_of(any_text, st.integers().map(str), st.floats().map(str)),
        max_size=6,
    )
)
def test_any_environment_gives_settings_or_all_its_problems(
    environ: dict[str, str],
) -> None:
    known = {variable(item) for item in fields(Settings)}
    try:
        result, sources, warnings = Settings.from_environ(environ)
    except SettingsError as error:
        assert 1 <= len(error.problems) <= len(environ)
        return
    assert isinstance(result, Settings)
    assert set(sources.values()) == {
        name for name in known & set(environ) if environ[name].strip()
    }
    assert len(warnings) == len(
        [n for n in environ if n not in known and not n.startswith("BRIDGE_TEST_")]
    )


@quick
@given(
    st.from_regex(r"[a-z+]{1,12}://", fullmatch=True), st.text("abc:/@%", max_size=9)
)
def test_password_of_the_database_is_never_shown(scheme: str, noise: str) -> None:
    url = f"{scheme}user:s3cr3t{noise}@host/database"

    try:
        result, _, _ = Settings.from_environ({"BRIDGE_DATABASE_URL": url})
    except SettingsError as error:
        assert "s3cr3t" not in str(error) + repr(error)
    else:
        assert "s3cr3t" not in repr(result)


# Origins and addresses.

hosts = st.one_of(
    any_text,
    st.sampled_from(["site.example", "site.example:443", "[::1]:80", "evil.example"]),
    st.text("a.:[]@/%0", max_size=8),
)
origins = st.one_of(
    st.none(),
    any_text,
    st.tuples(st.sampled_from(["http://", "https://", "null", "//", ""]), hosts).map(
        "".join
    ),
)


@quick
@given(
    origins,
    hosts,
    st.sampled_from(["http", "https", None]),
    st.frozensets(hosts, max_size=2),
)
def test_any_origin_passes_or_is_refused(
    origin: str | None, host: str, scheme: str | None, allowed: frozenset[str]
) -> None:
    rules = OriginRules(frozenset({"https://app.example"}), allowed)

    try:
        rules.check(origin, host, scheme)
    except RequestRefused as refused:
        assert refused.http_status == 403
    else:
        assert origin is None or origin.lower().startswith(("http://", "https://"))


names = st.sampled_from(["a.example", "b.example", "[::1]"])
ports = st.sampled_from([None, 80, 443, 8000])


@quick
@given(
    scheme=st.sampled_from(["http", "https"]),
    known=st.booleans(),
    page=names,
    page_port=ports,
    site=names,
    site_port=ports,
)
def test_page_passes_exactly_when_its_host_and_port_are_the_sites(
    scheme: str,
    known: bool,
    page: str,
    page_port: int | None,
    site: str,
    site_port: int | None,
) -> None:
    default = {"http": 80, "https": 443}[scheme]
    same = (page, page_port or default) == (site, site_port or default)
    origin = f"{scheme}://{page}" + (f":{page_port}" if page_port else "")
    host = site + (f":{site_port}" if site_port else "")

    try:
        OriginRules(frozenset(), frozenset()).check(
            origin, host, scheme if known else None
        )
    except RequestRefused:
        assert not same
    else:
        assert same


addresses = st.one_of(
    any_text,
    st.ip_addresses().map(str),
    st.sampled_from(["", "10.0.0.1", "10.0.0.2", "fd00::1"]),
)


@quick
@given(
    addresses,
    st.one_of(st.none(), any_text, st.lists(addresses, max_size=4).map(", ".join)),
    st.one_of(st.none(), any_text),
    st.booleans(),
    st.sampled_from([[], ["unix"], ["10.0.0.0/8", "fd00::/8"], ["0.0.0.0/0"]]),
)
def test_client_is_always_one_of_those_named(
    remote: str,
    forwarded_for: str | None,
    forwarded_proto: str | None,
    tls: bool,
    trusted: list[str],
) -> None:
    peer = Proxies(trusted).peer(remote, forwarded_for, forwarded_proto, tls)

    named = [entry.strip() for entry in (forwarded_for or "").split(",")]
    assert peer.address in (remote, *named)
    assert peer.scheme in ("http", "https", None)
    if not trusted:
        assert peer.address == remote


# Handshakes.


@quick
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "REQUEST_METHOD": st.sampled_from(["GET", "POST"]),
            "SERVER_PROTOCOL": st.sampled_from(["HTTP/1.1", "HTTP/1.0"]),
            "HTTP_UPGRADE": st.one_of(st.just("websocket"), any_text),
            "HTTP_CONNECTION": st.one_of(st.just("upgrade"), any_text),
            "HTTP_SEC_WEBSOCKET_VERSION": st.one_of(st.just("13"), any_text),
            "HTTP_SEC_WEBSOCKET_KEY": any_text,
            "HTTP_SEC_WEBSOCKET_PROTOCOL": any_text,
            "CONTENT_LENGTH": any_text,
        },
    )
)
def test_any_handshake_with_a_wrong_key_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(RequestRefused) as caught:
        accept(environ, "pgbridge.v1")

    assert caught.value.http_status in (400, 426)
