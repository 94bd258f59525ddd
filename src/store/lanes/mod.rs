//! Lanes that have deferred commands: the state that must outlive the worker to keep the order within a group.
//!
//! A lane has a row from the first deferral until its last deferred command is done, and so has each of these
//! commands ([`Deferred`]). The worker decides which command is executed when.

mod deferred;

use std::sync::Arc;
use std::time::Duration;

pub use deferred::Deferred;
pub(super) use deferred::DeferredRow;

use super::Error;
use super::batch::{ReadSet, Rows, TableRow, select};
use super::db::{self, Pool, Value, millis};
use super::ledger;
use super::shards::{Fence, FencedBatcher};
use crate::contract::{LaneName, SessionName, Timestamp};

/// A lane: commands of one session that are executed in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    /// The session whose commands they are.
    pub session: SessionName,
    /// Their lane; in the column `group_id`, since most lanes are groups.
    pub lane: LaneName,
}

/// The deferred commands of a lane, by their tickets `head..=tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneState {
    /// The ticket that is next.
    pub head: u64,
    /// The ticket given out last.
    pub tail: u64,
    /// How long the head is deferred; what follows it is deferred behind it, to the same queue.
    pub tier: Duration,
    /// When the head is due back.
    pub due: Timestamp,
}

/// A handle to the lanes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lanes {
    batcher: FencedBatcher,
    pool: Pool,
    /// The command queue that they belong to.
    shard: Arc<str>,
}

impl Lanes {
    pub(super) fn new(batcher: FencedBatcher, pool: Pool) -> Self {
        let shard = "".into();
        Self {
            batcher,
            pool,
            shard,
        }
    }

    /// The lanes of one command queue, written under its fence.
    #[must_use]
    pub fn under(&self, fence: &Fence) -> Self {
        Self {
            batcher: self.batcher.under(Some(fence.clone())),
            pool: self.pool.clone(),
            shard: fence.queue().into(),
        }
    }

    /// Every lane of the command queue that has deferred commands, and those whose command queue is unknown.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn load(&self) -> Result<Vec<(LaneKey, LaneState)>, Error> {
        let sql = select::<LaneRow>("WHERE queue = $1 OR queue = ''");
        let values = vec![Value::from(Arc::clone(&self.shard))];
        let rows = self.pool.fetch(LaneRow::READING, sql, values).await?;
        let rows = rows.iter().map(LaneRow::read);
        rows.map(|row| row.map(|(key, row)| (key, row.state)))
            .collect()
    }

    /// Clears the command queue of each lane: the queues have changed.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn forget_queues(&self) -> Result<(), Error> {
        let doing = "clearing the queues of lanes";
        for sql in [
            "UPDATE lanes SET queue = ''",
            "UPDATE deferred SET queue = ''",
        ] {
            self.pool.execute(doing, sql, Vec::new()).await?;
        }
        Ok(())
    }

    /// Records the state of a lane; `None` once it has no deferred command.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn put(&self, key: LaneKey, state: Option<LaneState>) -> Result<(), Error> {
        self.write(LaneChange {
            lane: Some((key, state)),
            command: None,
        })
        .await
    }

    /// Records the changes of a deferral, or of its end.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn write(&self, change: LaneChange) -> Result<(), Error> {
        let shard = Arc::clone(&self.shard);
        let step = move |rows: &mut Rows| {
            if let Some((key, state)) = &change.lane {
                let row = state.map(|state| LaneRow {
                    state,
                    shard: Arc::clone(&shard),
                });
                rows.table()?.overwrite(key.clone(), row);
            }
            if let Some((key, deferred)) = &change.command {
                let row = deferred.clone().map(|deferred| DeferredRow {
                    deferred,
                    shard: Arc::clone(&shard),
                });
                rows.table()?.overwrite(key.clone(), row);
            }
            Ok(())
        };
        self.batcher.submit(ReadSet::default(), step).await
    }
}

/// The changes of a deferral, or of its end; `None` deletes the row.
#[derive(Debug, Clone, Default)]
pub struct LaneChange {
    /// The state of a lane.
    pub lane: Option<(LaneKey, Option<LaneState>)>,
    /// A deferred command.
    pub command: Option<(ledger::Key, Option<Deferred>)>,
}

/// A lane with deferred commands, and its command queue.
#[derive(Debug)]
pub(super) struct LaneRow {
    state: LaneState,
    shard: Arc<str>,
}

impl TableRow for LaneRow {
    type Key = LaneKey;

    const TABLE: &'static str = "lanes";
    const KEY: &'static [&'static str] = &["session", "group_id"];
    const COLUMNS: &'static [&'static str] = &["head", "tail", "tier_ms", "due_at", "queue"];
    const READING: &'static str = "reading lanes";
    const WRITING: &'static str = "writing lanes";

    fn key_values(key: &LaneKey) -> Vec<Value> {
        vec![
            Value::from(key.session.shared()),
            Value::from(key.lane.as_str()),
        ]
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        let LaneState {
            head,
            tail,
            tier,
            due,
        } = self.state;
        Ok(vec![
            int(head),
            int(tail),
            millis(tier),
            Value::Int(due.0.as_millisecond()),
            Value::from(self.shard),
        ])
    }

    fn read(row: &db::Row) -> Result<(LaneKey, Self), Error> {
        let key = LaneKey {
            session: row.parse(0, Self::TABLE)?,
            lane: row.get::<String>(1)?.into(),
        };
        let due = jiff::Timestamp::from_millisecond(row.get(5)?).unwrap_or_default();
        let state = LaneState {
            head: number(row, 2)?,
            tail: number(row, 3)?,
            tier: Duration::from_millis(number(row, 4)?),
            due: Timestamp(due),
        };
        let shard = row.get::<String>(6)?.into();
        Ok((key, Self { state, shard }))
    }
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn number(row: &db::Row, column: usize) -> Result<u64, Error> {
    Ok(u64::try_from(row.get::<i64>(column)?).unwrap_or_default())
}
