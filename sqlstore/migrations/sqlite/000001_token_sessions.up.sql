-- +goose Up
CREATE TABLE IF NOT EXISTS "token_sessions_schema" (
    version    INTEGER NOT NULL PRIMARY KEY,
    oldest     INTEGER NOT NULL, -- the oldest version that still understands the sessions' table
    applied_at TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- One row a session; times in UTC as 2006-01-02T15:04:05.000000Z, which sort as text. What a session does not have is
-- NULL.
--
-- Expired rows are found by sweep_at, which is never later than expires_at and which only the sweeper moves forward: so
-- a refresh changes no index.
CREATE TABLE "token_sessions" (
    id             TEXT    NOT NULL PRIMARY KEY,
    issuer         TEXT    NOT NULL, -- of its access tokens
    subject        TEXT    NOT NULL, -- who is logged in
    client_id      TEXT,             -- the client that it is bound to
    actor          TEXT,             -- who acts for the subject
    attributes     TEXT,             -- from where: a JSON object of strings
    auth_methods   TEXT,             -- how the user proved who they are: a JSON array of strings
    auth_context   TEXT,             -- how well
    key_thumbprint TEXT,             -- of the key that it is bound to
    revoke_reason  TEXT,
    mac_key        BLOB,             -- authenticates refresh tokens; none can be made from it
    write_id       TEXT    NOT NULL, -- another one each write
    auth_time      TEXT,             -- when the user proved who they are
    created_at     TEXT,             -- since when
    rotated_at     TEXT,             -- the last refresh
    consumed_at    TEXT,             -- when the token before the live one was used
    expires_at     TEXT,             -- the end unless refreshed
    max_expires_at TEXT,             -- the end whatever happens
    revoked_at     TEXT,             -- NULL: not revoked
    outdated_at    TEXT,             -- when epoch was last raised
    idle_ttl       INTEGER,          -- how long it lasts without a refresh, in microseconds
    generation     INTEGER NOT NULL, -- of the live refresh token
    predecessor    INTEGER NOT NULL,
    version        INTEGER NOT NULL, -- one more with each write, also by hand
    epoch          INTEGER,          -- access tokens of earlier ones are outdated
    sweep_at       TEXT    NOT NULL, -- not expired before
    transient      INTEGER,          -- 1: ends with the client
    format         INTEGER           -- not NULL: written by a later version, which alone understands it
);

CREATE INDEX "token_sessions_subject" ON "token_sessions" (subject, revoked_at);
CREATE INDEX "token_sessions_sweep" ON "token_sessions" (sweep_at);
CREATE INDEX "token_sessions_revoked" ON "token_sessions" (revoked_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX "token_sessions_outdated" ON "token_sessions" (outdated_at, id) WHERE outdated_at IS NOT NULL;

-- Times that were written by hand in a form that does not sort as the others do.
CREATE INDEX "token_sessions_oddrevoked" ON "token_sessions" (id) WHERE revoked_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z';
CREATE INDEX "token_sessions_oddoutdated" ON "token_sessions" (id) WHERE outdated_at NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z';

-- The keys that sign access tokens, where package keyring looks after them. Private keys are sealed: they are of no use
-- without the secret, which is not here. A key has one successor, and one key is the first.
CREATE TABLE IF NOT EXISTS "token_sessions_keys" (
    id          TEXT NOT NULL PRIMARY KEY, -- the kid in the header of tokens
    predecessor TEXT NOT NULL UNIQUE,      -- the key before it; empty: it is the first one
    algorithm   TEXT NOT NULL,
    made_at     TEXT NOT NULL,
    sign_from   TEXT NOT NULL,             -- when it begins to sign
    sealed      BLOB NOT NULL              -- the private key
);

INSERT INTO "token_sessions_schema" (version, oldest) VALUES (1, 1);
