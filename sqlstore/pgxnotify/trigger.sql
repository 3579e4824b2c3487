-- Notifies the instances that listen when there is something new in the feed of revocations. All
-- tables have the same channel. The payload is the schema and the table.
CREATE OR REPLACE FUNCTION "token_sessions_notify"() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_catalog.pg_notify('tokensession', TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME); RETURN NULL; END $$;

-- A refresh writes these columns as they are, and so calls no function.
CREATE OR REPLACE TRIGGER tokensession_notify_update AFTER UPDATE ON "token_sessions" FOR EACH ROW
WHEN ((NEW.revoked_at, NEW.outdated_at, NEW.epoch) IS DISTINCT FROM (OLD.revoked_at, OLD.outdated_at, OLD.epoch))
EXECUTE FUNCTION "token_sessions_notify"();

CREATE OR REPLACE TRIGGER tokensession_notify_insert AFTER INSERT ON "token_sessions" FOR EACH ROW
WHEN (NEW.revoked_at IS NOT NULL OR NEW.outdated_at IS NOT NULL)
EXECUTE FUNCTION "token_sessions_notify"();
