"""The demo's site: a form that saves rows, and the rows that were saved.

It stands for the application that a team already has: Flask, psycopg2 and one
table. Who else learns of a row, and how, is not its business; one page asks the
database for a cursor, so that a browser can go on from what was rendered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from typing import Any

import psycopg2
from flask import Flask, render_template, request
from flask.typing import ResponseReturnValue
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extras import RealDictCursor
from werkzeug.exceptions import BadRequest

__all__ = ["create_site"]

MAX_ID = 2**31 - 1
"""The column is an integer."""

MAX_NAME_CHARACTERS = 200

MAX_ROWS = 20
"""What a page shows at its start."""

SELECT_ROWS = """
SELECT pk, id, name, saved_at
FROM my_table
WHERE id = %s
ORDER BY pk DESC
LIMIT %s
"""

CONNECT_TIMEOUT = 3
"""Seconds; a reader should not wait longer to hear that nothing was saved."""


def create_site() -> Flask:
    """Create the application, for the database that DATABASE_URL names.

    Raises:
        KeyError: DATABASE_URL is not set.
    """
    database_url = os.environ["DATABASE_URL"]
    folder = str(files("bridge.static") / "demo")
    site = Flask(
        __name__,
        template_folder=folder,
        static_folder=folder,
        static_url_path="/static/demo",
    )

    @contextmanager
    def transaction(isolation: int | None = None) -> Iterator[RealDictCursor]:
        connection = psycopg2.connect(database_url, connect_timeout=CONNECT_TIMEOUT)
        with closing(connection) as conn:
            conn.set_session(isolation_level=isolation)
            with conn, conn.cursor(cursor_factory=RealDictCursor) as cursor:
                yield cursor

    def query(statement: str, *values: object) -> list[dict[str, Any]]:
        with transaction() as cursor:
            cursor.execute(statement, values)
            return [_as_json(row) for row in cursor]

    def bridge_url() -> str:
        return os.environ.get("DEMO_BRIDGE_URL", "http://127.0.0.1:8001")

    @site.get("/")
    def page() -> str:
        return render_template("index.html", bridge_url=bridge_url())

    @site.post("/save")
    def save() -> ResponseReturnValue:
        form = request.get_json(silent=True)
        if not isinstance(form, dict):
            raise BadRequest("send a JSON object with id and name")
        (row,) = query(
            """
            INSERT INTO my_table (id, name)
            VALUES (%s, %s)
            RETURNING pk, id, name, saved_at
            """,
            _checked_id(form.get("id")),
            _checked_name(form.get("name")),
        )
        return row, 201

    @site.get("/rows")
    def rows() -> ResponseReturnValue:
        id = _checked_id(request.args.get("id", type=int))
        return query(SELECT_ROWS, id, MAX_ROWS)

    @site.get("/rendered")
    def rendered() -> str:
        id = _checked_id(request.args.get("id", 7, type=int))
        # One snapshot: what it does not contain comes after the cursor.
        with transaction(ISOLATION_LEVEL_REPEATABLE_READ) as cursor:
            cursor.execute("SELECT bridge.cursor() AS position")
            ((position,),) = (row.values() for row in cursor)
            cursor.execute(SELECT_ROWS, (id, MAX_ROWS))
            found = [_as_json(row) for row in cursor]
        return render_template(
            "rendered.html",
            bridge_url=bridge_url(),
            cursor=position,
            id=id,
            rows=found,
        )

    @site.errorhandler(BadRequest)
    def refused(error: BadRequest) -> ResponseReturnValue:
        return {"error": error.description}, 400

    @site.errorhandler(psycopg2.OperationalError)
    def away(error: psycopg2.OperationalError) -> ResponseReturnValue:
        site.logger.warning("the database is away: %s", error)
        return {"error": "the database is away"}, 503

    return site


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "saved_at": row["saved_at"].isoformat()}


def _checked_id(value: object) -> int:
    # A JSON true is an int in Python.
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest("id must be a whole number")
    if not 0 <= value <= MAX_ID:
        raise BadRequest(f"id must be between 0 and {MAX_ID}")
    return value


def _checked_name(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadRequest("name must be a text that is not empty")
    if len(value) > MAX_NAME_CHARACTERS:
        raise BadRequest(f"name must have at most {MAX_NAME_CHARACTERS} characters")
    # What JSON can escape and PostgreSQL cannot store.
    if any(c == "\x00" or "\ud800" <= c <= "\udfff" for c in value):
        raise BadRequest("name must not contain U+0000 or half a surrogate pair")
    return value
