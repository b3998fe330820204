"""What a site's policy imports, and how the bridge finds it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bridge import access
from bridge.access import Request
from bridge.access.policy import load_policy

PAGE = Path(__file__).parents[2] / "docs" / "access.md"


def test_public_place_has_what_the_page_names() -> None:
    section = PAGE.read_text().partition("### What a policy imports")[2]
    column = " ".join(re.findall(r"^\| (`.*?) \|", section, re.M))

    assert set(re.findall(r"`(\w+)`", column)) == set(access.__all__)
    assert all(hasattr(access, name) for name in access.__all__)


def test_public_place_brings_no_gevent() -> None:
    """A site's own process may import its policy, with threads and no gevent."""
    code = "import sys, bridge.access; sys.exit('gevent' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_request_shows_nothing_secret() -> None:
    request = Request(
        path="/ws",
        headers={"authorization": "Bearer s3cret"},
        cookies={"session": "s3cret"},
        query={"channel": "s3cret"},
        address="192.0.2.1",
    )

    assert repr(request) == "Request(path='/ws', address='192.0.2.1')"


class Policies(ModuleType):
    """A module of an application."""

    class AClass:
        def identify(self, request: Request) -> None:
            return None

        def may_subscribe(self, identity: object, channel: str) -> bool:
            return True

    an_object = AClass()

    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no database yet")

    class Half:
        def identify(self, request: Request) -> None:
            return None

    class NotCallable:
        identify = "ada"
        may_subscribe = True


@pytest.fixture(autouse=True)
def policies(monkeypatch: pytest.MonkeyPatch) -> Policies:
    module = Policies("a_site.policies")
    monkeypatch.setitem(sys.modules, "a_site", ModuleType("a_site"))
    monkeypatch.setitem(sys.modules, "a_site.policies", module)
    return module


@pytest.mark.parametrize("separator", [".", ":"])
def test_object_is_taken_as_it_is(separator: str, policies: Policies) -> None:
    assert load_policy(f"a_site.policies{separator}an_object") is policies.an_object


def test_class_is_called_without_arguments(policies: Policies) -> None:
    assert type(load_policy("a_site.policies.AClass")) is policies.AClass


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("a_site.policies.Missing", "AttributeError: .*Missing.*"),
        ("no_such_site.Policy", "ModuleNotFoundError: No module named 'no_such_site'"),
        ("a_site.policies.Broken", "RuntimeError: no database yet"),
        ("a_site.policies.Half", "it has no method 'may_subscribe'"),
        ("a_site.policies.NotCallable", "it has no method 'identify'"),
    ],
)
def test_what_is_no_policy_says_why(path: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        load_policy(path)
