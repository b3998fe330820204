"""Where the database is: the connection string of one try."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn

from bridge.postgres.address import KEEPALIVES, Address
from bridge.values.errors import DatabaseError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    monkeypatch.delenv("PGPORT", raising=False)


class Names:
    """A resolver that knows some names; keeps what it was asked."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self.asked: list[str] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        try:
            return self._addresses[host]
        except KeyError:
            raise OSError(-2, "Name or service not known") from None


def parameters(url: str, resolve: Names | None = None, **extra: str) -> dict[str, str]:
    """What a connection string says beside the keepalives."""
    found: dict[str, str] = parse_dsn(Address(url).dsn(resolve, **extra))
    for name, value in KEEPALIVES.items():
        assert found.pop(name) == value
    return found


def problem(address: Address, resolve: Names | None = None) -> str:
    with pytest.raises(DatabaseError) as caught:
        address.dsn(resolve)
    return str(caught.value)


# What is given.


@pytest.mark.parametrize(
    "url", ["postgresql://ada@db:5433/x", "host=db port=5433 user=ada dbname=x"]
)
def test_url_and_connection_string_mean_the_same(url: str) -> None:
    assert parameters(url) == {
        "host": "db",
        "port": "5433",
        "user": "ada",
        "dbname": "x",
    }


def test_extra_parameters_are_added() -> None:
    assert parameters("host=db", application_name="pgbridge") == {
        "host": "db",
        "application_name": "pgbridge",
    }


def test_parameters_of_the_url_win() -> None:
    url = "postgresql://db/x?application_name=mine&keepalives_idle=7"

    found = parse_dsn(Address(url).dsn(application_name="pgbridge"))

    assert (found["application_name"], found["keepalives_idle"]) == ("mine", "7")
    assert found["tcp_user_timeout"] == "60000"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://[db/x",
        "host",
        "nonsense=1",
        "s3cret",
        "host=db password='s3cret",
        "postgresql://ada:p%zzs3cret@db/x",
        "postgresql://ada@db/x?password=s3%zzcret",
        "host=db password=s3cret\udcff",
    ],
)
def test_url_that_cannot_be_parsed_is_a_database_error_that_quotes_nothing(
    url: str,
) -> None:
    address = Address(url)

    with pytest.raises(DatabaseError) as caught:
        address.dsn()

    assert str(caught.value) == (
        "the database URL is not valid: check its quotes, and the "
        "percent-encoding of special characters"
    )
    # libpq's own words would be printed with a traceback.
    assert caught.value.__suppress_context__ is True
    assert str(address) == "(not valid)"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("schema=public", "schema"),
        ("pool_size=5", "pool_size"),
        ("sslmode=require&charset=utf8", "charset"),
    ],
)
def test_parameter_of_another_client_is_named(query: str, name: str) -> None:
    with pytest.raises(DatabaseError, match=f"{name!r}, which libpq"):
        Address(f"postgresql://ada:s3cret@db/x?{query}").check()


@pytest.mark.parametrize(
    "url",
    [
        # An @ that is not encoded: what follows ? could be of the password.
        "postgresql://ada:p%zz?s3cret=x@db/x",
        "postgresql://ada@db/x?s3%zzcret=1",
    ],
)
def test_what_could_be_of_a_password_is_not_named(url: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        Address(url).check()

    assert "cret" not in str(caught.value)


# The password.


def test_password_of_the_file_wins_and_is_read_at_each_try(tmp_path: Path) -> None:
    file = tmp_path / "password"
    address = Address("postgresql://ada:old@db/x", str(file))

    file.write_text("first'\\ one\n")
    first = parse_dsn(address.dsn())["password"]
    file.write_text("second\r\n")
    second = parse_dsn(address.dsn())["password"]

    assert (first, second) == ("first'\\ one", "second")


def test_only_line_ends_are_cut_off_a_password(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" s p \n\n")

    assert parse_dsn(Address("host=db", str(file)).dsn())["password"] == " s p "


def test_password_file_that_is_not_there_is_a_database_error(tmp_path: Path) -> None:
    file = tmp_path / "password"

    assert problem(Address("host=db", str(file))) == (
        f"cannot read BRIDGE_DATABASE_PASSWORD_FILE {str(file)!r}: "
        "No such file or directory"
    )


def test_password_file_that_is_no_text_is_a_database_error(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"p\xe4ss\n")

    assert problem(Address("host=db", str(file))) == (
        f"cannot read BRIDGE_DATABASE_PASSWORD_FILE {str(file)!r}: "
        "it is not text in UTF-8"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:s3cret@db/x", "host=db user=ada dbname=x"),
        ("postgresql://:s3cret@db/x", "host=db dbname=x"),
        ("postgresql://db/x?password=s3cret", "host=db dbname=x"),
        ("postgresql://ada@db:5432/x", "host=db port=5432 user=ada dbname=x"),
        ("host=db password=s3cret dbname=x", "host=db dbname=x"),
        ("password = 's3 cret' host=db", "host=db"),
        (r"host=db password='s3\'cret' dbname=x", "host=db dbname=x"),
        (r"host=db password=s3\ cret", "host=db"),
        ("host=db password=s3&cret", "host=db"),
        ("host=db sslpassword=s3cret sslmode=require", "host=db"),
        ("service=main hostaddr=192.0.2.1", "service=main hostaddr=192.0.2.1"),
        ("host=@abstract", "host=@abstract"),
        ("host=/run/postgresql", "host=/run/postgresql"),
        ("", ""),
    ],
)
def test_address_is_shown_by_its_place_alone(url: str, shown: str) -> None:
    assert str(Address(url)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:p@s3cret@db/x",
        "postgresql://ada:p#s3cret@db/x",
        "postgresql://ada:p?s3cret@db/x",
        "postgresql://ada:p[s3cret@db/x",
        "postgresql://ada:p/s3cret@db/x",
        "postgresql://ada:s3cret/p:w@db/x",
        "postgresql://ada:p@s3cret:w@db/x",
        "postgresql://ada:p@s3cret/w@db/x",
    ],
)
def test_password_that_is_not_encoded_is_not_shown(url: str) -> None:
    assert "s3cret" not in str(Address(url))


