"""The command line: `python -m rfc6455`.

The suite needs Python 2.7; it is installed once, into `.build/autobahn`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from support.gunicorn import Gunicorn
from support.temporary import nothing_left

from rfc6455.echo import SETTINGS

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / ".build" / "autobahn"
SUITE = "autobahntestsuite==25.10.1"

ECHO_ARGUMENTS = ("--pythonpath", str(ROOT / "tests"))
ECHO = "rfc6455.echo:create_app()"

NOWHERE = "postgresql://127.0.0.1:1/none"
"""An echo needs no database, and starts without one."""

AGENT = "pgbridge"

NOT_TRIED = ["12.*", "13.*"]
"""Compression, which pgbridge does not offer."""

GOOD = ("OK", "INFORMATIONAL", "NON-STRICT")


@nothing_left()
def main() -> int:
    """Run the suite; 1 when a case has failed, 2 when it cannot be run."""
    options = _options()
    python = _python(options.python)
    if python is None:
        print(
            "autobahn: the suite needs Python 2.7, and there is none: "
            "python -m rfc6455 --python PATH",
            file=sys.stderr,
        )
        return 2
    _install(python)
    server = echo_server()
    try:
        server.start(ready=False)
        _run(python, server.port, options.cases)
    finally:
        server.end()
    results = _results()
    print(summary(results))
    for case, behavior in sorted(results.items()):
        if behavior not in GOOD:
            print(f"  {case}: {behavior}")
    return int(not results or any(one not in GOOD for one in results.values()))


def echo_server() -> Gunicorn:
    """Return the echo in a real Gunicorn, not started."""
    server = Gunicorn(
        NOWHERE,
        application=ECHO,
        arguments=("-c", "python:bridge.hooks.gunicorn_conf", *ECHO_ARGUMENTS),
        **SETTINGS,
    )
    return server


def summary(results: dict[str, str]) -> str:
    """Say how many cases went how, from the behavior of each."""
    counts = Counter(results.values())
    failed = sum(count for name, count in counts.items() if name not in GOOD)
    said = ", ".join(f"{counts[name]} {name}" for name in GOOD)
    return f"{len(results)} cases: {said}, {failed} failed"


def _python(given: str | None) -> Path | None:
    """Return a Python 2.7 that runs, where there is one."""
    candidates = [given or shutil.which("python2.7")]
    if given is None:
        managed = Path.home().glob(".pyenv/versions/2.7.*/bin/python2.7")
        candidates += map(str, sorted(managed))
    for candidate in candidates:
        if candidate is not None and _is_python_2(candidate):
            return Path(candidate)
    return None


def _is_python_2(program: str) -> bool:
    command = [program, "-c", "import sys; sys.exit(sys.version_info[:2] != (2, 7))"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def _install(python: Path) -> None:
    if (BUILD / "suite" / "autobahntestsuite").exists():
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        + ["--target", BUILD / "suite", SUITE],
        check=True,
    )


def _run(python: Path, port: int, cases: list[str]) -> None:
    shutil.rmtree(BUILD / "reports", ignore_errors=True)
    specification = {
        "outdir": str(BUILD / "reports"),
        "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{port}/echo"}],
        "cases": cases,
        "exclude-cases": NOT_TRIED,
        "exclude-agent-cases": {},
    }
    file = BUILD / "specification.json"
    file.write_text(json.dumps(specification))
    # A folder of packages as Python 2 wants it, with its namespaces.
    program = (
        f"import site; site.addsitedir({str(BUILD / 'suite')!r}); "
        "from autobahntestsuite.wstest import run; run()"
    )
    subprocess.run(
        [python, "-E", "-c", program, "-m", "fuzzingclient", "-s", file],
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _results() -> dict[str, str]:
    """Return what became of each case, its closing handshake included."""
    file = BUILD / "reports" / "index.json"
    if not file.exists():
        return {}
    cases: dict[str, Any] = json.loads(file.read_text())[AGENT]
    return {
        name: case["behavior"]
        if case["behaviorClose"] in GOOD
        else case["behaviorClose"]
        for name, case in cases.items()
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m rfc6455")
    parser.add_argument("--python", help="a Python 2.7")
    parser.add_argument("--cases", nargs="+", default=["*"], metavar="1.1.*")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
