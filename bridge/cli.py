"""The command `pgbridge`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, NoReturn

from bridge import __version__
from bridge.server.run_folder import RunFolder
from bridge.values.channels import MAX_CHANNEL_BYTES, MAX_LISTEN_BYTES, check_channel
from bridge.values.cursor import parse_cursor
from bridge.values.environment import variable
from bridge.values.errors import BridgeError, SettingsError
from bridge.values.settings import Settings

if TYPE_CHECKING:
    from bridge.postgres.address import Address

__all__ = ["main"]

# Modules that need psycopg2 are imported where they are used: its absence is
# an error message then, and `pgbridge settings` works without it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # A shell's background job has it ignored, and so has what that starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in ("serve", "doctor"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if options.command == "serve":
            return _serve(options.public, rest)
        if options.command == "demo":
            return _demo(options.port)
        if options.command == "publish":
            return _publish(options.channel, options.payload, options.durable)
        if options.command == "listen":
            return _listen(options.channels, options.after)
        if options.command == "settings":
            return _settings()
        if options.command == "doctor":
            return _doctor(rest)
        if options.command == "clients":
            return _clients(options.channel)
        return _schema(options)
    except (BridgeError, ImportError) as exc:
        print(f"pgbridge: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has enough; nothing more to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgbridge",
        description="Committed PostgreSQL changes to browsers, in real time.",
        epilog="The database is BRIDGE_DATABASE_URL, else DATABASE_URL.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve",
        help="start Gunicorn with pgbridge's configuration",
        usage="pgbridge serve [--public PATTERNS] [gunicorn options]",
    )
    serve.add_argument(
        "--public",
        metavar="PATTERNS",
        help="channels open to everybody: BRIDGE_PUBLIC_CHANNELS",
    )
    demo = commands.add_parser("demo", help="start the demo: a site and a bridge")
    demo.add_argument(
        "--port", type=int, default=8000, help="the site's; the bridge takes the next"
    )
    publish = commands.add_parser("publish", help="publish one notification")
    publish.add_argument("channel")
    publish.add_argument("payload", help="text; - reads it from standard input")
    publish.add_argument(
        "--durable", action="store_true", help="through the journal, which keeps it"
    )
    listen = commands.add_parser(
        "listen", help="print notifications as lines of JSON, until interrupted"
    )
    listen.add_argument("channels", nargs="+", metavar="channel")
    listen.add_argument(
        "--after",
        metavar="CURSOR",
        help="entries of the journal after this one, then those to come",
    )
    for name, help in (
        ("install", "create schema bridge, for durable channels; safe to run twice"),
        ("upgrade", "run the migrations that schema bridge lacks"),
    ):
        command = commands.add_parser(name, help=help)
        command.add_argument(
            "--worker-role",
            metavar="ROLE",
            help="the role of the workers, if it is not the one that runs this",
        )
    uninstall = commands.add_parser(
        "uninstall", help="drop schema bridge, and all that is kept"
    )
    uninstall.add_argument("--yes", action="store_true", required=True)
    commands.add_parser("status", help="print how the journal does")
    durable = commands.add_parser("durable", help="which channels are kept")
    durable.add_argument("what", choices=("add", "remove", "list"))
    durable.add_argument("pattern", nargs="?", help="* stands for any characters")
    commands.add_parser(
        "doctor",
        help="say what would not work, and what to do",
        usage="pgbridge doctor [gunicorn options]",
    )
    clients = commands.add_parser(
        "clients", help="print who is connected to this host's workers"
    )
    clients.add_argument("channel", nargs="?", help="only those who have this one")
    commands.add_parser("settings", help="print the effective settings")
    return parser


def _serve(public: str | None, options: list[str]) -> NoReturn:
    if public is not None:
        os.environ["BRIDGE_PUBLIC_CHANNELS"] = public
    workers = os.environ.get("WEB_CONCURRENCY", "1")
    if not workers.isdecimal():  # Gunicorn would answer with a traceback
        raise SettingsError(
            [f"WEB_CONCURRENCY={workers!r} is no whole number of workers: 1 or more"]
        )
    if not _has_config(options):
        options = ["-c", "python:bridge.hooks.gunicorn_conf", *options]
    # exec: Gunicorn's own restart (USR2) runs the same command line again.
    os.execv(
        sys.executable,
        [sys.executable, "-m", "gunicorn", *options, "bridge.app:create_app()"],
    )


def _has_config(options: Sequence[str]) -> bool:
    return any(
        option == "--config" or option.startswith(("-c", "--config="))
        for option in options
    )


def _demo(port: int) -> int:
    from bridge.demo.run import run

    return run(port)


def _publish(channel: str, payload: str, durable: bool) -> int:
    from bridge.postgres.session import publish

    text = sys.stdin.read() if payload == "-" else payload
    most = MAX_CHANNEL_BYTES if durable else MAX_LISTEN_BYTES
    publish(_address(), check_channel(channel, most), text, durable=durable)
    return 0


def _listen(channels: Sequence[str], after: str | None) -> int:
    from bridge.postgres.listen import listen

    cursor = None if after is None else parse_cursor(after)
    for published in listen(_address(), channels, cursor):
        print(json.dumps(published, ensure_ascii=False), flush=True)
    return 0


def _schema(options: argparse.Namespace) -> int:
    from bridge.postgres import schema

    address = _address()
    if options.command == "status":
        for name, value in schema.status(address).items():
            print(f"{name:10} {value}")
    elif options.command == "uninstall":
        schema.uninstall(address)
        print("schema bridge is gone")
    elif options.command == "durable":
        if (options.pattern is None) != (options.what == "list"):
            raise SettingsError(
                ["pgbridge durable add PATTERN | remove PATTERN | list"]
            )
        chosen = {options.what: options.pattern}
        patterns = schema.durable(
            address, add=chosen.get("add"), remove=chosen.get("remove")
        )
        print("\n".join(patterns))
    else:
        change = schema.install if options.command == "install" else schema.upgrade
        print(f"schema bridge, version {change(address, options.worker_role)}")
    return 0


def _doctor(gunicorn_options: list[str]) -> int:
    from bridge.doctor import diagnose

    failed = False
    for finding in diagnose(gunicorn_options):
        print(finding, flush=True)
        failed |= finding.level == "FAIL"
    return int(failed)


def _clients(channel: str | None) -> int:
    settings, _, _ = Settings.from_environ(os.environ)
    for client in RunFolder(settings.run_folder).clients():
        if channel is None or channel in client["channels"]:
            print(json.dumps(client, ensure_ascii=False), flush=True)
    return 0


def _address() -> Address:
    from bridge.postgres.address import Address

    settings, _, _ = Settings.from_environ(os.environ)
    return Address(settings.required_database_url, settings.database_password_file)


def _settings() -> int:
    settings, sources, warnings = Settings.from_environ(os.environ)
    for item in fields(Settings):
        value = getattr(settings, item.name)
        shown = ",".join(value) if isinstance(value, tuple) else value
        if item.metadata["secret"] and value is not None:
            from bridge.postgres.address import Address

            shown = Address(value)
        if item.name not in sources:
            print(f"{variable(item)}={item.metadata['shown']}  (default)")
        else:
            print(f"{variable(item)}={shown}  (from {sources[item.name]})")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
