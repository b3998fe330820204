"""How much one client, or one address, may ask for."""

from __future__ import annotations

import math

import pytest

from bridge.values.limits import Addresses, AddressRates, Bucket, Rate, address_group

# Rates.


def takes(rate: Rate, *times: float) -> list[float]:
    """Take one at each time, from a bucket that is full at 0."""
    bucket = Bucket(rate, 0.0)
    return [bucket.take(rate, now) for now in times]


def test_burst_is_had_at_once() -> None:
    assert takes(Rate(per_second=2, burst=3), 0, 0, 0) == [0, 0, 0]


def test_one_more_has_to_wait() -> None:
    assert takes(Rate(per_second=2, burst=3), 0, 0, 0, 0) == [0, 0, 0, 0.5]


def test_wait_shrinks_with_the_time() -> None:
    assert takes(Rate(per_second=2, burst=1), 0, 0.25, 0.375) == [0, 0.25, 0.125]


def test_what_was_refused_does_not_count() -> None:
    assert takes(Rate(per_second=2, burst=1), 0, 0, 0, 0.5, 0.5) == [
        0,
        0.5,
        0.5,
        0,
        0.5,
    ]


def test_quiet_time_gives_the_burst_back_and_no_more() -> None:
    assert takes(Rate(per_second=2, burst=2), 0, 0, 100, 100, 100) == [0, 0, 0, 0, 0.5]


def test_steady_rate_is_never_refused() -> None:
    rate = Rate(per_second=4, burst=1)

    assert takes(rate, *(number / 4 for number in range(100))) == [0] * 100


def test_rate_of_0_is_no_limit() -> None:
    assert takes(Rate(per_second=0, burst=0), *[0.0] * 100) == [0] * 100


def test_client_that_was_quiet_has_the_burst() -> None:
    assert Rate(per_second=2, burst=3).left(full_at=0.0, now=50.0) == 3


def test_what_is_spent_comes_back_with_the_time() -> None:
    rate = Rate(per_second=2, burst=3)

    full_at = rate.spend(0.0, 50.0, count=3)

    assert [rate.left(full_at, 50.0 + later) for later in (0, 0.5, 1.5, 9)] == [
        0,
        1,
        3,
        3,
    ]


def test_more_than_is_left_can_be_spent_and_is_waited_for() -> None:
    rate = Rate(per_second=2, burst=3)

    full_at = rate.spend(0.0, 50.0, count=5)

    assert rate.left(full_at, 50.0) == -2
    assert [rate.wait(full_at, 50.0 + later) for later in (0, 1, 1.5, 9)] == [
        1.5,
        0.5,
        0,
        0,
    ]


def test_steady_spending_never_waits() -> None:
    rate = Rate(per_second=4, burst=1)
    full_at, waits = 0.0, []

    for number in range(100):
        waits.append(rate.wait(full_at, number / 4))
        full_at = rate.spend(full_at, number / 4, count=1)

    assert waits == [0] * 100


def test_nothing_is_spent_where_there_is_no_limit() -> None:
    rate = Rate(per_second=0, burst=0)

    full_at = rate.spend(0.0, 50.0, count=1000)

    assert (full_at, rate.left(full_at, 50.0), rate.wait(full_at, 50.0)) == (
        0.0,
        math.inf,
        0.0,
    )


# Addresses.


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:DB8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
        ("", ""),
    ],
)
def test_address_counts_as_its_group(address: str, group: str) -> None:
    assert address_group(address) == group


def test_address_is_full_with_its_last_connection() -> None:
    addresses = Addresses(2)

    found = [addresses.full("192.0.2.1")]
    for _ in range(2):
        addresses.add("192.0.2.1")
        found.append(addresses.full("192.0.2.1"))

    assert found == [False, False, True]


def test_connection_that_ends_makes_room() -> None:
    addresses = Addresses(1)
    addresses.add("192.0.2.1")

    addresses.remove("192.0.2.1")

    assert addresses.full("192.0.2.1") is False


def test_addresses_are_counted_apart() -> None:
    addresses = Addresses(1)

    addresses.add("192.0.2.1")

    assert addresses.full("192.0.2.2") is False


def test_addresses_of_one_network_are_counted_together() -> None:
    addresses = Addresses(1)

    addresses.add("2001:db8::1")

    assert addresses.full("2001:db8::2") is True
    assert addresses.full("2001:db8:0:1::1") is False


def test_client_without_address_is_never_refused() -> None:
    addresses = Addresses(1)

    addresses.add("")
    addresses.add("")
    addresses.remove("")

    assert addresses.full("") is False


def test_limit_of_0_is_none() -> None:
    addresses = Addresses(0)

    for _ in range(100):
        addresses.add("192.0.2.1")
    addresses.remove("192.0.2.1")

    assert addresses.full("192.0.2.1") is False


def test_address_that_is_gone_is_forgotten() -> None:
    addresses = Addresses(5)
    for number in range(3):
        addresses.add(f"192.0.2.{number}")
        addresses.add(f"192.0.2.{number}")

    for number in range(3):
        addresses.remove(f"192.0.2.{number}")
        addresses.remove(f"192.0.2.{number}")

    # Else every address that ever came would be kept.
    assert not addresses._open


# Rates of addresses.


def test_address_waits_for_its_own_time() -> None:
    rates = AddressRates(Rate(per_second=2, burst=2), max_wait=1)

    waits = [rates.take("192.0.2.1", 50.0) for _ in range(4)]

    assert waits == [0, 0, 0.5, 1]


def test_what_would_wait_for_too_long_is_not_taken() -> None:
    rates = AddressRates(Rate(per_second=2, burst=1), max_wait=1)

    waits = [rates.take("192.0.2.1", 50.0) for _ in range(5)]

    assert waits == [0, 0.5, 1, None, None]
    assert rates.take("192.0.2.1", 50.5) == 1


def test_rates_of_addresses_are_apart() -> None:
    rates = AddressRates(Rate(per_second=2, burst=1), max_wait=1)

    waits = [rates.take(f"192.0.2.{n}", 50.0) for n in range(5)]

    assert waits == [0] * 5


def test_rate_is_of_a_network_in_ipv6() -> None:
    rates = AddressRates(Rate(per_second=2, burst=1), max_wait=1)

    waits = [rates.take(f"2001:db8::{n}", 50.0) for n in range(3)]

    assert waits == [0, 0.5, 1]


def test_addresses_that_have_the_whole_burst_are_forgotten() -> None:
    rates = AddressRates(Rate(per_second=2, burst=1), max_wait=1)
    for n in range(10_000):
        assert rates.take(f"10.0.{n // 256}.{n % 256}", 50.0 + n) == 0

    assert len(rates) <= 1001


def test_addresses_that_have_spent_are_not_forgotten() -> None:
    rates = AddressRates(Rate(per_second=0.1, burst=1), max_wait=1)
    for n in range(5000):
        rates.take(f"10.0.{n // 256}.{n % 256}", 50.0)

    assert rates.take("10.0.0.0", 50.0) is None
    assert len(rates) == 5000
