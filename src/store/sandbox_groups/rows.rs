//! The sandbox's tables.

use std::collections::BTreeSet;

use super::state::{self, SandboxGroup};
use crate::contract::{CommandType, GroupId, ParticipantId, Timestamp};
use crate::store::Error;
use crate::store::batch::{TableRow, WriteBatcher};
use crate::store::db::{self, Pool, Value};
use crate::store::ledger::{Fingerprint, Key, Record};

const WRITING: &str = "writing groups";

/// A group.
#[derive(Debug)]
pub(in crate::store) struct GroupRow {
    /// A document that cannot be parsed fails the commands for its group alone.
    pub(super) state: Result<SandboxGroup, Error>,
    /// The members that [`MemberRow`]s stand for.
    members: BTreeSet<ParticipantId>,
    /// The invite code that an [`InviteCodeRow`] stands for.
    invite_code: Option<String>,
}

impl GroupRow {
    pub(super) const fn new(state: SandboxGroup) -> Self {
        Self {
            state: Ok(state),
            members: BTreeSet::new(),
            invite_code: None,
        }
    }

    /// The invite code, if it changed since the last call, or its row is missing.
    pub(super) fn new_invite_code(&mut self) -> Option<String> {
        let state = self.state.as_mut().ok()?;
        if self.invite_code.as_ref() == Some(&state.invite_code) {
            return None;
        }
        state.code_listed = true;
        self.invite_code = Some(state.invite_code.clone());
        self.invite_code.clone()
    }

    /// The members that joined or left since the last call, and whether they are members now.
    pub(super) fn membership_changes(&mut self) -> Vec<(ParticipantId, bool)> {
        let Ok(state) = &self.state else {
            return Vec::new();
        };
        let members = &state.members;
        if self.members.iter().eq(members.keys()) {
            return Vec::new();
        }
        let joined = members.keys().filter(|who| !self.members.contains(*who));
        let left = self
            .members
            .iter()
            .filter(|who| !members.contains_key(*who));
        let joined = joined.map(|who| (who.clone(), true));
        let changes = joined.chain(left.map(|who| (who.clone(), false))).collect();
        self.members = members.keys().cloned().collect();
        changes
    }
}

impl TableRow for GroupRow {
    type Key = GroupId;

    const TABLE: &'static str = "sandbox_groups";
    const KEY: &'static [&'static str] = &["id"];
    const COLUMNS: &'static [&'static str] = &["subject", "version", "state"];
    const READING: &'static str = "reading groups";
    const WRITING: &'static str = WRITING;

    fn key_values(id: &GroupId) -> Vec<Value> {
        vec![Value::from(id.shared())]
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        let state = self.state?;
        Ok(vec![
            Value::from(state.subject.shared()),
            Value::Int(state.changes),
            Value::Text(state::write(&state)?),
        ])
    }

    fn read(row: &db::Row) -> Result<(GroupId, Self), Error> {
        let state = state::read(&row.get::<String>(3)?);
        let members = state.as_ref().map(|s| s.members.keys().cloned().collect());
        let group = Self {
            invite_code: state
                .as_ref()
                .ok()
                .filter(|it| it.code_listed)
                .map(|it| it.invite_code.clone()),
            members: members.unwrap_or_default(),
            state,
        };
        Ok((row.parse(0, Self::TABLE)?, group))
    }
}

/// A member of a group: the same as in the group's document, for `ListGroups`.
#[derive(Debug)]
pub(in crate::store) struct MemberRow;

impl TableRow for MemberRow {
    type Key = (ParticipantId, GroupId);

    const TABLE: &'static str = "sandbox_members";
    const KEY: &'static [&'static str] = &["account", "group_id"];
    const COLUMNS: &'static [&'static str] = &[];
    const WRITING: &'static str = WRITING;

    fn key_values((account, group): &Self::Key) -> Vec<Value> {
        vec![Value::from(account.shared()), Value::from(group.shared())]
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        Ok(Vec::new())
    }
}

/// The group that an invite code, revoked or not, leads to.
#[derive(Debug)]
pub(in crate::store) struct InviteCodeRow {
    pub(super) group: GroupId,
}

impl TableRow for InviteCodeRow {
    type Key = String;

    const TABLE: &'static str = "sandbox_invite_codes";
    const KEY: &'static [&'static str] = &["code"];
    const COLUMNS: &'static [&'static str] = &["group_id"];
    const WRITING: &'static str = WRITING;

    fn key_values(code: &String) -> Vec<Value> {
        vec![Value::from(code.as_str())]
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        Ok(vec![Value::from(self.group.shared())])
    }
}

