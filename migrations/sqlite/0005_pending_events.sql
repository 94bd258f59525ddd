-- What an engine tells of by itself (src/store/known_groups.rs, src/store/pending_events.rs).
-- `state` and `event` are JSON; times are milliseconds since 1970.

-- Each group as a session knows it; the row with an empty group is about the session itself.
CREATE TABLE known_groups (
    session  TEXT NOT NULL,
    group_id TEXT NOT NULL,
    state    TEXT NOT NULL,
    PRIMARY KEY (session, group_id)
);

-- Notifications that were taken in, so that none is taken twice.
CREATE TABLE seen_notifications (
    id      TEXT   NOT NULL PRIMARY KEY,
    seen_at BIGINT NOT NULL
);
CREATE INDEX seen_notifications_age ON seen_notifications (seen_at);

-- Events that the broker has not confirmed yet, in their order.
CREATE TABLE pending_events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    event    TEXT NOT NULL
);

-- What one worker at a time does, and until when it may count on being the one.
CREATE TABLE leases (
    name     TEXT   NOT NULL PRIMARY KEY,
    owner    TEXT   NOT NULL,
    until_at BIGINT NOT NULL
);
