-- A second trigger on the table of the talk: every row that is inserted is
-- published to the channel kept_<id> as well, through the journal, which keeps it
-- for pages that are away. Needs talk.sql, schema bridge (`pgbridge install`) and
-- the pattern (`pgbridge durable add 'kept_*'`). Safe to run twice.

BEGIN;

-- Tell everybody who watches NEW.id, now or later, with the whole row as JSON.
-- Unlike pg_notify it has no limit of 8000 bytes.
CREATE OR REPLACE FUNCTION publish_my_table_insert()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM bridge.publish('kept_' || NEW.id, row_to_json(NEW));
    RETURN NEW;
END;
$$;

COMMENT ON FUNCTION publish_my_table_insert() IS 'publishes a new row to kept_<id>';

DROP TRIGGER IF EXISTS my_table_insert_kept ON my_table;

CREATE TRIGGER my_table_insert_kept
AFTER INSERT ON my_table
FOR EACH ROW
EXECUTE FUNCTION publish_my_table_insert();

COMMIT;
