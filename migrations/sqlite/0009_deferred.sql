-- Commands that rest in a delay queue (src/store/lanes/deferred.rs), each until it is done with; lost_at says
-- since when it is known that it does not come back. group_id is empty and ticket 0 where it has no lane; an
-- empty queue is one that is not known.
CREATE TABLE deferred (
    session      TEXT NOT NULL,
    command_id   TEXT NOT NULL,
    command_type TEXT NOT NULL,
    group_id     TEXT NOT NULL,
    ticket       INTEGER NOT NULL,
    tier_ms      INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,
    lost_at      INTEGER,
    queue        TEXT NOT NULL,
    PRIMARY KEY (session, command_id)
) WITHOUT ROWID;
