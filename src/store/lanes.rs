//! Lanes that have deferred commands: what has to survive the worker for a group's order to hold.
//!
//! A lane is here from the first deferral until the last deferred command is done, and so is each command
//! of it ([`Deferred`]). Which may go when is decided by the worker.

mod deferred;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use deferred::Deferred;

use super::Error;
use super::commit::{ReadSet, WriteBatcher};
use super::db::sql;
use super::db::{Link, Pool, Row, Value, millis};
use super::ledger;
use super::shards::Fence;
use crate::contract::{LaneName, SessionName, Timestamp};

/// Whose order it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    /// The session whose commands they are.
    pub session: SessionName,
    /// Their lane; in the column `group_id`, since most lanes are groups.
    pub lane: LaneName,
}

/// The deferred commands of a lane, by their tickets `head..=tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    /// The ticket that is next.
    pub head: u64,
    /// The ticket given out last.
    pub tail: u64,
    /// How long the head is deferred; what follows it is deferred behind it, to the same queue.
    pub tier: Duration,
    /// When the next one should be back.
    pub due: Timestamp,
}

/// The way to the lanes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lanes {
    queue: WriteBatcher,
    pool: Pool,
    /// The command queue that they belong to.
    shard: Arc<str>,
}

impl Lanes {
    pub(super) fn new(queue: WriteBatcher, pool: Pool) -> Self {
        let shard = "".into();
        Self { queue, pool, shard }
    }

    /// The lanes of one command queue, written under its fence.
    #[must_use]
    pub fn under(&self, fence: &Fence) -> Self {
        Self {
            queue: self.queue.under(Some(fence.clone())),
            pool: self.pool.clone(),
            shard: fence.queue().into(),
        }
    }

    /// Every lane of the command queue that has deferred commands, and those of which it is unknown where
    /// they belong.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn load(&self) -> Result<Vec<(LaneKey, Resting)>, Error> {
        let sql = "SELECT session, group_id, head, tail, tier_ms, due_at FROM lanes \
                   WHERE queue = $1 OR queue = ''";
        let values = vec![Value::from(&*self.shard)];
        let rows = self.pool.fetch("reading lanes", sql, values).await?;
        rows.iter().map(read).collect()
    }

    /// Forgets to which command queue each lane belongs: the queues have changed.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn forget_queues(&self) -> Result<(), Error> {
        let doing = "forgetting the queues of lanes";
        for sql in [
            "UPDATE lanes SET queue = ''",
            "UPDATE deferred SET queue = ''",
        ] {
            self.pool.execute(doing, sql, Vec::new()).await?;
        }
        Ok(())
    }

    /// Records how a lane stands; `None` once it has no deferred command.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn put(&self, key: LaneKey, resting: Option<Resting>) -> Result<(), Error> {
        self.write(Change {
            lane: Some((key, resting)),
            command: None,
        })
        .await
    }

    /// Records what a deferral, or its end, changes.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn write(&self, change: Change) -> Result<(), Error> {
        let shard = Arc::clone(&self.shard);
        self.queue
            .submit(ReadSet::default(), move |rows| {
                if let Some((key, resting)) = &change.lane {
                    let row = resting.map(|resting| (Arc::clone(&shard), resting));
                    rows.lanes.lanes.insert(key.clone(), row);
                }
                if let Some((key, deferred)) = &change.command {
                    let row = deferred.clone().map(|row| (Arc::clone(&shard), row));
                    rows.lanes.deferred.insert(key.clone(), row);
                }
                Ok(())
            })
            .await
    }
}

/// What a deferral, or its end, changes; `None` stands for what is over.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// How a lane stands.
    pub lane: Option<(LaneKey, Option<Resting>)>,
    /// A deferred command.
    pub command: Option<(ledger::Key, Option<Deferred>)>,
}

/// The lanes that a batch changes; the last word on each counts.
#[derive(Debug, Default)]
pub(super) struct Rows {
    lanes: BTreeMap<LaneKey, Option<(Arc<str>, Resting)>>,
    deferred: deferred::Rows,
}

impl Rows {
    pub(super) async fn write(self, link: &mut Link) -> Result<(), Error> {
        let (mut resting, mut gone) = (Vec::new(), Vec::new());
        for (key, row) in self.lanes {
            match row {
                Some((shard, row)) => resting.push(values(&key, &shard, &row)),
                None => gone.push(key_values(&key)),
            }
        }
        for (count, values) in sql::row_lists(resting) {
            let sql = format!(
                "INSERT INTO lanes (session, group_id, head, tail, tier_ms, due_at, queue) VALUES {} \
                 ON CONFLICT (session, group_id) DO UPDATE SET head = excluded.head, \
                 tail = excluded.tail, tier_ms = excluded.tier_ms, due_at = excluded.due_at, \
                 queue = excluded.queue",
                link.placeholders(count, 7)
            );
            run(link, sql, values).await?;
        }
        for (count, values) in sql::key_lists(&gone) {
            let keys = link.placeholders(count, 2);
            let sql = format!("DELETE FROM lanes WHERE (session, group_id) IN (VALUES {keys})");
            run(link, sql, values).await?;
        }
        deferred::write(self.deferred, link).await
    }
}

async fn run(link: &mut Link, sql: String, values: Vec<Value>) -> Result<(), Error> {
    let done = link.execute(sql, values).await;
    done.map(drop)
        .map_err(|error| Error::of("writing lanes", error))
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn key_values(key: &LaneKey) -> [Value; 2] {
    [
        Value::from(key.session.as_str()),
        Value::from(key.lane.as_str()),
    ]
}

fn values(key: &LaneKey, shard: &str, row: &Resting) -> [Value; 7] {
    let [session, group] = key_values(key);
    let due = row.due.0.as_millisecond();
    [
        session,
        group,
        int(row.head),
        int(row.tail),
        millis(row.tier),
        Value::Int(due),
        Value::from(shard),
    ]
}

fn read(row: &Row) -> Result<(LaneKey, Resting), Error> {
    let number =
        |column| Ok::<_, Error>(u64::try_from(row.get::<i64>(column)?).unwrap_or_default());
    let corrupt = |error| Error::corrupt("lanes", serde::de::Error::custom(error));
    let key = LaneKey {
        session: row.get::<String>(0)?.parse().map_err(corrupt)?,
        lane: row.get::<String>(1)?.into(),
    };
    let due = jiff::Timestamp::from_millisecond(row.get(5)?).unwrap_or_default();
    let resting = Resting {
        head: number(2)?,
        tail: number(3)?,
        tier: Duration::from_millis(number(4)?),
        due: Timestamp(due),
    };
    Ok((key, resting))
}
