//! Deferred commands, each by its id: so that one that does not come back is noticed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Lanes, int, run};
use crate::contract::{LaneName, Timestamp};
use crate::store::db::sql;
use crate::store::db::{Link, Row, Value, millis};
use crate::store::{Error, ledger};

/// What is read of each, in this order.
const COLUMNS: &str =
    "session, command_id, command_type, group_id, ticket, tier_ms, due_at, lost_at, queue";

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
    /// When it should be back.
    pub due: Timestamp,
    /// Since when it is known not to come back.
    pub lost_at: Option<Timestamp>,
}

/// The commands that a batch changes; the last word on each counts.
pub(super) type Rows = BTreeMap<ledger::Key, Option<(Arc<str>, Deferred)>>;

impl Lanes {
    /// Every deferred command of the command queue, and those whose command queue is unknown; with
    /// whether that is so.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn load_deferred(&self) -> Result<Vec<(Deferred, bool)>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM deferred WHERE queue = $1 OR queue = '' \
             ORDER BY session, command_id"
        );
        let values = vec![Value::from(&*self.shard)];
        let rows = self.pool.fetch("reading deferred commands", &sql, values);
        let read = |row: &Row| Ok((read(row)?, row.get::<String>(8)?.is_empty()));
        rows.await?.iter().map(read).collect()
    }

    /// Every deferred command of all command queues, the one that should be back first at the front.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn all_deferred(&self) -> Result<Vec<Deferred>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM deferred ORDER BY due_at, session, command_id");
        let rows = self
            .pool
            .fetch("reading deferred commands", &sql, Vec::new());
        rows.await?.iter().map(read).collect()
    }

    /// Forgets the commands that were lost before `before`.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn forget_lost(&self, before: Timestamp) -> Result<(), Error> {
        let sql = "DELETE FROM deferred WHERE lost_at < $1";
        let values = vec![Value::Int(before.0.as_millisecond())];
        let forgotten = self.pool.execute("forgetting lost commands", sql, values);
        forgotten.await.map(drop)
    }
}

pub(super) async fn write(rows: Rows, link: &mut Link) -> Result<(), Error> {
    let (mut deferred, mut gone) = (Vec::new(), Vec::new());
    for (key, row) in rows {
        match row {
            Some((shard, row)) => deferred.push(values(&shard, &row)),
            None => gone.push(key_values(&key)),
        }
    }
    for (count, values) in sql::row_lists(deferred) {
        let sql = format!(
            "INSERT INTO deferred ({COLUMNS}) VALUES {} ON CONFLICT (session, command_id) DO UPDATE \
             SET command_type = excluded.command_type, group_id = excluded.group_id, \
             ticket = excluded.ticket, tier_ms = excluded.tier_ms, due_at = excluded.due_at, \
             lost_at = excluded.lost_at, queue = excluded.queue",
            link.placeholders(count, 9)
        );
        run(link, sql, values).await?;
    }
    for (count, values) in sql::key_lists(&gone) {
        let keys = link.placeholders(count, 2);
        let sql = format!("DELETE FROM deferred WHERE (session, command_id) IN (VALUES {keys})");
        run(link, sql, values).await?;
    }
    Ok(())
}

fn key_values(key: &ledger::Key) -> [Value; 2] {
    [
        Value::from(key.session.as_str()),
        Value::from(key.command_id.as_str()),
    ]
}

fn values(shard: &str, row: &Deferred) -> [Value; 9] {
    let [session, id] = key_values(&row.key);
    [
        session,
        id,
        Value::from(&*row.command_type),
        Value::from(row.lane.as_ref().map_or("", LaneName::as_str)),
        int(row.ticket),
        millis(row.tier),
        Value::Int(row.due.0.as_millisecond()),
        Value::MaybeInt(row.lost_at.map(|at| at.0.as_millisecond())),
        Value::from(shard),
    ]
}

fn read(row: &Row) -> Result<Deferred, Error> {
    let number =
        |column| Ok::<_, Error>(u64::try_from(row.get::<i64>(column)?).unwrap_or_default());
    let corrupt = |error| Error::corrupt("deferred", serde::de::Error::custom(error));
    let time = |millis| Timestamp(jiff::Timestamp::from_millisecond(millis).unwrap_or_default());
    let lane = row.get::<String>(3)?;
    Ok(Deferred {
        key: ledger::Key {
            session: row.get::<String>(0)?.parse().map_err(corrupt)?,
            command_id: row.get::<String>(1)?.parse().map_err(corrupt)?,
        },
        command_type: row.get(2)?,
        lane: (!lane.is_empty()).then(|| lane.into()),
        ticket: number(4)?,
        tier: Duration::from_millis(number(5)?),
        due: time(row.get(6)?),
        lost_at: row.get::<Option<i64>>(7)?.map(time),
    })
}
