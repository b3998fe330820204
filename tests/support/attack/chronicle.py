"""A copy of everything that the journal ever had, made as it comes in.

Retention and a new installation take entries away, and the checker needs them.
A trigger of the test's own copies each step's entries in the same transaction.
"""

from __future__ import annotations

from support.attack.truth import Journal
from support.postgres import Database

__all__ = ["attach", "create", "read"]

NUMBER = r"""substring(o.payload FROM '"n" ?: ?(\d+)')::integer"""

CREATE = """
CREATE TABLE IF NOT EXISTS public.chronicle (
    epoch text NOT NULL,
    pos bigint NOT NULL,
    channel text NOT NULL,
    number integer
);

CREATE OR REPLACE FUNCTION public.write_chronicle()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO public.chronicle
    SELECT s.epoch, f.pos, f.channel,
        {number}
    FROM fresh AS f
    JOIN bridge.outbox AS o ON o.id = f.id
    CROSS JOIN bridge.state AS s;
    RETURN NULL;
END
$$;
"""

ATTACH = """
CREATE TRIGGER write_chronicle AFTER INSERT ON bridge.journal
REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION public.write_chronicle();

INSERT INTO public.chronicle
SELECT s.epoch, j.pos, j.channel, {number}
FROM bridge.journal AS j
JOIN bridge.outbox AS o ON o.id = j.id
CROSS JOIN bridge.state AS s;
"""
"""Nobody steps between the two: the trigger locks the table. What came before
it, in a schema that was just installed, is copied afterwards."""


def create(database: Database) -> None:
    """Begin to copy what the journal of schema bridge gets."""
    database.execute(CREATE.format(number=NUMBER))
    attach(database)


def attach(database: Database) -> None:
    """Go on after schema bridge was installed anew."""
    database.execute(ATTACH.format(number=NUMBER))


def read(database: Database) -> Journal:
    """Return all that was copied."""
    query = "SELECT epoch, pos, channel, number FROM public.chronicle"
    return Journal(database.execute(query))
