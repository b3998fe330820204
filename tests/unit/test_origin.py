"""Whose page a request comes from, and which client it is."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bridge.access.origin import OriginRules, Peer, Proxies
from bridge.values.errors import RequestRefused


def rules(*origins: str, hosts: Iterable[str] = ()) -> OriginRules:
    return OriginRules(frozenset(origins), frozenset(hosts))


def refusal(
    rules: OriginRules, origin: str | None, host: str, scheme: str | None = None
) -> str:
    with pytest.raises(RequestRefused) as caught:
        rules.check(origin, host, scheme)
    assert caught.value.http_status == 403
    return str(caught.value)


# Origin.


def test_without_origin_it_is_no_browser_and_passes() -> None:
    rules().check(None, "site.example", "https")


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("https://site.example", "site.example", "https"),
        ("https://site.example", "site.example", None),
        ("http://site.example", "site.example", None),
        ("https://site.example", "site.example:443", "https"),
        ("https://site.example:443", "site.example", "https"),
        ("http://site.example:80", "site.example", "http"),
        ("http://site.example", "site.example:80", None),
        ("https://site.example:8443", "site.example:8443", None),
        ("https://site.example", "SITE.example", None),
        ("http://127.0.0.1:8001", "127.0.0.1:8001", "http"),
        ("http://[::1]:8001", "[::1]:8001", "http"),
    ],
)
def test_page_of_the_site_itself_passes(
    origin: str, host: str, scheme: str | None
) -> None:
    rules().check(origin, host, scheme)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("https://evil.example", "site.example", "https"),
        ("https://site.example.evil.example", "site.example", None),
        ("https://sub.site.example", "site.example", None),
        ("https://site.example", "sub.site.example", None),
        ("https://site.example:8443", "site.example", None),
        ("https://site.example", "site.example:8443", None),
        ("http://site.example", "site.example:443", None),
        ("http://site.example", "site.example", "https"),
        ("https://site.example", "site.example", "http"),
        ("http://site.example:8000", "site.example:8000", "https"),
        ("https://site.example:8000", "site.example:8000", "http"),
        ("ftp://site.example", "site.example", None),
        ("ws://site.example", "site.example", None),
        ("chrome-extension://site.example", "site.example", None),
        ("site.example", "site.example", None),
        ("//site.example", "site.example", None),
        ("https://site.example@evil.example", "site.example", None),
        ("https://", "", None),
        ("", "site.example", None),
        ("", "", None),
        ("null", "site.example", None),
        ("null", "null", None),
        ("https://[::1", "site.example", None),
        ("https://site.example:port", "site.example", None),
        ("https://site.example:99999", "site.example", None),
        ("https://site.example", "site.example:port", None),
        ("https://site.example", "[::1", None),
    ],
)
def test_any_other_page_is_refused(origin: str, host: str, scheme: str | None) -> None:
    assert refusal(rules(), origin, host, scheme) == (
        f"Origin {origin!r} is not allowed"
    )


def test_listed_origin_passes_whatever_the_host() -> None:
    rules("https://app.example").check("https://app.example", "site.example", "http")


def test_sandboxed_page_passes_where_null_is_listed() -> None:
    rules("null").check("null", "site.example", None)


@pytest.mark.parametrize(
    "origin",
    ["http://app.example", "https://app.example:8443", "https://x.app.example"],
)
def test_listed_origin_is_compared_whole(origin: str) -> None:
    assert refusal(rules("https://app.example"), origin, "site.example") == (
        f"Origin {origin!r} is not allowed"
    )


def test_list_adds_to_the_site_itself() -> None:
    rules("https://app.example").check("https://site.example", "site.example", None)


# Host.


@pytest.mark.parametrize(
    "host", ["site.example", "site.example:8001", "SITE.example", "[::1]", "[::1]:80"]
)
def test_listed_host_passes_with_any_port(host: str) -> None:
    rules(hosts=["site.example", "::1"]).check(None, host, None)


@pytest.mark.parametrize("host", ["evil.example", "x.site.example", "", "[::1", ":80"])
def test_any_other_host_is_refused(host: str) -> None:
    assert refusal(rules(hosts=["site.example"]), None, host) == (
        f"Host {host!r} is not served here"
    )


def test_host_is_judged_before_the_origin() -> None:
    # DNS rebinding: page and host agree, but neither is ours.
    assert refusal(
        rules("https://evil.example", hosts=["site.example"]),
        "https://evil.example",
        "evil.example",
    ) == ("Host 'evil.example' is not served here")


def test_listed_host_does_not_make_a_foreign_page_pass() -> None:
    assert refusal(
        rules(hosts=["site.example"]), "https://evil.example", "site.example"
    ) == ("Origin 'https://evil.example' is not allowed")


# The client behind the proxies.


def peer(
    proxies: Proxies,
    remote: str,
    forwarded_for: str | None = None,
    forwarded_proto: str | None = None,
    tls: bool = False,
) -> tuple[str, str | None]:
    found = proxies.peer(remote, forwarded_for, forwarded_proto, tls)
    return found.address, found.scheme


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"], ["unix"]])
def test_headers_of_a_stranger_are_not_believed(trusted: list[str]) -> None:
    assert peer(Proxies(trusted), "192.0.2.1", "198.51.100.7", "https") == (
        "192.0.2.1",
        None,
    )


def test_scheme_is_https_where_this_server_ends_tls() -> None:
    assert peer(Proxies([]), "192.0.2.1", tls=True) == ("192.0.2.1", "https")


def test_unix_socket_is_believed_only_where_it_is_listed() -> None:
    assert peer(Proxies([]), "", "198.51.100.7", "https") == ("", None)
    assert peer(Proxies(["unix"]), "", "198.51.100.7", "https") == (
        "198.51.100.7",
        "https",
    )


def test_trusted_proxy_without_headers_stands_for_itself() -> None:
    assert peer(Proxies(["10.0.0.1"]), "10.0.0.1") == ("10.0.0.1", None)


def test_unix_socket_without_headers_has_no_address() -> None:
    assert peer(Proxies(["unix"]), "") == ("", None)


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        (" 198.51.100.7 ", "198.51.100.7"),
        ("203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("203.0.113.9,198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("198.51.100.7, 10.0.0.3, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.4, 10.0.0.3", "10.0.0.4"),
        ("2001:db8::7", "2001:db8::7"),
        ("invented, 198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, invented", "10.0.0.1"),
        ("198.51.100.7, invented, 10.0.0.2", "10.0.0.2"),
        ("198.51.100.7:4711", "10.0.0.1"),
        ("", "10.0.0.1"),
        (",", "10.0.0.1"),
    ],
)
def test_client_is_the_right_most_address_that_is_not_trusted(
    forwarded_for: str, address: str
) -> None:
    proxies = Proxies(["10.0.0.0/8"])

    assert peer(proxies, "10.0.0.1", forwarded_for)[0] == address


@pytest.mark.parametrize(
    ("forwarded_proto", "scheme"),
    [
        ("https", "https"),
        ("http", "http"),
        (" HTTPS ", "https"),
        ("wss", None),
        ("https,http", None),
        ("", None),
        (None, None),
    ],
)
def test_scheme_is_the_one_that_the_proxy_names(
    forwarded_proto: str | None, scheme: str | None
) -> None:
    proxies = Proxies(["10.0.0.1"])

    assert peer(proxies, "10.0.0.1", None, forwarded_proto)[1] == scheme


def test_networks_of_both_versions_may_be_trusted() -> None:
    proxies = Proxies(["10.0.0.0/8", "fd00::/8"])

    assert peer(proxies, "fd00::1", "198.51.100.7, 10.0.0.1")[0] == "198.51.100.7"
    assert peer(proxies, "2001:db8::1", "198.51.100.7")[0] == "2001:db8::1"


def test_proxy_whose_ipv4_address_is_mapped_into_ipv6_is_trusted() -> None:
    proxies = Proxies(["10.0.0.0/8"])

    assert peer(proxies, "::ffff:10.0.0.1", "198.51.100.7", "https") == (
        "198.51.100.7",
        "https",
    )
    assert peer(proxies, "::ffff:192.0.2.1", "198.51.100.7", "https") == (
        "::ffff:192.0.2.1",
        None,
    )


def test_remote_that_is_no_address_is_not_trusted() -> None:
    assert peer(Proxies(["10.0.0.0/8"]), "somebody", "198.51.100.7")[0] == "somebody"


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "proxy.example", ""])
def test_entry_that_is_neither_network_nor_unix_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError):
        Proxies(["unix", entry])


@pytest.mark.parametrize(("address", "shown"), [("192.0.2.1", "192.0.2.1"), ("", "-")])
def test_client_is_shown_by_its_address(address: str, shown: str) -> None:
    assert str(Peer(address, "https")) == shown


def test_address_is_found_in_a_request() -> None:
    proxies = Proxies(["10.0.0.0/8", "unix"])

    assert [
        proxies.client_address({"REMOTE_ADDR": "192.0.2.9"}),
        proxies.client_address(
            {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}
        ),
        proxies.client_address({"HTTP_X_FORWARDED_FOR": "192.0.2.2"}),
        proxies.client_address({}),
    ] == ["192.0.2.9", "192.0.2.1", "192.0.2.2", ""]
