-- Which store this is (src/store/installation.rs): one row, written once. The broker carries the same id, so
-- that a store that has no record of the broker's commands is recognised.
CREATE TABLE installation (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    id  TEXT COLLATE "C" NOT NULL
);
