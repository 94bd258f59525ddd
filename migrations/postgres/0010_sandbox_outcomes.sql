-- The outcome of each command that changed a group of the sandbox (src/store/sandbox_groups/mod.rs), written with the
-- change, so that a repetition of the command returns it. `at` is milliseconds since 1970; `record` is JSON.
CREATE TABLE sandbox_outcomes (
    session     TEXT COLLATE "C" NOT NULL,
    command_id  TEXT COLLATE "C" NOT NULL,
    fingerprint BYTEA  NOT NULL,
    at          BIGINT NOT NULL,
    record      TEXT   NOT NULL,
    PRIMARY KEY (session, command_id)
);

-- For the purge, which asks for the oldest rows.
CREATE INDEX sandbox_outcomes_age ON sandbox_outcomes (at);
