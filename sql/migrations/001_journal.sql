-- Schema bridge, version 1: durable channels.
--
-- publish() appends to an outbox, step() gives what has committed its position
-- in the journal, prune() forgets what is old. Nothing here waits for another
-- transaction, and only step() uses NOTIFY.
--
-- Run by `pgbridge install`, or by hand:  psql -v ON_ERROR_STOP=1 -f 001_journal.sql
-- Safe to run twice, and by two at once.

BEGIN;

SET LOCAL client_min_messages = warning;

-- One installation at a time in this database.
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('pgbridge install', 0));
END
$$;

-- Whoever waits for a lock on a table has all writers wait behind it.
SET LOCAL lock_timeout = '3s';

DO $$
BEGIN
    IF current_setting('server_version_num')::int < 130000 THEN
        RAISE EXCEPTION 'pgbridge needs PostgreSQL 13 or newer';
    END IF;
    IF EXISTS (
        SELECT FROM pg_namespace n
        WHERE n.nspname = 'bridge'
        AND coalesce(obj_description(n.oid, 'pg_namespace'), '') NOT LIKE 'pgbridge%'
    ) THEN
        RAISE EXCEPTION 'schema "bridge" exists and is not pgbridge''s'
            USING HINT = 'Rename it: ALTER SCHEMA bridge RENAME TO ...';
    END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS bridge;

COMMENT ON SCHEMA bridge IS 'pgbridge: durable channels';

-- Whoever publishes needs to see the schema, and no table in it.
GRANT USAGE ON SCHEMA bridge TO PUBLIC;


-- Tables.

CREATE TABLE IF NOT EXISTS bridge.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL,
    channel text NOT NULL,
    payload text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (id)
) WITH (
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_scale_factor = 0.05
);

COMMENT ON TABLE bridge.outbox IS 'what was published, in no particular order';
COMMENT ON COLUMN bridge.outbox.xid IS 'the transaction that published it';
COMMENT ON COLUMN bridge.outbox.at IS 'when it was published, before the commit';

-- CREATE INDEX IF NOT EXISTS would lock the table before it looks.
DO $$
BEGIN
    IF to_regclass('bridge.outbox_xid') IS NULL THEN
        CREATE INDEX outbox_xid ON bridge.outbox (xid);
    END IF;
END
$$;

CREATE TABLE IF NOT EXISTS bridge.journal (
    pos bigint NOT NULL,
    id bigint NOT NULL,
    channel text NOT NULL,
    bytes integer NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (pos)
) WITH (
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_scale_factor = 0.05
);

COMMENT ON TABLE bridge.journal IS 'the order: positions 1, 2, 3 ... of what has committed';
COMMENT ON COLUMN bridge.journal.id IS 'the row of bridge.outbox that has the payload';
COMMENT ON COLUMN bridge.journal.bytes IS 'length of the payload';
COMMENT ON COLUMN bridge.journal.at IS 'when it got its position';

DO $$
BEGIN
    IF to_regclass('bridge.journal_channel') IS NULL THEN
        CREATE INDEX journal_channel ON bridge.journal (channel, pos);
    END IF;
END
$$;

-- Append-only: updated in place, one row would leave a chain of dead versions
-- behind while somebody holds an old snapshot, and every step would walk it.
CREATE TABLE IF NOT EXISTS bridge.tick (
    pos bigint NOT NULL,
    snap pg_snapshot NOT NULL,
    PRIMARY KEY (pos)
) WITH (
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0
);

COMMENT ON TABLE bridge.tick IS
    'the newest row: the last position, and what had committed when it was given';

CREATE TABLE IF NOT EXISTS bridge.state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL DEFAULT 0,
    epoch text NOT NULL,
    identity text NOT NULL,
    timeline text NOT NULL,
    dropped bigint NOT NULL DEFAULT 0,
    barrier xid8
) WITH (fillfactor = 10);

COMMENT ON TABLE bridge.state IS
    'one row; its lock is held by whoever steps, and it changes with the epoch only';
