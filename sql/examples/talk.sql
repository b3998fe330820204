-- The table and the trigger of the talk, unchanged: every row that is inserted
-- is told to the channel watchers_<id> when its transaction commits, and not at
-- all when it rolls back. Several rows share an id. Safe to run twice.

BEGIN;

CREATE TABLE IF NOT EXISTS my_table (
    pk bigserial PRIMARY KEY,
    id integer NOT NULL,
    name text NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE my_table IS 'what the front end of the demo saves';

-- Tell everybody who watches NEW.id, with the whole row as JSON. PostgreSQL
-- limits what pg_notify carries to less than 8000 bytes: a longer row fails here,
-- and its INSERT with it.
CREATE OR REPLACE FUNCTION notify_my_table_insert()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_notify('watchers_' || NEW.id, row_to_json(NEW)::TEXT);
    RETURN NEW;
END;
$$;

COMMENT ON FUNCTION notify_my_table_insert() IS 'tells a new row to watchers_<id>';

DROP TRIGGER IF EXISTS my_table_insert ON my_table;

CREATE TRIGGER my_table_insert
AFTER INSERT ON my_table
FOR EACH ROW
EXECUTE FUNCTION notify_my_table_insert();

COMMIT;
