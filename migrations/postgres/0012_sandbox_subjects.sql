-- The order of `ListGroups` by subject (src/store/sandbox_groups/lists.rs): a page of an account's groups is found
-- without sorting all of them. The database keeps an index itself, so releases that do not know it keep it too.
CREATE INDEX sandbox_groups_by_subject ON sandbox_groups (subject, id);