COMMENT ON COLUMN bridge.state.version IS 'the last migration';
COMMENT ON COLUMN bridge.state.epoch IS 'positions of another epoch mean nothing';
COMMENT ON COLUMN bridge.state.identity IS 'cluster, database and table it belongs to';
COMMENT ON COLUMN bridge.state.timeline IS 'another one after a failover';
COMMENT ON COLUMN bridge.state.dropped IS
    'bridge.dropped when the epoch began that accounts for it';
COMMENT ON COLUMN bridge.state.barrier IS
    'transactions up to here may still have dropped something; NULL: none';

CREATE TABLE IF NOT EXISTS bridge.floor (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    pos bigint NOT NULL DEFAULT 0,
    pruned bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

COMMENT ON TABLE bridge.floor IS 'one row: how much of the journal is gone';
COMMENT ON COLUMN bridge.floor.pos IS 'positions up to here may be gone';
COMMENT ON COLUMN bridge.floor.pruned IS 'positions up to here are deleted';

CREATE TABLE IF NOT EXISTS bridge.setting (
    name text PRIMARY KEY,
    value text NOT NULL,
    CHECK (CASE name
        WHEN 'max_journal_age' THEN value::interval > '0 s'
        WHEN 'max_journal_rows' THEN value::bigint > 0
        WHEN 'max_outbox_rows' THEN value::bigint > 0
        ELSE false
    END)
);

COMMENT ON TABLE bridge.setting IS
    'retention, and how many rows may wait when nobody sequences';

INSERT INTO bridge.setting
VALUES
    ('max_journal_age', '24 hours'),
    ('max_journal_rows', '10000000'),
    ('max_outbox_rows', '10000000')
ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS bridge.durable_channel (
    pattern text PRIMARY KEY CHECK (pattern <> '' AND pattern NOT LIKE 'bridge\_%')
);

COMMENT ON TABLE bridge.durable_channel IS
    'patterns of channels that are kept; * stands for any run of characters';

GRANT SELECT ON bridge.durable_channel TO PUBLIC;

-- Any row: the outbox is full, and nothing is published until somebody
-- sequences. No key, since two that insert one must not wait for each other.
CREATE TABLE IF NOT EXISTS bridge.overflow (at timestamptz NOT NULL);

COMMENT ON TABLE bridge.overflow IS 'has a row while publish() drops';

-- A sequence, since it must not be undone with the transaction that dropped.
-- It is set, never counted up: nextval() is 32 ahead after a crash.
CREATE SEQUENCE IF NOT EXISTS bridge.dropped;

COMMENT ON SEQUENCE bridge.dropped IS 'another number after each drop of publish()';

-- A sequence, since no writer may wait for another.
CREATE SEQUENCE IF NOT EXISTS bridge.outbox_due;

COMMENT ON SEQUENCE bridge.outbox_due IS
    'the id of the outbox at which what waits is counted again';


-- What the epoch belongs to.

-- The cluster, the database and the table, as text. (Managed services may hide
-- the first; then a restored dump is known by its table and its snapshot.)
CREATE OR REPLACE FUNCTION bridge.identity()
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cluster text := '-';
BEGIN
    BEGIN
        SELECT system_identifier::text INTO cluster FROM pg_control_system();
    EXCEPTION WHEN insufficient_privilege THEN
    END;
    RETURN format(
        '%s/%s/%s',
        cluster,
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        'bridge.state'::regclass::oid
    );
END
$$;

COMMENT ON FUNCTION bridge.identity() IS 'cluster, database and table';

-- The timeline that is written now, as in names of WAL files.
-- Raises: this server is a standby.
CREATE OR REPLACE FUNCTION bridge.timeline()
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
$$;

COMMENT ON FUNCTION bridge.timeline() IS 'the timeline that is written now';

CREATE OR REPLACE FUNCTION bridge.random_epoch()
RETURNS text
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT substr(translate(gen_random_uuid()::text, '-', ''), 1, 10)
$$;

COMMENT ON FUNCTION bridge.random_epoch() IS 'a name that no other epoch has';

INSERT INTO bridge.state (epoch, identity, timeline)
SELECT bridge.random_epoch(), bridge.identity(), bridge.timeline()
ON CONFLICT DO NOTHING;

INSERT INTO bridge.floor (pos, pruned)
SELECT coalesce(min(pos), 1) - 1, coalesce(min(pos), 1) - 1 FROM bridge.journal
ON CONFLICT DO NOTHING;

-- A tick that somebody has removed knew what had its position. What is in the
-- journal had; a new epoch begins with the rest.
DO $$
DECLARE
    last bigint;
BEGIN
    IF EXISTS (SELECT FROM bridge.tick) THEN
        RETURN;
    END IF;
    SELECT greatest(f.pos, (SELECT max(pos) FROM bridge.journal)) INTO last
    FROM bridge.floor AS f;
    DELETE FROM bridge.outbox AS o
    USING bridge.journal AS j
    WHERE o.id = j.id;
    DELETE FROM bridge.journal;
    UPDATE bridge.floor SET pos = last, pruned = last WHERE one;
    UPDATE bridge.state SET epoch = bridge.random_epoch() WHERE one;
    -- '3:3:' has seen nothing yet: right whatever is in flight now.
    INSERT INTO bridge.tick VALUES (last, '3:3:');
END
$$;

-- Raises: a table that always has a row has none.
CREATE OR REPLACE FUNCTION bridge.check_whole()
RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    empty text := concat_ws(
        ', ',
        CASE WHEN NOT EXISTS (SELECT FROM bridge.state) THEN 'bridge.state' END,
        CASE WHEN NOT EXISTS (SELECT FROM bridge.floor) THEN 'bridge.floor' END,
        CASE WHEN NOT EXISTS (SELECT FROM bridge.tick) THEN 'bridge.tick' END
    );
BEGIN
    IF empty <> '' THEN
        RAISE EXCEPTION 'somebody has emptied %', empty
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'pgbridge upgrade  mends it';
    END IF;
END
$$;

COMMENT ON FUNCTION bridge.check_whole() IS 'say which table lacks its row';

-- The first key of our advisory locks; the second is 1 for the door, which a
-- silent writer holds shared and a sleeping sequencer exclusively, and 2 for
-- the sequencer's election.
CREATE OR REPLACE FUNCTION bridge.lock_class()
RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ('bridge.state'::regclass::oid::bigint & 2147483647)::integer
$$;

COMMENT ON FUNCTION bridge.lock_class() IS 'the first key of our advisory locks';


-- Publishing.

-- Publish `payload` to everybody who is subscribed to `channel`, when and only
-- when this transaction commits.
--
-- Waits for nobody. The payload has any length and is '' when NULL; clients are
-- told of one that is longer than BRIDGE_MAX_PAYLOAD_BYTES, and do not get it.
--
-- SET bridge.wake = off (for a role, say): neither locks nor rings, and the
-- event may take a second. That is the default where transactions can be
-- prepared, since PREPARE TRANSACTION refuses one that has used NOTIFY.
--
-- Raises: no channel, over 255 bytes, a reserved name; a standby, READ ONLY.
CREATE OR REPLACE FUNCTION bridge.publish(channel text, payload text)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    row_id bigint;
BEGIN
    -- Each expression is prepared anew in each transaction, so there are two.
    INSERT INTO bridge.outbox (xid, channel, payload, at)
    SELECT pg_current_xact_id(), publish.channel, coalesce(publish.payload, ''),
        clock_timestamp()
    WHERE channel <> '' AND octet_length(channel) <= 255
    AND NOT starts_with(channel, 'bridge_')
    AND NOT EXISTS (SELECT FROM bridge.overflow)
    RETURNING id INTO row_id;

    -- The door: a writer that gets the lock is silent. The sequencer sleeps if it
    -- does not. (The key is bridge.lock_class(), whose call costs as much as the
    -- lock.) OR goes from left to right.
    IF row_id IS NULL OR row_id % 1000 = 0
        OR current_setting('bridge.wake', true) = 'off'
        OR current_setting('max_prepared_transactions') <> '0'
        OR NOT pg_try_advisory_xact_lock_shared(
            ('bridge.state'::regclass::oid::bigint & 2147483647)::integer, 1
        )
    THEN
        PERFORM bridge.attend(channel, row_id);
    END IF;
END
$$;

COMMENT ON FUNCTION bridge.publish(text, text) IS
    'tell the subscribers of a channel when this transaction commits';

-- Publish payloads[i] to channels[i], in this order: for statement triggers and
-- whoever has many at once. Otherwise like publish(), for a fraction of its cost.
--
-- Raises: as publish() does; not as many payloads as channels. All or nothing.
CREATE OR REPLACE FUNCTION bridge.publish_many(channels text[], payloads text[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made bigint;
BEGIN
    IF cardinality(channels) IS DISTINCT FROM cardinality(payloads) THEN
        RAISE EXCEPTION 'bridge.publish_many: % channels, % payloads',
            coalesce(cardinality(channels), 0), coalesce(cardinality(payloads), 0)
            USING ERRCODE = 'array_subscript_error';
    END IF;
    INSERT INTO bridge.outbox (xid, channel, payload, at)
    SELECT pg_current_xact_id(), given.channel, coalesce(given.payload, ''),
        clock_timestamp()
    FROM unnest(channels, payloads) AS given (channel, payload)
    WHERE given.channel <> '' AND octet_length(given.channel) <= 255
    AND NOT starts_with(given.channel, 'bridge_')
    AND NOT EXISTS (SELECT FROM bridge.overflow);
    GET DIAGNOSTICS made = ROW_COUNT;

    IF made < cardinality(channels) THEN
        PERFORM bridge.check_channel(name) FROM unnest(channels) AS name;
        PERFORM bridge.note_dropped();
    ELSIF made > 0 THEN
        PERFORM bridge.check_outbox(lastval());
        PERFORM bridge.ring();
    END IF;
END
$$;

COMMENT ON FUNCTION bridge.publish_many(text[], text[]) IS
    'tell the subscribers of many channels when this transaction commits';

-- What publish() does rarely: refuse, drop, look at the bound, ring. `row_id` is
-- the row that it made; NULL: none.
CREATE OR REPLACE FUNCTION bridge.attend(channel text, row_id bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF row_id IS NULL THEN
        PERFORM bridge.check_channel(channel);
        PERFORM bridge.note_dropped();
        RETURN;
    END IF;
    IF row_id % 1000 = 0 THEN
        PERFORM bridge.check_outbox(row_id);
    END IF;
    PERFORM bridge.ring();
END
$$;

COMMENT ON FUNCTION bridge.attend(text, bigint) IS 'what publish() does rarely';

-- Wake the sequencer at COMMIT if it sleeps, unless this transaction must not
-- notify; it looks once a second anyway.
CREATE OR REPLACE FUNCTION bridge.ring()
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wake text := current_setting('bridge.wake', true);
BEGIN
    IF wake = 'off'
        OR (current_setting('max_prepared_transactions') <> '0'
            AND wake IS DISTINCT FROM 'on')
        OR pg_try_advisory_xact_lock_shared(bridge.lock_class(), 1)
    THEN
        RETURN;
    END IF;
    -- A queue that is nearly full must not fail this transaction.
    IF pg_notification_queue_usage() < 0.9 THEN
        PERFORM pg_catalog.pg_notify('bridge_wake', '');
    END IF;
END
$$;

COMMENT ON FUNCTION bridge.ring() IS 'wake the sequencer at COMMIT if it sleeps';

-- Note that events were not written.
CREATE OR REPLACE FUNCTION bridge.note_dropped()
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- In this order: whoever sees the number finds the transaction in flight.
    PERFORM pg_current_xact_id();
    -- One that was never there: two that drop at once must not look like one.
    PERFORM setval('bridge.dropped', ('x' || bridge.random_epoch())::bit(40)::bigint + 1);
END
$$;

COMMENT ON FUNCTION bridge.note_dropped() IS 'note that events were not written';

-- Raises: events cannot be published to this channel; says why.
CREATE OR REPLACE FUNCTION bridge.check_channel(name text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text := CASE
        WHEN name = '' THEN 'it is empty'
        WHEN octet_length(name) > 255 THEN 'it has more than 255 bytes'
        WHEN starts_with(name, 'bridge_') THEN 'names that begin with "bridge_" are reserved'
    END;
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION 'bridge.publish: the channel is NULL'
            USING ERRCODE = 'null_value_not_allowed';
    ELSIF problem IS NOT NULL THEN
        RAISE EXCEPTION 'bridge.publish: channel "%" is not valid: %',
            left(name, 80), problem
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;

COMMENT ON FUNCTION bridge.check_channel(text) IS 'say what is wrong with a name';

-- What has been published and has no position, as far as this transaction sees:
-- what has committed, and its own.
--
-- Returns: how many, at most `most`.
CREATE OR REPLACE FUNCTION bridge.waiting(most bigint)
RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
DECLARE
    last bridge.tick;
BEGIN
    SELECT * INTO last FROM bridge.tick ORDER BY pos DESC LIMIT 1;
    RETURN (
        SELECT count(*)
        FROM (
            SELECT 1 FROM bridge.outbox AS o
            WHERE o.xid >= pg_snapshot_xmax(last.snap)
            UNION ALL
            SELECT 1 FROM bridge.outbox AS o
            WHERE o.xid = ANY (ARRAY(SELECT pg_snapshot_xip(last.snap)))
            LIMIT most
        ) AS w
    );
END
$$;

COMMENT ON FUNCTION bridge.waiting(bigint) IS 'how many events have no position';

-- Stop publishing when nobody sequences, so that the disk stays whole.
-- `row_id` is an id just given; the bound is kept to within a thousand, and
-- what others have in flight.
CREATE OR REPLACE FUNCTION bridge.check_outbox(row_id bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bound bigint := bridge.setting('max_outbox_rows')::bigint;
    due bigint;
    room bigint;
BEGIN
    -- Ids say when to count, not what waits: rollbacks and crashes burn them. No
    -- more can have come to wait than ids were given. (Far below: the ids were
    -- restarted, or the bound was lowered.)
    SELECT last_value INTO due FROM bridge.outbox_due;
    IF row_id < due AND row_id >= due - bound THEN
        RETURN;
    END IF;
    room := bound - bridge.waiting(bound + 1);
    IF room < 0 THEN
        INSERT INTO bridge.overflow VALUES (clock_timestamp());
    ELSE
        -- Half of it, since others may have as much in flight.
        PERFORM setval('bridge.outbox_due', row_id + room / 2 + 1);
    END IF;
END
$$;

COMMENT ON FUNCTION bridge.check_outbox(bigint) IS 'stop when nobody sequences';


-- Sequencing.

-- Give what has committed since the last step its position, in the order of
-- publishing where transactions overlapped.
--
-- If A had committed before B was published, A's position is lower. Positions
-- have no holes. Writes nothing when there is nothing to do.
--
-- Returns: how many; NULL when somebody else is stepping.
-- Raises: not alone in its transaction, or not READ COMMITTED.
CREATE OR REPLACE FUNCTION bridge.step()
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- The plan must not change with statistics: index scans, once and for all.
SET plan_cache_mode = force_generic_plan
SET jit = off
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
-- Whatever others have locked, it is not waited for long.
SET lock_timeout = '2s'
AS $$
DECLARE
    last bridge.tick;
    state bridge.state;
    timeline text := bridge.timeline();
    accounted bigint;
    drops bigint;
    steps bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'bridge.step() needs READ COMMITTED';
    END IF;
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        -- Its own transaction would count as ended, what it published be lost.
        RAISE EXCEPTION 'bridge.step() must be alone in its transaction';
    END IF;

    -- Look without a lock. Whoever steps meanwhile only makes this too careful.
    SELECT * INTO last FROM bridge.tick ORDER BY pos DESC LIMIT 1;
    SELECT * INTO state FROM bridge.state WHERE one;
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO drops FROM bridge.dropped;
    IF state.timeline = timeline
        AND state.dropped = drops
        AND state.barrier IS NULL
        AND NOT EXISTS (SELECT FROM bridge.overflow)
        AND pg_snapshot_xmax(pg_current_snapshot()) >= pg_snapshot_xmax(last.snap)
        AND NOT EXISTS (
            WITH cur AS MATERIALIZED (SELECT pg_current_snapshot() AS snap),
            -- The transactions of interest lie between those still in progress.
            gap AS MATERIALIZED (
                SELECT lo, lead(lo) OVER (ORDER BY lo) AS hi
                FROM (
                    SELECT (pg_snapshot_xmax(last.snap)::text::bigint - 1)::text::xid8 AS lo
                    UNION ALL
                    SELECT x FROM cur, pg_snapshot_xip(cur.snap) AS x
                    WHERE x >= pg_snapshot_xmax(last.snap)
                    UNION ALL
                    SELECT pg_snapshot_xmax(cur.snap) FROM cur
                ) AS edges
            )
            SELECT 1 FROM bridge.outbox AS o
            WHERE o.xid = ANY (ARRAY(
                SELECT x FROM cur, pg_snapshot_xip(last.snap) AS x
                WHERE pg_visible_in_snapshot(x, cur.snap)
            ))
            UNION ALL
            SELECT 1 FROM gap, LATERAL (
                SELECT 1 FROM bridge.outbox AS o
                WHERE o.xid > gap.lo AND o.xid < gap.hi
                OFFSET 0
            ) AS fresh
        )
    THEN
        RETURN 0;
    END IF;

    -- The fence. All that follows must be read after it was obtained; but `drops`
    -- before: who has dropped by then has a lower number than this transaction.
    accounted := state.dropped;
    PERFORM FROM bridge.state WHERE one FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        PERFORM bridge.check_whole();
        RETURN NULL;
    END IF;
    SELECT * INTO state FROM bridge.state WHERE one;
    SELECT * INTO last FROM bridge.tick ORDER BY pos DESC LIMIT 1;
    IF last.pos IS NULL THEN
        PERFORM bridge.check_whole();
        RETURN NULL;
    END IF;
    timeline := bridge.timeline();
    -- A position that was told must survive a crash. (A SET clause would be
    -- undone before the commit.)
    PERFORM set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') = 'off';

    IF pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(last.snap) THEN
        PERFORM bridge.start_over(last.pos);
        SELECT * INTO last FROM bridge.tick ORDER BY pos DESC LIMIT 1;
    ELSIF state.timeline <> timeline THEN
        PERFORM bridge.start_epoch(last.pos);
    END IF;

    -- One statement: what is new by a snapshot, and that snapshot. (`fresh` is
    -- what was looked for above.)
    WITH cur AS MATERIALIZED (SELECT pg_current_snapshot() AS snap),
    gap AS MATERIALIZED (
        SELECT lo, lead(lo) OVER (ORDER BY lo) AS hi
        FROM (
            SELECT (pg_snapshot_xmax(last.snap)::text::bigint - 1)::text::xid8 AS lo
            UNION ALL
            SELECT x FROM cur, pg_snapshot_xip(cur.snap) AS x
            WHERE x >= pg_snapshot_xmax(last.snap)
            UNION ALL
            SELECT pg_snapshot_xmax(cur.snap) FROM cur
        ) AS edges
    ),
    fresh AS MATERIALIZED (
        SELECT o.id, o.channel, octet_length(o.payload) AS bytes
        FROM bridge.outbox AS o
        WHERE o.xid = ANY (ARRAY(
            SELECT x FROM cur, pg_snapshot_xip(last.snap) AS x
            WHERE pg_visible_in_snapshot(x, cur.snap)
        ))
        UNION ALL
        SELECT f.id, f.channel, f.bytes
        FROM gap, LATERAL (
            SELECT o.id, o.channel, octet_length(o.payload) AS bytes
            FROM bridge.outbox AS o
            WHERE o.xid > gap.lo AND o.xid < gap.hi
            OFFSET 0
        ) AS f
    ),
    entries AS (
        INSERT INTO bridge.journal (pos, id, channel, bytes, at)
        SELECT last.pos + row_number() OVER (ORDER BY f.id), f.id, f.channel, f.bytes,
            clock_timestamp()
        FROM fresh AS f
        RETURNING 1
    ),
    tick AS (
        INSERT INTO bridge.tick (pos, snap)
        SELECT last.pos + counted.n, cur.snap
        FROM cur, (SELECT count(*) AS n FROM entries) AS counted
        WHERE counted.n > 0
        RETURNING pos
    )
    SELECT tick.pos - last.pos INTO steps FROM tick;
    steps := coalesce(steps, 0);
    -- There is room again.
    DELETE FROM bridge.overflow;

    -- Something was dropped: a new epoch now, and another when all those have
    -- ended that may drop more, since they began before the drops did. (If
    -- somebody accounted for drops meanwhile, the next step looks again.)
    IF drops <> state.dropped AND state.dropped = accounted THEN
        PERFORM bridge.start_epoch(last.pos + steps);
        UPDATE bridge.state SET dropped = drops, barrier = pg_current_xact_id() WHERE one;
    ELSIF pg_snapshot_xmin(pg_current_snapshot()) > state.barrier THEN
        PERFORM bridge.start_epoch(last.pos + steps);
        UPDATE bridge.state SET barrier = NULL WHERE one;
    END IF;

    IF pg_notification_queue_usage() < 0.9 THEN
        PERFORM pg_catalog.pg_notify('bridge_journal', (last.pos + steps)::text);
    END IF;
    RETURN steps;
END
$$;

COMMENT ON FUNCTION bridge.step() IS
    'give what has committed its position; how many, NULL: somebody else does';

-- Begin a new epoch after position `last`; the caller holds the fence.
CREATE OR REPLACE FUNCTION bridge.start_epoch(last bigint)
RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE bridge.state
    SET epoch = bridge.random_epoch(),
        identity = bridge.identity(),
        timeline = bridge.timeline()
    WHERE one;

    UPDATE bridge.floor SET pos = last WHERE one;
$$;

COMMENT ON FUNCTION bridge.start_epoch(bigint) IS 'begin a new epoch';

-- Begin a new epoch with empty tables: their transaction numbers are those of
-- another life of this database. The caller holds the fence.
CREATE OR REPLACE FUNCTION bridge.start_over(last bigint)
RETURNS void
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM bridge.journal;
    DELETE FROM bridge.outbox;
    DELETE FROM bridge.overflow;
    INSERT INTO bridge.tick VALUES (last + 1, '3:3:');
    SELECT bridge.start_epoch(last + 1);
    UPDATE bridge.floor SET pruned = last + 1 WHERE one;
$$;

COMMENT ON FUNCTION bridge.start_over(bigint) IS 'begin a new epoch with empty tables';

-- Begin a new epoch where this database is another one than it was, has been
-- promoted, or lacks positions that were told: `seen_pos` of `seen_epoch`. Waits
-- for who steps. (Workers of version 2 call it; later ones bridge.check_seen.)
--
-- Returns: the epoch, new or not.
CREATE OR REPLACE FUNCTION bridge.check_epoch(
    seen_epoch text DEFAULT NULL,
    seen_pos bigint DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
    state bridge.state;
    last bigint;
BEGIN
    PERFORM bridge.check_whole();
    SELECT * INTO state FROM bridge.state WHERE one;
    SELECT max(pos) INTO last FROM bridge.tick;
    IF state.identity = bridge.identity()
        AND state.timeline = bridge.timeline()
        AND (state.epoch = seen_epoch AND last < seen_pos) IS NOT TRUE
    THEN
        RETURN state.epoch;
    END IF;
    PERFORM FROM bridge.state WHERE one FOR UPDATE;
    SELECT * INTO state FROM bridge.state WHERE one;
    SELECT max(pos) INTO last FROM bridge.tick;
    IF state.identity <> bridge.identity() THEN
        PERFORM bridge.start_over(last);
    ELSIF state.timeline <> bridge.timeline()
        OR (state.epoch = seen_epoch AND last < seen_pos)
    THEN
        PERFORM bridge.start_epoch(last);
    END IF;
    RETURN (SELECT s.epoch FROM bridge.state AS s WHERE one);
END
$$;

COMMENT ON FUNCTION bridge.check_epoch(text, bigint) IS
    'begin a new epoch where the old one is not true any more';

-- Forget what is older or more than the settings allow, at most `batch` rows.
--
-- Waits for nobody. What another transaction holds, an open purge() say, is left
-- for later with all that comes after it, so that what is forgotten has one end.
-- (Forgetting more would free nothing: vacuum waits for that transaction, too.)
--
-- Returns: how many; as many as `batch`: there is more to forget. NULL when
-- somebody else is pruning, or has locked a table.
CREATE OR REPLACE FUNCTION bridge.prune(batch integer DEFAULT 2000)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- Sequencing stands still meanwhile.
SET lock_timeout = '50ms'
AS $$
DECLARE
    low bridge.floor;
    upto bigint;
    held bigint;
    rows bigint;
    ticks bigint[];
BEGIN
    SELECT * INTO low FROM bridge.floor WHERE one;
    SELECT max(j.pos), count(*) INTO upto, rows
    FROM (
        SELECT * FROM bridge.journal AS k
        WHERE k.pos > low.pruned
        ORDER BY k.pos
        LIMIT batch
    ) AS j
    WHERE j.pos <= low.pos
    OR j.pos <= (SELECT max(pos) FROM bridge.tick) - bridge.setting('max_journal_rows')::bigint
    OR j.at < clock_timestamp() - bridge.setting('max_journal_age')::interval;

    -- Of the ticks the newest counts. Whole hundreds of the others, so that a
    -- quiet database is not written to again and again.
    ticks := ARRAY(SELECT pos FROM bridge.tick ORDER BY pos DESC OFFSET 100 LIMIT batch);

    IF rows = 0 AND cardinality(ticks) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM FROM bridge.floor WHERE one FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    DELETE FROM bridge.tick WHERE pos IN (
        SELECT pos FROM bridge.tick WHERE pos = ANY (ticks) FOR UPDATE SKIP LOCKED
    );
    IF rows > 0 THEN
        WITH entry AS MATERIALIZED (
            SELECT pos, id FROM bridge.journal
            WHERE pos > low.pruned AND pos <= upto
            FOR UPDATE SKIP LOCKED
        ),
        payload AS MATERIALIZED (
            SELECT id FROM bridge.outbox
            WHERE id IN (SELECT id FROM entry)
            FOR UPDATE SKIP LOCKED
        )
        SELECT min(j.pos) INTO held
        FROM bridge.journal AS j
        LEFT JOIN entry ON entry.pos = j.pos
        LEFT JOIN bridge.outbox AS o ON o.id = j.id
        LEFT JOIN payload ON payload.id = o.id
        WHERE j.pos > low.pruned AND j.pos <= upto
        AND (entry.pos IS NULL OR o.id IS NOT NULL AND payload.id IS NULL);

        upto := coalesce(held - 1, upto);
        WITH gone AS (
            DELETE FROM bridge.journal WHERE pos > low.pruned AND pos <= upto
            RETURNING id
        ),
        payload AS (
            DELETE FROM bridge.outbox WHERE id IN (SELECT id FROM gone)
        )
        SELECT count(*) INTO rows FROM gone;
        UPDATE bridge.floor SET pos = greatest(pos, upto), pruned = greatest(pruned, upto)
        WHERE one AND rows > 0;
    END IF;
    RETURN rows;
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION bridge.prune(integer) IS 'forget what is older than retention';

-- The value of a setting.
CREATE OR REPLACE FUNCTION bridge.setting(name text)
RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.value FROM bridge.setting AS s WHERE s.name = setting.name
$$;

COMMENT ON FUNCTION bridge.setting(text) IS 'the value of a setting';


-- Give a role what a worker needs.
CREATE OR REPLACE FUNCTION bridge.grant_to_worker(role regrole)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA bridge TO %s', role);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA bridge TO %s', role);
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION bridge.step(), bridge.prune(integer), '
        'bridge.check_epoch(text, bigint), '
        'bridge.check_seen(text[], bigint, bigint, bigint) TO %s',
        role
    );
END
$$;

COMMENT ON FUNCTION bridge.grant_to_worker(regrole) IS 'give a role what a worker needs';


-- Who may call what: everybody publishes; the rest is for who installed it and
-- for the role of the workers (`pgbridge install --worker-role`).

REVOKE ALL ON FUNCTION
    bridge.identity(),
    bridge.timeline(),
    bridge.random_epoch(),
    bridge.attend(text, bigint),
    bridge.ring(),
    bridge.note_dropped(),
    bridge.check_whole(),
    bridge.waiting(bigint),
    bridge.check_outbox(bigint),
    bridge.step(),
    bridge.start_epoch(bigint),
    bridge.start_over(bigint),
    bridge.check_epoch(text, bigint),
    bridge.prune(integer),
    bridge.setting(text),
    bridge.grant_to_worker(regrole)
FROM PUBLIC;

UPDATE bridge.state SET version = greatest(version, 1) WHERE one;

COMMIT;
