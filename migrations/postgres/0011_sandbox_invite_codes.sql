-- The group of each invite code of the sandbox, revoked ones too (src/store/sandbox_groups/mod.rs): a command that joins
-- a group names the code alone.
CREATE TABLE sandbox_invite_codes (
    code     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    group_id TEXT COLLATE "C" NOT NULL
);

-- A document that cannot be parsed is left out: it fails the commands for its group alone.
INSERT INTO sandbox_invite_codes (code, group_id)
SELECT substring(state FROM '"invite_code":"([A-Za-z0-9_-]+)"'), id
FROM sandbox_groups
WHERE state ~ '"invite_code":"[A-Za-z0-9_-]+"'
ON CONFLICT DO NOTHING;
