-- +goose Up
CREATE TABLE IF NOT EXISTS `token_sessions_schema` (
    version    INT         NOT NULL PRIMARY KEY,
    oldest     INT         NOT NULL, -- the oldest version that still understands the sessions' table
    applied_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB;

-- One row a session; times in UTC. What a session does not have is NULL. Text is kept as bytes of UTF-8: then subjects
-- differ when their bytes differ, by case and by spaces at the end, whatever the collation, and no connection's
-- character set changes them. A client that prints them as 0x… prints text when it is started as
-- mysql --skip-binary-as-hex.
--
-- Expired rows are found by sweep_at, which is never later than expires_at and which only the sweeper moves forward: so
-- a refresh changes no index.
CREATE TABLE IF NOT EXISTS `token_sessions` (
    id             VARBINARY(64)   NOT NULL PRIMARY KEY,
    issuer         VARBINARY(1024) NOT NULL, -- of its access tokens
    subject        VARBINARY(255)  NOT NULL, -- who is logged in
    client_id      VARBINARY(255),           -- the client that it is bound to
    actor          VARBINARY(255),           -- who acts for the subject
    attributes     BLOB,                     -- from where: a JSON object of strings
    auth_methods   BLOB,                     -- how the user proved who they are: a JSON array of strings
    auth_context   VARBINARY(255),           -- how well
    key_thumbprint VARBINARY(255),           -- of the key that it is bound to
    revoke_reason  VARBINARY(255),
    mac_key        VARBINARY(255),           -- authenticates refresh tokens; none can be made from it
    write_id       VARBINARY(64)   NOT NULL, -- another one each write
    auth_time      DATETIME(6),              -- when the user proved who they are
    created_at     DATETIME(6),              -- since when
    rotated_at     DATETIME(6),              -- the last refresh
    consumed_at    DATETIME(6),              -- when the token before the live one was used
    expires_at     DATETIME(6),              -- the end unless refreshed
    max_expires_at DATETIME(6),              -- the end whatever happens
    revoked_at     DATETIME(6),              -- NULL: not revoked
    outdated_at    DATETIME(6),              -- when epoch was last raised
    idle_ttl       BIGINT,                   -- how long it lasts without a refresh, in microseconds
    generation     BIGINT          NOT NULL, -- of the live refresh token
    predecessor    BIGINT          NOT NULL,
    version        BIGINT          NOT NULL, -- one more with each write, also by hand
    epoch          BIGINT,                   -- access tokens of earlier ones are outdated
    sweep_at       DATETIME(6)     NOT NULL, -- not expired before
    transient      BOOLEAN,                  -- ends with the client
    format         INT,                      -- not NULL: written by a later version, which alone understands it
    KEY by_subject (subject, revoked_at),
    KEY by_sweep (sweep_at),
    KEY by_revoked (revoked_at),
    KEY by_outdated (outdated_at)
) ENGINE = InnoDB;

-- The keys that sign access tokens, where package keyring looks after them. Private keys are sealed: they are of no use
-- without the secret, which is not here. A key has one successor, and one key is the first.
CREATE TABLE IF NOT EXISTS `token_sessions_keys` (
    id          VARBINARY(64) NOT NULL PRIMARY KEY, -- the kid in the header of tokens
    predecessor VARBINARY(64) NOT NULL UNIQUE,      -- the key before it; empty: it is the first one
    algorithm   VARBINARY(64) NOT NULL,
    made_at     DATETIME(6)   NOT NULL,
    sign_from   DATETIME(6)   NOT NULL,             -- when it begins to sign
    sealed      BLOB          NOT NULL              -- the private key
) ENGINE = InnoDB;

INSERT IGNORE INTO `token_sessions_schema` (version, oldest) VALUES (1, 1);
