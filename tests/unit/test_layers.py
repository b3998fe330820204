"""The house has floors: a module imports from lower ones only."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import bridge
from bridge import hooks

FLOORS: tuple[tuple[str, ...], ...] = (
    ("values",),
    ("wire", "core", "access"),
    ("postgres", "clients", "contrib"),
    ("server",),
    ("operations",),
    ("worker app hooks",),
    ("doctor cli demo",),
)
"""From the ground up. Each floor has rooms, which do not import each other. A
room is a folder, or modules that belong together; what is in it may import each
other. Nobody imports the folders of data, `bridge.sql` and `bridge.static`."""

PURE = ("values", "wire", "core")
"""Rooms that import the standard library only."""

ROOT = Path(__file__).parents[2]

Place = tuple[int, str]


def place(module: str) -> Place | None:
    """Floor and room of a module; None when it has none."""
    name = module.split(".")[1] if "." in module else "values"
    for floor, rooms in enumerate(FLOORS):
        for room in rooms:
            if name in room.split():
                return floor, room
    return None


def imports(module: str, source: str, known: Mapping[str, str]) -> Iterator[str]:
    """Give the full name of every module that `source` imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, *base.split(".")]).rstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield whole if whole in known else base


def violations(modules: Mapping[str, str]) -> list[str]:
    """Hold modules, by name and source, against the floors."""
    found = []
    for module, source in sorted(modules.items()):
        own = place(module)
        if own is None:
            found.append(f"{module} stands on no floor")
            continue
        short = module.rpartition(".")[2]
        if short in sys.stdlib_module_names:
            found.append(f"{module} bears a name of the standard library")
        for imported in sorted(set(imports(module, source, modules))):
            library = imported.partition(".")[0]
            if library != "bridge":
                if own[1] in PURE and library not in sys.stdlib_module_names:
                    found.append(f"{module} is pure and imports {imported}")
                if short == library and library not in sys.stdlib_module_names:
                    found.append(f"{module} bears the name of what it imports")
                continue
            theirs = place(imported)
            if theirs is None:
                found.append(f"{module} imports {imported}, which stands on no floor")
            elif theirs[0] > own[0]:
                found.append(f"{module} imports {imported} from a higher floor")
            elif theirs[0] == own[0] and theirs[1] != own[1]:
                found.append(f"{module} imports {imported} from the next room")
    return found


def house() -> dict[str, str]:
    """Every module of the package: its source by its name."""
    found = {}
    # In a checkout the hooks are beside the package, in a wheel inside it.
    for name, file in (("bridge", bridge), ("bridge.hooks", hooks)):
        assert file.__file__ is not None
        root = Path(file.__file__).parent
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            module = ".".join((name, *parts)).removesuffix(".__init__")
            if not module.startswith(("bridge.sql", "bridge.static")):
                found[module] = path.read_text(encoding="utf-8")
    return found


def test_house_keeps_its_floors() -> None:
    assert violations(house()) == []


def test_nothing_in_a_worker_uses_select() -> None:
    """It refuses descriptors from 1,024 on; selectors stop the event loop."""
    uses = re.compile(
        r"\bselectors\b|\bselect\.select\b"
        r"|^ *from (gevent|gevent\.select|select) import .*\bselect\b",
        re.M,
    )
    found = {module for module, source in house().items() if uses.search(source)}

    assert found == {"bridge.postgres.listen"}  # the command line's


