-- +goose Up
CREATE TABLE IF NOT EXISTS "token_sessions_schema" (
    version    integer     NOT NULL PRIMARY KEY,
    oldest     integer     NOT NULL, -- the oldest version that still understands the sessions' table
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- One row a session. COLLATE "C": subjects differ when their bytes differ. What a session does not have is NULL.
--
-- A refresh changes expires_at, and no column that is indexed: PostgreSQL then updates the row within its page and
-- leaves the indexes alone (HOT), for which fillfactor leaves room. Expired rows are found by sweep_at, which is never
-- later than expires_at, and which only the sweeper moves forward.
CREATE TABLE "token_sessions" (
    id             text        COLLATE "C" NOT NULL PRIMARY KEY,
    issuer         text        COLLATE "C" NOT NULL, -- of its access tokens
    subject        text        COLLATE "C" NOT NULL, -- who is logged in
    client_id      text        COLLATE "C",          -- the client that it is bound to
    actor          text        COLLATE "C",          -- who acts for the subject
    attributes     text        COLLATE "C",          -- from where: a JSON object of strings
    auth_methods   text        COLLATE "C",          -- how the user proved who they are: a JSON array of strings
    auth_context   text        COLLATE "C",          -- how well
    key_thumbprint text        COLLATE "C",          -- of the key that it is bound to
    revoke_reason  text        COLLATE "C",
    mac_key        bytea,                            -- authenticates refresh tokens; none can be made from it
    write_id       text        COLLATE "C" NOT NULL, -- another one each write
    auth_time      timestamptz,                      -- when the user proved who they are
    created_at     timestamptz,                      -- since when
    rotated_at     timestamptz,                      -- the last refresh
    consumed_at    timestamptz,                      -- when the token before the live one was used
    expires_at     timestamptz,                      -- the end unless refreshed
    max_expires_at timestamptz,                      -- the end whatever happens
    revoked_at     timestamptz,                      -- NULL: not revoked
    outdated_at    timestamptz,                      -- when epoch was last raised
    idle_ttl       bigint,                           -- how long it lasts without a refresh, in microseconds
    generation     bigint      NOT NULL,             -- of the live refresh token
    predecessor    bigint      NOT NULL,
    version        bigint      NOT NULL,             -- one more with each write, also by hand
    epoch          bigint,                           -- access tokens of earlier ones are outdated
    sweep_at       timestamptz NOT NULL,             -- not expired before
    transient      boolean,                          -- ends with the client
    format         integer                           -- not NULL: written by a later version, which alone understands it
) WITH (fillfactor = 80);

CREATE INDEX "token_sessions_subject" ON "token_sessions" (subject, revoked_at);
CREATE INDEX "token_sessions_sweep" ON "token_sessions" (sweep_at);
CREATE INDEX "token_sessions_revoked" ON "token_sessions" (revoked_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX "token_sessions_outdated" ON "token_sessions" (outdated_at, id) WHERE outdated_at IS NOT NULL;

-- The keys that sign access tokens, where package keyring looks after them. Private keys are sealed: they are of no use
-- without the secret, which is not here. A key has one successor, and one key is the first.
CREATE TABLE IF NOT EXISTS "token_sessions_keys" (
    id          text        COLLATE "C" NOT NULL PRIMARY KEY, -- the kid in the header of tokens
    predecessor text        COLLATE "C" NOT NULL UNIQUE,      -- the key before it; empty: it is the first one
    algorithm   text        COLLATE "C" NOT NULL,
    made_at     timestamptz NOT NULL,
    sign_from   timestamptz NOT NULL,                         -- when it begins to sign
    sealed      bytea       NOT NULL                          -- the private key
);

INSERT INTO "token_sessions_schema" (version, oldest) VALUES (1, 1);
