//! The sandbox's groups, their members, the commands that changed each, and the outcomes of these commands.
//!
//! This file stores groups; WhatsApp's rules are in the sandbox engine. A command's change and its outcome are one
//! transaction, so a repetition of the command finds the outcome and changes nothing.

mod lists;
mod rows;
mod state;

use super::Error;
use super::batch::{ReadSet, Rows, Table};
use super::db::{self, Pool, Value};
use super::ledger::{Fingerprint, Key, Record};
use super::shards::{Fence, FencedBatcher};
use crate::contract::{CommandType, GroupId, JoinCode, Timestamp};

#[cfg(test)]
pub(super) use lists::page;
pub(super) use rows::{GroupRow, HistoryRow, InviteCodeRow, MemberRow, OutcomeRow};
pub use state::{Former, Member, SandboxGroup, Waiting};

/// A command that changed a group, as the history keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The group.
    pub group_id: String,
    /// Counts the group's changes, from 1.
    pub n: i64,
    /// The session whose command it was.
    pub session: String,
    /// The command.
    pub command_id: String,
    /// Its type.
    pub command_type: String,
}

/// The groups that a command works on, inside its transaction.
#[derive(Debug)]
pub struct World<'a> {
    groups: &'a mut Table<GroupRow>,
    key: &'a Key,
    history: Vec<HistoryRow>,
}

impl World<'_> {
    /// A group, to read and to change; only those that the transaction named are there.
    ///
    /// A change is kept only if [`World::changed`] is called.
    ///
    /// # Errors
    /// When the stored group cannot be parsed.
    pub fn group(&mut self, id: &GroupId) -> Result<Option<&mut SandboxGroup>, Error> {
        let group = self.groups.get_mut(id);
        group
            .map(|row| row.state.as_mut().map_err(|error| error.clone()))
            .transpose()
    }

    /// Adds a group; [`World::changed`] is still to be called.
    pub fn insert(&mut self, id: &GroupId, state: SandboxGroup) {
        self.groups.put(id.clone(), GroupRow::new(state));
    }

    /// Marks a group as changed by this transaction's command, and adds the command to its history.
    pub fn changed(&mut self, id: &GroupId, command: CommandType, at: Timestamp) {
        let Some(Ok(state)) = self.groups.get_mut(id).map(|row| row.state.as_mut()) else {
            return;
        };
        state.changes += 1;
        self.history.push(HistoryRow {
            group: id.clone(),
            n: state.changes,
            key: self.key.clone(),
            command,
            at,
        });
        self.groups.touch(id);
    }
}

