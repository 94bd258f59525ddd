//! The sandbox's tables: groups loaded for a batch, changed in memory, and their differences
//! written back.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{self, SandboxGroup};
use crate::contract::{CommandType, GroupId, ParticipantId, Timestamp};
use crate::store::Error;
use crate::store::db::sql;
use crate::store::db::{Link, Value};
use crate::store::ledger::Key;

/// The groups of a batch.
#[derive(Debug, Default)]
pub(in crate::store) struct Rows {
    groups: BTreeMap<GroupId, Slot>,
    history: Vec<[Value; 6]>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The table had the group when the batch began.
    stored: bool,
    changed: bool,
    /// A document that does not read fails the commands for its group alone.
    state: Option<Result<SandboxGroup, Error>>,
    /// Who was in it when the batch began.
    members: BTreeSet<ParticipantId>,
}

impl Rows {
    /// Loads, and where possible locks, these groups.
    pub(in crate::store) async fn load(link: &mut Link, ids: Vec<GroupId>) -> Result<Self, Error> {
        let mut groups: BTreeMap<GroupId, Slot> =
            ids.into_iter().map(|id| (id, Slot::default())).collect();
        let keys: Vec<_> = groups.keys().map(|id| [Value::from(id.as_str())]).collect();
        for (count, values) in sql::key_lists(&keys) {
            let sql = format!(
                "SELECT id, state FROM sandbox_groups WHERE id IN (VALUES {}) ORDER BY id{}",
                link.placeholders(count, 1),
                link.for_update(),
            );
            let found = link.fetch(sql, values).await;
            for row in found.map_err(|error| Error::of("reading groups", error))? {
                let id: String = row.get(0)?;
                let state = state::read(&row.get::<String>(1)?);
                let members = state.as_ref().map(|s| s.members.keys().cloned().collect());
                let slot = Slot {
                    stored: true,
                    changed: false,
                    members: members.unwrap_or_default(),
                    state: Some(state),
                };
                if let Some(empty) = id.parse().ok().and_then(|id: GroupId| groups.get_mut(&id)) {
                    *empty = slot;
                }
            }
        }
        Ok(Self {
            groups,
            history: Vec::new(),
        })
    }

    pub(super) fn get(&mut self, id: &GroupId) -> Result<Option<&mut SandboxGroup>, Error> {
        match self.groups.get_mut(id).and_then(|slot| slot.state.as_mut()) {
            None => Ok(None),
            Some(Ok(state)) => Ok(Some(state)),
            Some(Err(error)) => Err(error.clone()),
        }
    }

    pub(super) fn insert(&mut self, id: &GroupId, state: SandboxGroup) {
        self.groups.entry(id.clone()).or_default().state = Some(Ok(state));
    }

    pub(super) fn changed(&mut self, id: &GroupId, key: &Key, command: CommandType, at: Timestamp) {
        let Some(slot) = self.groups.get_mut(id) else {
            return;
        };
        let Some(Ok(state)) = &mut slot.state else {
            return;
        };
        slot.changed = true;
        state.changes += 1;
        self.history.push([
            Value::from(id.as_str()),
            Value::Int(state.changes),
            Value::from(key.session.as_str()),
            Value::from(key.command_id.as_str()),
            Value::from(command.as_str()),
            Value::Int(at.0.as_millisecond()),
        ]);
    }

    /// Writes the differences.
    pub(in crate::store) async fn write(self, link: &mut Link) -> Result<(), Error> {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for (id, slot) in self.groups.into_iter().filter(|(_, slot)| slot.changed) {
            let Some(Ok(state)) = slot.state else {
                continue;
            };
            let member =
                |who: &ParticipantId| [Value::from(who.as_str()), Value::from(id.as_str())];
            let is_new = |who: &&ParticipantId| !slot.members.contains(*who);
            joined.extend(state.members.keys().filter(is_new).map(member));
            let is_gone = |who: &&ParticipantId| !state.members.contains_key(*who);
            left.extend(slot.members.iter().filter(is_gone).map(member));
            let row = [
                Value::from(id.as_str()),
                Value::from(state.subject.as_str()),
                Value::Int(state.changes),
                Value::Text(state::write(&state)?),
            ];
            if slot.stored {
                changed.push(row);
            } else {
                new.push(row);
            }
        }
        let groups = "sandbox_groups (id, subject, version, state)";
        let update = " ON CONFLICT (id) DO UPDATE SET subject = excluded.subject, \
                      version = excluded.version, state = excluded.state";
        insert(link, groups, new, "").await?;
        insert(link, groups, changed, update).await?;
        let history = "sandbox_history (group_id, n, session, command_id, type, at)";
        insert(link, history, self.history, "").await?;
        for (count, values) in sql::key_lists(&left) {
            let keys = link.placeholders(count, 2);
            let sql =
                format!("DELETE FROM sandbox_members WHERE (account, group_id) IN (VALUES {keys})");
            run(link, sql, values).await?;
        }
        insert(link, "sandbox_members (account, group_id)", joined, "").await
    }
}

async fn insert<const N: usize>(
    link: &mut Link,
    table: &str,
    rows: Vec<[Value; N]>,
    suffix: &str,
) -> Result<(), Error> {
    for (count, values) in sql::row_lists(rows) {
        let sql = format!(
            "INSERT INTO {table} VALUES {}{suffix}",
            link.placeholders(count, N)
        );
        run(link, sql, values).await?;
    }
    Ok(())
}

async fn run(link: &mut Link, sql: String, values: Vec<Value>) -> Result<(), Error> {
    let done = link.execute(sql, values).await;
    done.map(drop)
        .map_err(|error| Error::of("writing groups", error))
}
