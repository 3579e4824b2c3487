-- +goose Up
CREATE TABLE IF NOT EXISTS "token_sessions_schema" (
    version    INTEGER NOT NULL PRIMARY KEY,
    applied_at TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- One row a session; times in UTC as 2006-01-02T15:04:05.000000Z, which sort as text.
--
-- Expired rows are found by sweep_at, which is never later than expires_at and which only the sweeper moves forward: so
-- a refresh changes no index.
CREATE TABLE "token_sessions" (
    id             TEXT    NOT NULL PRIMARY KEY,
    subject        TEXT    NOT NULL, -- who is logged in
    client_id      TEXT    NOT NULL, -- '' if bound to no client
    attributes     TEXT,             -- from where: a JSON object of strings, or NULL
    auth_time      TEXT,             -- when the user proved who they are
    created_at     TEXT,             -- since when
    rotated_at     TEXT,             -- the last refresh
    consumed_at    TEXT,             -- when the token before the live one was used
    expires_at     TEXT,             -- the end unless refreshed
    max_expires_at TEXT,             -- the end whatever happens, or NULL
    revoked_at     TEXT,             -- NULL: not revoked
    revoke_reason  TEXT    NOT NULL,
    generation     INTEGER NOT NULL, -- of the live refresh token
    predecessor    INTEGER NOT NULL,
    mac_key        BLOB,             -- authenticates refresh tokens; none can be made from it
    version        INTEGER NOT NULL, -- one more with each write
    write_id       TEXT    NOT NULL, -- another one each write
    sweep_at       TEXT    NOT NULL  -- not expired before
);

CREATE INDEX "token_sessions_subject" ON "token_sessions" (subject);
CREATE INDEX "token_sessions_sweep" ON "token_sessions" (sweep_at);
CREATE INDEX "token_sessions_revoked" ON "token_sessions" (revoked_at) WHERE revoked_at IS NOT NULL;

INSERT INTO "token_sessions_schema" (version) VALUES (1);
