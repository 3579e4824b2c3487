-- +goose Up
CREATE TABLE IF NOT EXISTS `token_sessions_schema` (
    version    INT         NOT NULL PRIMARY KEY,
    applied_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
);

-- One row a session; times in UTC. Text is kept as bytes of UTF-8: then subjects differ when their bytes differ, by case
-- and by spaces at the end, whatever the collation, and no connection's character set changes them. A client that
-- prints them as 0x… prints text when it is started as mysql --skip-binary-as-hex.
--
-- Expired rows are found by sweep_at, which is never later than expires_at and which only the sweeper moves forward: so
-- a refresh changes no index.
CREATE TABLE IF NOT EXISTS `token_sessions` (
    id             VARBINARY(64)  NOT NULL PRIMARY KEY,
    subject        VARBINARY(255) NOT NULL, -- who is logged in
    client_id      VARBINARY(255) NOT NULL, -- '' if bound to no client
    attributes     BLOB,                    -- from where: a JSON object of strings, or NULL
    auth_time      DATETIME(6),             -- when the user proved who they are
    created_at     DATETIME(6),             -- since when
    rotated_at     DATETIME(6),             -- the last refresh
    consumed_at    DATETIME(6),             -- when the token before the live one was used
    expires_at     DATETIME(6),             -- the end unless refreshed
    max_expires_at DATETIME(6),             -- the end whatever happens, or NULL
    revoked_at     DATETIME(6),             -- NULL: not revoked
    revoke_reason  VARBINARY(255) NOT NULL,
    generation     BIGINT         NOT NULL, -- of the live refresh token
    predecessor    BIGINT         NOT NULL,
    mac_key        VARBINARY(255),          -- authenticates refresh tokens; none can be made from it
    version        BIGINT         NOT NULL, -- one more with each write
    write_id       VARBINARY(64)  NOT NULL, -- another one each write
    sweep_at       DATETIME(6)    NOT NULL, -- not expired before
    KEY by_subject (subject),
    KEY by_sweep (sweep_at),
    KEY by_revoked (revoked_at)
) ENGINE = InnoDB;

INSERT IGNORE INTO `token_sessions_schema` (version) VALUES (1);
