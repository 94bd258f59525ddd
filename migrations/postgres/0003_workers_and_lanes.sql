-- Which workers are alive (src/store/workers.rs): each writes the time now and then.
CREATE TABLE workers (
    id      TEXT   NOT NULL PRIMARY KEY,
    beat_at BIGINT NOT NULL
);

-- Groups with commands that rest in a delay queue (src/store/lanes.rs): what comes after those has
-- to wait for them. Tickets number the commands of one lane; `head` is the next to be executed.
CREATE TABLE lanes (
    session  TEXT   NOT NULL,
    group_id TEXT   NOT NULL,
    head     BIGINT NOT NULL,
    tail     BIGINT NOT NULL,
    tier_ms  BIGINT NOT NULL,
    due_at   BIGINT NOT NULL,
    PRIMARY KEY (session, group_id)
);
