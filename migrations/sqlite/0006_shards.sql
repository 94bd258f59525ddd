-- Who works on each command queue (src/store/shards.rs). `epoch` rises with each taking over; whoever
-- has an older one changes nothing any more.
CREATE TABLE shards (
    queue TEXT    NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    owner TEXT    NOT NULL
) WITHOUT ROWID;

-- The command queue over which a lane's commands came; empty where that is not known.
ALTER TABLE lanes ADD COLUMN queue TEXT NOT NULL DEFAULT '';

-- A change of the number of shards that is under way, by topology prefix (src/store/resharding.rs).
CREATE TABLE resharding (
    prefix      TEXT NOT NULL PRIMARY KEY,
    shards_from INTEGER NOT NULL,
    shards_to   INTEGER NOT NULL,
    phase       INTEGER NOT NULL,
    ticket      INTEGER NOT NULL
) WITHOUT ROWID;

-- Headers of the message that tells of the event (the trace it belongs to), JSON.
ALTER TABLE pending_events ADD COLUMN headers TEXT NOT NULL DEFAULT '{}';