/// A command that changed a group.
#[derive(Debug)]
pub(in crate::store) struct HistoryRow {
    pub(super) group: GroupId,
    /// The number of the change. The table's key refuses the same one twice.
    pub(super) n: i64,
    pub(super) key: Key,
    pub(super) command: CommandType,
    pub(super) at: Timestamp,
}

impl TableRow for HistoryRow {
    /// The order within the batch: the history is only appended to.
    type Key = usize;

    const TABLE: &'static str = "sandbox_history";
    const KEY: &'static [&'static str] = &[];
    const COLUMNS: &'static [&'static str] =
        &["group_id", "n", "session", "command_id", "type", "at"];
    const WRITING: &'static str = WRITING;

    fn key_values(_: &usize) -> Vec<Value> {
        Vec::new()
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        Ok(vec![
            Value::from(self.group.shared()),
            Value::Int(self.n),
            Value::from(self.key.session.shared()),
            Value::from(self.key.command_id.shared()),
            Value::from(self.command.as_str()),
            Value::Int(self.at.0.as_millisecond()),
        ])
    }
}

/// The outcome of a command that changed a group.
#[derive(Debug)]
pub(in crate::store) struct OutcomeRow {
    fingerprint: Fingerprint,
    at: Timestamp,
    /// As JSON.
    record: String,
}

impl OutcomeRow {
    pub(super) fn new(fingerprint: Fingerprint, record: &Record) -> Result<Self, Error> {
        Ok(Self {
            fingerprint,
            at: record.at,
            record: serde_json::to_string(record).map_err(|e| Error::corrupt(Self::TABLE, e))?,
        })
    }

    /// The outcome; none if it is the outcome of a command with another type or payload.
    pub(super) fn record(&self, fingerprint: Fingerprint) -> Result<Option<Record>, Error> {
        if self.fingerprint != fingerprint {
            return Ok(None);
        }
        serde_json::from_str(&self.record).map_err(|e| Error::corrupt(Self::TABLE, e))
    }
}

impl TableRow for OutcomeRow {
    type Key = Key;

    const TABLE: &'static str = "sandbox_outcomes";
    const KEY: &'static [&'static str] = &["session", "command_id"];
    const COLUMNS: &'static [&'static str] = &["fingerprint", "at", "record"];
    const READING: &'static str = "reading outcomes";
    const WRITING: &'static str = WRITING;

    fn key_values(key: &Key) -> Vec<Value> {
        key.values()
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        Ok(vec![
            Value::Bytes(self.fingerprint.to_vec()),
            Value::Int(self.at.0.as_millisecond()),
            Value::Text(self.record),
        ])
    }

    fn read(row: &db::Row) -> Result<(Key, Self), Error> {
        let fingerprint: Vec<u8> = row.get(2)?;
        let at = jiff::Timestamp::from_millisecond(row.get(3)?);
        let outcome = Self {
            // Never longer or shorter; were it, it would equal no command's.
            fingerprint: fingerprint.try_into().unwrap_or_default(),
            at: Timestamp(at.unwrap_or_default()),
            record: row.get(4)?,
        };
        Ok((Key::read(row, Self::TABLE)?, outcome))
    }
}

/// Deletes up to `at_most` outcomes from before `before`, the oldest first, but those of commands that the
/// ledger has as started.
pub(super) async fn purge_outcomes(
    batcher: &WriteBatcher,
    pool: &Pool,
    before: Timestamp,
    at_most: u32,
) -> Result<u64, Error> {
    let lock = if pool.is_postgres() {
        // Not the rows that another worker has locked.
        " FOR UPDATE OF outcomes SKIP LOCKED"
    } else {
        ""
    };
    let sql = format!(
        "DELETE FROM sandbox_outcomes WHERE (session, command_id) IN (SELECT session, command_id \
         FROM sandbox_outcomes AS outcomes WHERE at < $1 AND NOT EXISTS (SELECT 1 FROM ledger \
         WHERE ledger.session = outcomes.session AND ledger.command_id = outcomes.command_id \
         AND ledger.state = 'started') ORDER BY at LIMIT $2{lock})"
    );
    let values = vec![
        Value::Int(before.0.as_millisecond()),
        Value::Int(i64::from(at_most)),
    ];
    batcher.execute("purging outcomes", sql, values).await
}