/// Runs a command's step on the groups, and adds its changes and its outcome to the batch.
fn in_world(
    rows: &mut Rows,
    key: &Key,
    fingerprint: Fingerprint,
    step: impl Fn(&mut World<'_>) -> Result<Record, Error>,
) -> Result<Record, Error> {
    let mut world = World {
        groups: rows.table()?,
        key,
        history: Vec::new(),
    };
    let record = step(&mut world)?;
    let history = world.history;
    // A command that changed nothing may run again: that changes nothing either, or is its first effect.
    if !history.is_empty() {
        let outcome = OutcomeRow::new(fingerprint, &record)?;
        rows.table()?.put(key.clone(), outcome);
    }
    for change in history {
        let group = rows.table::<GroupRow>()?.get_mut(&change.group);
        let (members, code) = group
            .map(|row| (row.membership_changes(), row.new_invite_code()))
            .unwrap_or_default();
        for (who, is_member) in members {
            let row = is_member.then_some(MemberRow);
            rows.table()?.overwrite((who, change.group.clone()), row);
        }
        if let Some(code) = code {
            let group = change.group.clone();
            rows.table()?.overwrite(code, Some(InviteCodeRow { group }));
        }
        rows.table()?.append(change);
    }
    Ok(record)
}

/// A handle to the sandbox's groups; cheap to clone.
#[derive(Debug, Clone)]
pub struct SandboxGroups {
    batcher: FencedBatcher,
    pool: Pool,
}

impl SandboxGroups {
    pub(super) const fn new(batcher: FencedBatcher, pool: Pool) -> Self {
        Self { batcher, pool }
    }

    /// The same groups, whose writes are fenced.
    #[must_use]
    pub fn under(&self, fence: Option<Fence>) -> Self {
        Self {
            batcher: self.batcher.under(fence),
            pool: self.pool.clone(),
        }
    }

    /// Executes a command, or returns the outcome that it had before; none if the key belongs to a command with
    /// another type or payload.
    ///
    /// `step` reads and changes the named groups, and returns the outcome. It may run several times, so it must
    /// depend on nothing but its argument; one that fails must have changed nothing.
    ///
    /// # Errors
    /// When the store cannot be used, or `step` failed; a retry under the same key is safe.
    ///
    /// # Cancellation
    /// Dropping the future does not stop the command.
    pub async fn change<F>(
        &self,
        key: Key,
        fingerprint: Fingerprint,
        groups: Vec<GroupId>,
        step: F,
    ) -> Result<Option<Record>, Error>
    where
        F: Fn(&mut World<'_>) -> Result<Record, Error> + Send + 'static,
    {
        let needs = ReadSet::default()
            .with::<GroupRow>(groups)
            .with::<OutcomeRow>([key.clone()]);
        let step = move |rows: &mut Rows| match rows.table::<OutcomeRow>()?.get(&key) {
            Some(known) => known.record(fingerprint),
            None => in_world(rows, &key, fingerprint, &step).map(Some),
        };
        self.batcher.submit(needs, step).await
    }

    /// The outcome of a command that changed a group; none if it changed nothing.
    ///
    /// It is read behind all changes that this process has submitted, so none of them can still come.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn outcome(
        &self,
        key: Key,
        fingerprint: Fingerprint,
    ) -> Result<Option<Record>, Error> {
        let needs = ReadSet::default().with::<OutcomeRow>([key.clone()]);
        let step = move |rows: &mut Rows| {
            let row = rows.table::<OutcomeRow>()?.get(&key);
            row.map_or(Ok(None), |row| row.record(fingerprint))
        };
        self.batcher.submit(needs, step).await
    }

    /// Forgets up to `at_most` outcomes from before `before`, but those of commands that the ledger has as
    /// started; returns how many.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn purge_outcomes(&self, before: Timestamp, at_most: u32) -> Result<u64, Error> {
        rows::purge_outcomes(self.batcher.unfenced(), &self.pool, before, at_most).await
    }

    /// Reads a group.
    ///
    /// # Errors
    /// When the store cannot be used or the group cannot be parsed.
    pub async fn get(&self, id: &GroupId) -> Result<Option<SandboxGroup>, Error> {
        let sql = "SELECT state FROM sandbox_groups WHERE id = $1";
        let values = vec![Value::from(id.as_str())];
        let found = self.pool.fetch("reading a group", sql, values).await?;
        found
            .first()
            .map(|row| state::read(&row.get::<String>(0)?))
            .transpose()
    }

    /// The group that an invite code leads to, whether or not the code has been revoked since.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn of_invite_code(&self, code: &JoinCode) -> Result<Option<GroupId>, Error> {
        let sql = "SELECT group_id FROM sandbox_invite_codes WHERE code = $1";
        let values = vec![Value::from(code.as_str())];
        let found = self.pool.fetch("reading an invite code", sql, values);
        let found = found.await?;
        let group = found
            .first()
            .map(|row| row.parse(0, "sandbox_invite_codes"));
        group.transpose()
    }

    /// Reads the commands that changed a group, in order: proof, for tests and operators, that a command had one
    /// effect.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn history(&self, id: &GroupId) -> Result<Vec<HistoryEntry>, Error> {
        let sql = "SELECT group_id, n, session, command_id, type FROM sandbox_history \
                   WHERE group_id = $1 ORDER BY n";
        let values = vec![Value::from(id.as_str())];
        let found = self
            .pool
            .fetch("reading a group's history", sql, values)
            .await?;
        let read = |row: &db::Row| {
            Ok(HistoryEntry {
                group_id: row.get(0)?,
                n: row.get(1)?,
                session: row.get(2)?,
                command_id: row.get(3)?,
                command_type: row.get(4)?,
            })
        };
        found.iter().map(read).collect()
    }
}