def test_design_has_a_row_for_each_floor() -> None:
    """The table's first column are the folders and modules, floor by floor."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = page.partition("## The house")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.M)

    assert [sorted(re.findall(r"`([a-z]+)/?`", row)) for row in rows] == [
        sorted(" ".join(rooms).split()) for rooms in FLOORS
    ]


def test_every_folder_and_module_has_a_room() -> None:
    found = {module.split(".")[1] for module in house() if "." in module}

    assert found == set(" ".join(" ".join(rooms) for rooms in FLOORS).split())


def test_house_is_seen_whole() -> None:
    modules = house()

    assert {
        "bridge",
        "bridge.values.errors",
        "bridge.wire",
        "bridge.wire.frames",
        "bridge.postgres.listener",
        "bridge.app",
        "bridge.demo.run",
        "bridge.hooks.server",
    } <= modules.keys()
    seen = set(imports("bridge.core.hub", modules["bridge.core.hub"], modules))
    assert {"bridge.core.subscription", "dataclasses"} <= seen


# That the test sees violations.

LOWER = {
    name: ""
    for name in ("bridge", "bridge.values.errors", "bridge.core.hub", "bridge.app")
}


@pytest.mark.parametrize(
    ("module", "source", "violation"),
    [
        (
            "bridge.core.hub",
            "import gevent",
            "bridge.core.hub is pure and imports gevent",
        ),
        (
            "bridge.wire.frames",
            "def f():\n    from geventwebsocket.utf8validator import X",
            "bridge.wire.frames is pure and imports geventwebsocket.utf8validator",
        ),
        (
            "bridge.values.message",
            "from bridge.wire import frames",
            "bridge.values.message imports bridge.wire from a higher floor",
        ),
        (
            "bridge.values.message",
            "from bridge.core import hub",
            "bridge.values.message imports bridge.core.hub from a higher floor",
        ),
        (
            "bridge.values.message",
            "from ..core import hub",
            "bridge.values.message imports bridge.core.hub from a higher floor",
        ),
        (
            "bridge.wire.native",
            "from ..core.hub import Hub",
            "bridge.wire.native imports bridge.core.hub from the next room",
        ),
        (
            "bridge.core.hub",
            "import bridge.wire.native",
            "bridge.core.hub imports bridge.wire.native from the next room",
        ),
        (
            "bridge.core.subscription",
            "if TYPE_CHECKING:\n    import bridge.postgres.pool",
            "bridge.core.subscription imports bridge.postgres.pool from a higher floor",
        ),
        (
            "bridge.clients.websocket",
            "from bridge.contrib import flask",
            "bridge.clients.websocket imports bridge.contrib from the next room",
        ),
        (
            "bridge.postgres.pool",
            "from bridge.clients import outlet",
            "bridge.postgres.pool imports bridge.clients from the next room",
        ),
        (
            "bridge.clients.websocket",
            "import bridge.server.lag",
            "bridge.clients.websocket imports bridge.server.lag from a higher floor",
        ),
        (
            "bridge.server.runtime",
            "from bridge import app",
            "bridge.server.runtime imports bridge.app from a higher floor",
        ),
        (
            "bridge.app",
            "import bridge.cli",
            "bridge.app imports bridge.cli from a higher floor",
        ),
        (
            "bridge.app",
            "from bridge.utils import tidy",
            "bridge.app imports bridge.utils, which stands on no floor",
        ),
        ("bridge.utils", "", "bridge.utils stands on no floor"),
        (
            "bridge.wire.http",
            "",
            "bridge.wire.http bears a name of the standard library",
        ),
        (
            "bridge.postgres.psycopg2",
            "import psycopg2.sql",
            "bridge.postgres.psycopg2 bears the name of what it imports",
        ),
    ],
)
def test_violation_is_seen(module: str, source: str, violation: str) -> None:
    assert violations({**LOWER, module: source}) == [violation]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bridge.values.message", "from bridge.values.errors import ClientError"),
        ("bridge.core.hub", "from functools import lru_cache\nimport collections.abc"),
        ("bridge.core.conversation", "from bridge.core.hub import Hub"),
        ("bridge.wire.native", "from . import frames\nfrom .frames import Text"),
        ("bridge.clients.outlet", "import gevent\nfrom bridge.core import hub"),
        ("bridge.cli", "from bridge import __version__"),
        ("bridge.hooks.server", "from bridge.app import create_app"),
    ],
)
def test_what_is_allowed_is_no_violation(module: str, source: str) -> None:
    assert violations({**LOWER, module: source}) == []
