-- +goose Up
CREATE TABLE IF NOT EXISTS "token_sessions_schema" (
    version    integer     NOT NULL PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- One row a session. COLLATE "C": subjects differ when their bytes differ.
--
-- A refresh changes expires_at, and no column that is indexed: PostgreSQL then updates the row within its page and
-- leaves the indexes alone (HOT), for which fillfactor leaves room. Expired rows are found by sweep_at, which is never
-- later than expires_at, and which only the sweeper moves forward.
CREATE TABLE "token_sessions" (
    id             text        COLLATE "C" NOT NULL PRIMARY KEY,
    subject        text        COLLATE "C" NOT NULL, -- who is logged in
    client_id      text        COLLATE "C" NOT NULL, -- '' if bound to no client
    attributes     text        COLLATE "C",          -- from where: a JSON object of strings, or NULL
    auth_time      timestamptz,                      -- when the user proved who they are
    created_at     timestamptz,                      -- since when
    rotated_at     timestamptz,                      -- the last refresh
    consumed_at    timestamptz,                      -- when the token before the live one was used
    expires_at     timestamptz,                      -- the end unless refreshed
    max_expires_at timestamptz,                      -- the end whatever happens, or NULL
    revoked_at     timestamptz,                      -- NULL: not revoked
    revoke_reason  text        COLLATE "C" NOT NULL,
    generation     bigint      NOT NULL,             -- of the live refresh token
    predecessor    bigint      NOT NULL,
    mac_key        bytea,                            -- authenticates refresh tokens; none can be made from it
    version        bigint      NOT NULL,             -- one more with each write
    write_id       text        COLLATE "C" NOT NULL, -- another one each write
    sweep_at       timestamptz NOT NULL              -- not expired before
) WITH (fillfactor = 80);

CREATE INDEX "token_sessions_subject" ON "token_sessions" (subject);
CREATE INDEX "token_sessions_sweep" ON "token_sessions" (sweep_at);
CREATE INDEX "token_sessions_revoked" ON "token_sessions" (revoked_at) WHERE revoked_at IS NOT NULL;

INSERT INTO "token_sessions_schema" (version) VALUES (1);
