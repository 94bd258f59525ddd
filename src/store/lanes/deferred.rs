//! Deferred commands by id, so that one that does not return from its delay queue is detected.

use std::sync::Arc;
use std::time::Duration;

use super::{Lanes, int, number};
use crate::contract::{LaneName, Timestamp};
use crate::store::batch::{TableRow, select};
use crate::store::db::{self, Value, millis};
use crate::store::{Error, ledger};

/// A command that is deferred, or was lost while it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferred {
    /// The command.
    pub key: ledger::Key,
    /// Its type.
    pub command_type: String,
    /// Its lane, where it has one.
    pub lane: Option<LaneName>,
    /// Its place there; 0 where it has none.
    pub ticket: u64,
    /// How long it is deferred.
    pub tier: Duration,
    /// When it is due back.
    pub due: Timestamp,
    /// When it was found to be lost.
    pub lost_at: Option<Timestamp>,
}

/// A deferred command, and its command queue.
#[derive(Debug)]
pub(in crate::store) struct DeferredRow {
    pub(super) deferred: Deferred,
    pub(super) shard: Arc<str>,
}

impl Lanes {
    /// Every deferred command of the command queue, and those whose command queue is unknown, each with a flag:
    /// true if it is unknown.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn load_deferred(&self) -> Result<Vec<(Deferred, bool)>, Error> {
        let sql =
            select::<DeferredRow>("WHERE queue = $1 OR queue = '' ORDER BY session, command_id");
        let values = vec![Value::from(Arc::clone(&self.shard))];
        let rows = self.pool.fetch(DeferredRow::READING, sql, values);
        let rows = rows.await?;
        let rows = rows.iter().map(DeferredRow::read);
        rows.map(|row| row.map(|(_, row)| (row.deferred, row.shard.is_empty())))
            .collect()
    }

    /// Every deferred command of all command queues, by due time.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn all_deferred(&self) -> Result<Vec<Deferred>, Error> {
        let sql = select::<DeferredRow>("ORDER BY due_at, session, command_id");
        let rows = self.pool.fetch(DeferredRow::READING, sql, Vec::new());
        let rows = rows.await?;
        let rows = rows.iter().map(DeferredRow::read);
        rows.map(|row| row.map(|(_, row)| row.deferred)).collect()
    }

    /// Removes the commands that were found lost before `before`.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn forget_lost(&self, before: Timestamp) -> Result<(), Error> {
        let sql = "DELETE FROM deferred WHERE lost_at < $1";
        let values = vec![Value::Int(before.0.as_millisecond())];
        let forgotten = self.pool.execute("removing lost commands", sql, values);
        forgotten.await.map(drop)
    }
}

impl TableRow for DeferredRow {
    type Key = ledger::Key;

    const TABLE: &'static str = "deferred";
    const KEY: &'static [&'static str] = &["session", "command_id"];
    const COLUMNS: &'static [&'static str] = &[
        "command_type",
        "group_id",
        "ticket",
        "tier_ms",
        "due_at",
        "lost_at",
        "queue",
    ];
    const READING: &'static str = "reading deferred commands";
    const WRITING: &'static str = "writing deferred commands";

    fn key_values(key: &ledger::Key) -> Vec<Value> {
        key.values()
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        let row = self.deferred;
        Ok(vec![
            Value::Text(row.command_type),
            Value::from(row.lane.as_ref().map_or("", LaneName::as_str)),
            int(row.ticket),
            millis(row.tier),
            Value::Int(row.due.0.as_millisecond()),
            Value::MaybeInt(row.lost_at.map(|at| at.0.as_millisecond())),
            Value::from(self.shard),
        ])
    }

    fn read(row: &db::Row) -> Result<(ledger::Key, Self), Error> {
        let time =
            |millis| Timestamp(jiff::Timestamp::from_millisecond(millis).unwrap_or_default());
        let lane = row.get::<String>(3)?;
        let deferred = Deferred {
            key: ledger::Key::read(row, Self::TABLE)?,
            command_type: row.get(2)?,
            lane: (!lane.is_empty()).then(|| lane.into()),
            ticket: number(row, 4)?,
            tier: Duration::from_millis(number(row, 5)?),
            due: time(row.get(6)?),
            lost_at: row.get::<Option<i64>>(7)?.map(time),
        };
        let shard = row.get::<String>(8)?.into();
        Ok((deferred.key.clone(), Self { deferred, shard }))
    }
}
