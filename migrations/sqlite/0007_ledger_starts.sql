-- How often a command was started without an end that anybody saw, and when first: what must not be done
-- twice is started once more at most, whoever has it by then. A null is the same as started_at.
ALTER TABLE ledger ADD COLUMN starts INTEGER NOT NULL DEFAULT 1;
ALTER TABLE ledger ADD COLUMN first_started_at INTEGER;
