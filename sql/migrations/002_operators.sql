-- Schema bridge, version 2: what pages and operators ask.
--
-- Run by `pgbridge install`, or by hand after 001. Safe to run twice.

BEGIN;

SET LOCAL client_min_messages = warning;

DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('pgbridge install', 0));
END
$$;

SET LOCAL lock_timeout = '3s';

-- A cursor for a page that renders state on the server.
--
-- Ask for it before the state is read, or in the same snapshot: the page that
-- subscribes with it gets every event that the state does not contain.
CREATE OR REPLACE FUNCTION bridge.cursor()
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.epoch || '-' || (SELECT max(t.pos) FROM bridge.tick AS t)
    FROM bridge.state AS s
    WHERE s.one
$$;

COMMENT ON FUNCTION bridge.cursor() IS
    'where the journal stands: ask before the state of a page is read';

-- Erase the payloads that are kept of a channel. Clients that resume across
-- them are told a gap; workers forget what they have in memory.
--
-- Returns: how many were erased.
CREATE OR REPLACE FUNCTION bridge.purge(channel text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    erased bigint;
BEGIN
    DELETE FROM bridge.outbox AS o
    USING bridge.journal AS j
    WHERE j.channel = purge.channel
    AND o.id = j.id;
    GET DIAGNOSTICS erased = ROW_COUNT;
    PERFORM pg_catalog.pg_notify('bridge_journal', 'forget');
    RETURN erased;
END
$$;

COMMENT ON FUNCTION bridge.purge(text) IS 'erase the payloads kept of a channel';

-- One row for whoever looks after it.
CREATE OR REPLACE VIEW bridge.status AS
SELECT
    s.version,
    s.epoch,
    t.pos AS position,
    f.pos AS floor,
    waiting.rows AS waiting,
    coalesce(extract(epoch FROM clock_timestamp() - waiting.since), 0)::float8 AS lag,
    t.pos - f.pruned AS rows,
    pg_total_relation_size('bridge.outbox') + pg_total_relation_size('bridge.journal')
        + pg_total_relation_size('bridge.tick') AS bytes,
    (
        SELECT l.pid
        FROM pg_locks AS l
        WHERE l.locktype = 'advisory'
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.classid = bridge.lock_class()::oid
        AND l.objid = 2
        AND l.objsubid = 2
        AND l.granted
        LIMIT 1
    ) AS sequencer,
    EXISTS (SELECT FROM bridge.overflow) AS overflow
FROM bridge.state AS s
CROSS JOIN bridge.floor AS f
CROSS JOIN (SELECT * FROM bridge.tick ORDER BY pos DESC LIMIT 1) AS t
CROSS JOIN LATERAL (
    SELECT count(*) AS rows, min(o.at) AS since
    FROM bridge.outbox AS o
    WHERE o.xid >= pg_snapshot_xmax(t.snap)
    OR o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(t.snap)))
) AS waiting;

COMMENT ON VIEW bridge.status IS 'how the journal does';
COMMENT ON COLUMN bridge.status.version IS 'the last migration';
COMMENT ON COLUMN bridge.status.position IS 'the last position given';
COMMENT ON COLUMN bridge.status.floor IS 'positions up to here may be gone';
COMMENT ON COLUMN bridge.status.waiting IS 'events that have committed and no position';
COMMENT ON COLUMN bridge.status.lag IS 'seconds since the oldest of them was published';
COMMENT ON COLUMN bridge.status.rows IS 'entries that are kept';
COMMENT ON COLUMN bridge.status.bytes IS 'what all of it takes on disk';
COMMENT ON COLUMN bridge.status.sequencer IS 'the backend that steps; NULL: nobody does';
COMMENT ON COLUMN bridge.status.overflow IS 'publishing has stopped: the outbox is full';

REVOKE ALL ON FUNCTION bridge.purge(text) FROM PUBLIC;

UPDATE bridge.state SET version = greatest(version, 2) WHERE one;

-- Workers that run look now, and not in half a minute.
DO $$
BEGIN
    PERFORM pg_catalog.pg_notify('bridge_journal', 'schema');
END
$$;

COMMIT;
