-- What became of every command that changes something (src/store/ledger.rs).
-- Times are milliseconds since 1970; `record` is JSON.
CREATE TABLE ledger (
    session     TEXT COLLATE "C" NOT NULL,
    command_id  TEXT COLLATE "C" NOT NULL,
    fingerprint BYTEA  NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('started', 'done')),
    owner       TEXT   NOT NULL,
    started_at  BIGINT NOT NULL,
    finished_at BIGINT,
    record      TEXT,
    PRIMARY KEY (session, command_id)
);

-- For the purge, which asks for the oldest rows.
CREATE INDEX ledger_age ON ledger ((COALESCE(finished_at, started_at)));
