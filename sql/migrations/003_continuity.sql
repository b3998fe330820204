-- Schema bridge, version 3: what a worker has seen is held against what is there;
-- json and jsonb are published as they are.
--
-- Run by `pgbridge install`, or by hand after 002. Safe to run twice.

BEGIN;

SET LOCAL client_min_messages = warning;

DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('pgbridge install', 0));
END
$$;

SET LOCAL lock_timeout = '3s';

-- A time as microseconds, which is what PostgreSQL stores.
CREATE OR REPLACE FUNCTION bridge.moment(at timestamptz)
RETURNS bigint
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (extract(epoch FROM at) * 1000000)::bigint
$$;

COMMENT ON FUNCTION bridge.moment(timestamptz) IS 'a time as microseconds';

-- Whether the positions that were told are still true; arguments
-- as of bridge.check_seen.
CREATE OR REPLACE FUNCTION bridge.is_continued(
    seen_epochs text[], seen_pos bigint, seen_id bigint, seen_moment bigint
)
RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.identity = bridge.identity()
        AND s.timeline = bridge.timeline()
        AND CASE
            -- An epoch that was followed by another does not come back.
            WHEN s.epoch = ANY (seen_epochs[:cardinality(seen_epochs) - 1]) THEN false
            WHEN s.epoch <> seen_epochs[cardinality(seen_epochs)] THEN true
            WHEN seen_pos > (SELECT max(t.pos) FROM bridge.tick AS t) THEN false
            -- Positions that were lost are given again, to other entries.
            WHEN seen_id IS NULL OR seen_pos <= f.pruned THEN true
            ELSE EXISTS (
                SELECT FROM bridge.journal AS j
                WHERE j.pos = seen_pos
                AND j.id = seen_id
                AND bridge.moment(j.at) = seen_moment
            )
        END
    FROM bridge.state AS s
    CROSS JOIN bridge.floor AS f
$$;

COMMENT ON FUNCTION bridge.is_continued(text[], bigint, bigint, bigint) IS
    'whether the positions that were told are still true';

-- Begin a new epoch where this database is not the one any more whose positions
-- were told: it is another one, was promoted, or was set back to an earlier
-- moment. A worker calls it on each new session, before it steps or reads.
--
-- Arguments: the epochs that the worker's host has seen, oldest first, and the
-- last entry that it saw of the last one: position, outbox id, microseconds of
-- bridge.journal.at. NULL: it has seen none, or not the entry itself.
--
-- Returns: what is there now; id and moment are NULL when the entry is gone.
-- Raises: lock_not_available after two seconds.
CREATE OR REPLACE FUNCTION bridge.check_seen(
    seen_epochs text[],
    seen_pos bigint,
    seen_id bigint,
    seen_moment bigint,
    OUT identity text,
    OUT epoch text,
    OUT pos bigint,
    OUT id bigint,
    OUT moment bigint
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
BEGIN
    PERFORM bridge.check_whole();
    IF bridge.is_continued(seen_epochs, seen_pos, seen_id, seen_moment) IS FALSE THEN
        PERFORM FROM bridge.state AS s WHERE s.one FOR UPDATE;
        -- Somebody else may have begun one meanwhile.
        IF bridge.is_continued(seen_epochs, seen_pos, seen_id, seen_moment) IS FALSE THEN
            SELECT max(t.pos) INTO pos FROM bridge.tick AS t;
            IF (SELECT s.identity FROM bridge.state AS s) <> bridge.identity() THEN
                PERFORM bridge.start_over(pos);
            ELSE
                PERFORM bridge.start_epoch(pos);
            END IF;
        END IF;
    END IF;

    SELECT s.identity, s.epoch, t.pos, j.id, bridge.moment(j.at)
    INTO identity, epoch, pos, id, moment
    FROM bridge.state AS s
    CROSS JOIN (SELECT max(k.pos) AS pos FROM bridge.tick AS k) AS t
    LEFT JOIN bridge.journal AS j ON j.pos = t.pos;
END
$$;

COMMENT ON FUNCTION bridge.check_seen(text[], bigint, bigint, bigint) IS
    'begin a new epoch where the database was set back';

-- Begin a new epoch, whatever is there: for whoever has restored a data folder
-- that no running worker has seen. Every page is told a gap; nothing is deleted.
--
-- Returns: the epoch.
-- Raises: lock_not_available after two seconds.
CREATE OR REPLACE FUNCTION bridge.begin_epoch()
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
BEGIN
    PERFORM bridge.check_whole();
    PERFORM FROM bridge.state WHERE one FOR UPDATE;
    PERFORM bridge.start_epoch((SELECT max(t.pos) FROM bridge.tick AS t));
    PERFORM pg_catalog.pg_notify('bridge_journal', '');
    RETURN (SELECT s.epoch FROM bridge.state AS s WHERE s.one);
END
$$;

COMMENT ON FUNCTION bridge.begin_epoch() IS 'begin a new epoch: after a restore';

REVOKE ALL ON FUNCTION
    bridge.check_seen(text[], bigint, bigint, bigint),
    bridge.is_continued(text[], bigint, bigint, bigint),
    bridge.moment(timestamptz),
    bridge.begin_epoch()
FROM PUBLIC;

-- The same as with text: row_to_json(NEW) needs no cast. (A literal is text.)
CREATE OR REPLACE FUNCTION bridge.publish(channel text, payload json)
RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bridge.publish(channel, payload::text)
$$;

COMMENT ON FUNCTION bridge.publish(text, json) IS
    'tell the subscribers of a channel when this transaction commits';

CREATE OR REPLACE FUNCTION bridge.publish(channel text, payload jsonb)
RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT bridge.publish(channel, payload::text)
$$;

COMMENT ON FUNCTION bridge.publish(text, jsonb) IS
    'tell the subscribers of a channel when this transaction commits';

-- Who may step has to ask first: roles of workers that are there already.
DO $$
DECLARE
    worker regrole;
BEGIN
    FOR worker IN
        SELECT a.grantee
        FROM pg_proc AS p, aclexplode(p.proacl) AS a
        WHERE p.oid = 'bridge.step()'::regprocedure
        AND a.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION '
            'bridge.check_seen(text[], bigint, bigint, bigint) TO %s',
            worker
        );
    END LOOP;
END
$$;

-- What 001 had.
DROP FUNCTION IF EXISTS bridge.count_dropped(integer);

UPDATE bridge.state SET version = greatest(version, 3) WHERE one;

-- Workers that run look now, and not in half a minute.
DO $$
BEGIN
    PERFORM pg_catalog.pg_notify('bridge_journal', 'schema');
END
$$;

COMMIT;
