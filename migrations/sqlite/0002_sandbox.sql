-- The sandbox's world (src/store/sandbox_groups.rs). `state` is JSON.
CREATE TABLE sandbox_groups (
    id      TEXT   NOT NULL PRIMARY KEY,
    subject TEXT   NOT NULL,
    version BIGINT NOT NULL,
    state   TEXT   NOT NULL
);

-- Who is in which group: the same as in the documents, for `ListGroups`.
CREATE TABLE sandbox_members (
    account  TEXT NOT NULL,
    group_id TEXT NOT NULL REFERENCES sandbox_groups (id),
    PRIMARY KEY (account, group_id)
);

-- Every command that changed a group, in order; never changed, only added to.
CREATE TABLE sandbox_history (
    group_id   TEXT   NOT NULL,
    n          BIGINT NOT NULL,
    session    TEXT   NOT NULL,
    command_id TEXT   NOT NULL,
    type       TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (group_id, n)
);
