-- The group of each invite code of the sandbox, revoked ones too (src/store/sandbox_groups/mod.rs): a command that joins
-- a group names the code alone.
CREATE TABLE sandbox_invite_codes (
    code     TEXT NOT NULL PRIMARY KEY,
    group_id TEXT NOT NULL
);

-- A document that cannot be parsed is left out: it fails the commands for its group alone.
INSERT INTO sandbox_invite_codes (code, group_id)
SELECT code, id
FROM (
    SELECT json_extract(CASE WHEN json_valid(state) THEN state END, '$.invite_code') AS code, id
    FROM sandbox_groups
)
WHERE code IS NOT NULL
ON CONFLICT DO NOTHING;