def test_repr_does_not_show_the_url() -> None:
    assert repr(Address("postgresql://ada:s3cret@db/x", "/run/password")) == (
        "Address(password_file='/run/password')"
    )


# Names.


def test_name_is_resolved_beside_its_host() -> None:
    names = Names(db=["192.0.2.1"])

    found = parameters("host=db", names)

    assert found == {"host": "db", "hostaddr": "192.0.2.1", "port": "5432"}
    assert names.asked == ["db"]


def test_every_address_of_a_name_is_tried_in_order() -> None:
    names = Names(db=["192.0.2.1", "2001:db8::1"])

    assert parameters("host=db port=5433", names) == {
        "host": "db,db",
        "hostaddr": "192.0.2.1,2001:db8::1",
        "port": "5433,5433",
    }


def test_several_hosts_share_one_port() -> None:
    names = Names(a=["192.0.2.1", "192.0.2.2"], b=["192.0.2.3"])

    assert parameters("host=a,b port=5433", names) == {
        "host": "a,a,b",
        "hostaddr": "192.0.2.1,192.0.2.2,192.0.2.3",
        "port": "5433,5433,5433",
    }


def test_several_hosts_keep_their_ports() -> None:
    names = Names(a=["192.0.2.1", "192.0.2.2"], b=["192.0.2.3"])

    found = parameters("postgresql://a:1,b:2/x", names)

    assert (found["host"], found["port"]) == ("a,a,b", "1,1,2")
    assert names.asked == ["a", "b"]


def test_host_that_is_not_found_is_left_out_when_another_is() -> None:
    names = Names(b=["192.0.2.3"])

    assert parameters("host=a,b port=1,2", names) == {
        "host": "b",
        "hostaddr": "192.0.2.3",
        "port": "2",
    }


def test_no_host_that_is_found_is_a_database_error() -> None:
    assert problem(Address("host=a,b"), Names()) == (
        "cannot resolve 'a': Name or service not known; "
        "cannot resolve 'b': Name or service not known"
    )


def test_problem_without_a_text_of_the_system_says_what_it_has() -> None:
    def late(host: str) -> Sequence[str]:
        raise TimeoutError("no answer within 5 s")

    with pytest.raises(DatabaseError) as caught:
        Address("host=db").dsn(late)

    assert str(caught.value) == "cannot resolve 'db': no answer within 5 s"


@pytest.mark.parametrize(
    "url",
    ["dbname=x", "host=/run/postgresql dbname=x", "host=@abstract,/tmp dbname=x"],
)
def test_unix_socket_is_not_resolved(url: str) -> None:
    names = Names()

    assert parameters(url, names) == parse_dsn(url)
    assert names.asked == []


def test_unix_socket_beside_a_name_keeps_its_place() -> None:
    names = Names(db=["192.0.2.1"])

    assert parameters("host=/tmp,db port=1,2", names) == {
        "host": "/tmp,db",
        "hostaddr": ",192.0.2.1",
        "port": "1,2",
    }


def test_address_that_is_given_is_not_resolved() -> None:
    names = Names()

    assert parameters("host=db hostaddr=192.0.2.9", names) == {
        "host": "db",
        "hostaddr": "192.0.2.9",
    }
    assert names.asked == []


def test_service_is_left_to_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "the_service_names_another")
    names = Names()

    assert parameters("service=main", names) == {"service": "main"}
    assert names.asked == []


def test_hosts_and_ports_that_do_not_match_are_left_to_libpq() -> None:
    names = Names()

    assert parameters("host=a,b,c port=1,2", names) == {
        "host": "a,b,c",
        "port": "1,2",
    }
    assert names.asked == []


def test_without_resolver_names_are_left_to_libpq() -> None:
    assert parameters("host=db") == {"host": "db"}


def test_host_and_port_of_the_environment_are_resolved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "db")
    monkeypatch.setenv("PGPORT", "5433")

    assert parameters("dbname=x", Names(db=["192.0.2.1"])) == {
        "dbname": "x",
        "host": "db",
        "hostaddr": "192.0.2.1",
        "port": "5433",
    }


def test_host_of_the_url_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("PGPORT", "5433")

    assert parameters("host=db port=1", Names(db=["192.0.2.1"])) == {
        "host": "db",
        "hostaddr": "192.0.2.1",
        "port": "1",
    }


def test_missing_psycopg2_says_which_command_to_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.delitem(sys.modules, "bridge.postgres.address")

    with pytest.raises(ImportError) as caught:
        importlib.import_module("bridge.postgres.address")

    assert str(caught.value) == (
        "pgbridge needs psycopg2: run  pip install 'pgbridge[binary]'  "
        "(or 'pgbridge[psycopg2]', which compiles it)"
    )


@pytest.mark.parametrize("port", ["abc", ""])
def test_port_that_is_no_number_is_left_to_libpq(port: str) -> None:
    found = parameters(f"host=db port='{port}' dbname=x", Names(db=["192.0.2.1"]))

    assert found["hostaddr"] == "192.0.2.1"
