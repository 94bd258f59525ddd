//! Who works on which command queue, and the fence that keeps everybody else from it.
//!
//! The broker lets one consumer of a queue be active, but that is no fence: a worker that was paused,
//! or cut off, still holds commands when the next one begins. So each taking over raises the queue's
//! **epoch**, and everything that begins an effect or decides about order is written under the epoch
//! with which its queue was taken over ([`Fence`]). The writer looks at the epochs once for each
//! transaction, whatever number of commands it carries, and refuses what is older
//! ([`Error::Fenced`]). What records an effect that has happened already is never refused.
//!
//! When a queue may be taken over is the worker's business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Error;
use super::db::sql;
use super::db::{Link, Pool, Value};

/// The right to work on a queue, until the next one takes it over; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence {
    queue: Arc<str>,
    epoch: i64,
}

impl Fence {
    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue
    }
}

/// How a queue stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How often it was taken over.
    pub epoch: i64,
    /// The worker that did so last; none once it has handed it back.
    pub owner: Option<String>,
}

/// The table of queues; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shards {
    pool: Pool,
    me: Arc<str>,
}

impl Shards {
    pub(super) const fn new(pool: Pool, me: Arc<str>) -> Self {
        Self { pool, me }
    }

    /// How every queue stands that was ever taken over.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn all(&self) -> Result<BTreeMap<String, Standing>, Error> {
        let sql = "SELECT queue, epoch, owner FROM shards";
        let rows = self.pool.fetch("reading shards", sql, Vec::new()).await?;
        let read = |row: &super::db::Row| {
            let owner = Some(row.get::<String>(2)?).filter(|owner| !owner.is_empty());
            let epoch = row.get(1)?;
            Ok((row.get(0)?, Standing { epoch, owner }))
        };
        rows.iter().map(read).collect()
    }

    /// Takes a queue over, unless somebody else has since its `standing` was read.
    ///
    /// # Errors
    /// When the store cannot be used. A lost answer may have been yes; then nobody works on the queue
    /// until it is taken over once more.
    pub async fn take_over(
        &self,
        queue: &str,
        standing: Option<&Standing>,
    ) -> Result<Option<Fence>, Error> {
        let before = standing.map_or(0, |standing| standing.epoch);
        let epoch = before + 1;
        let taken = self
            .pool
            .execute(
                "taking a shard over",
                "INSERT INTO shards (queue, epoch, owner) VALUES ($1, $2, $3) \
                 ON CONFLICT (queue) DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner \
                 WHERE shards.epoch = $4",
                vec![
                    Value::from(queue),
                    Value::Int(epoch),
                    Value::from(&*self.me),
                    Value::Int(before),
                ],
            )
            .await?;
        Ok((taken > 0).then(|| Fence {
            queue: queue.into(),
            epoch,
        }))
    }

    /// Hands a queue back: the next one need not ask whether this worker is alive.
    ///
    /// # Errors
    /// When the store cannot be used; others then find that the queue has no consumer.
    pub async fn hand_back(&self, fence: &Fence) -> Result<(), Error> {
        self.pool
            .execute(
                "handing a shard back",
                "UPDATE shards SET owner = '' WHERE queue = $1 AND epoch = $2",
                vec![Value::from(fence.queue()), Value::Int(fence.epoch)],
            )
            .await
            .map(drop)
    }
}

impl Standing {
    /// The right that went with this taking over of a queue.
    #[must_use]
    pub fn fence(&self, queue: &str) -> Fence {
        Fence {
            queue: queue.into(),
            epoch: self.epoch,
        }
    }

    /// Whether this is still the taking over that a fence stands for.
    #[must_use]
    pub fn is_of(&self, fence: &Fence) -> bool {
        self.epoch == fence.epoch
    }
}

/// Those of some fences under which nothing may be written any more.
///
/// The others' rows stay locked until the transaction ends, so that nobody takes over in between.
pub(super) async fn fallen(
    link: &mut Link,
    fences: BTreeSet<Fence>,
) -> Result<BTreeSet<Fence>, Error> {
    let keys: Vec<_> = fences
        .iter()
        .map(|fence| [Value::from(fence.queue())])
        .collect();
    let mut epochs = BTreeMap::new();
    for (count, values) in sql::key_lists(&keys) {
        let sql = format!(
            "SELECT queue, epoch FROM shards WHERE queue IN (VALUES {}) ORDER BY queue{}",
            link.placeholders(count, 1),
            link.for_share(),
        );
        let found = link.fetch(sql, values).await;
        for row in &found.map_err(|error| Error::of("reading shards", error))? {
            epochs.insert(row.get::<String>(0)?, row.get::<i64>(1)?);
        }
    }
    let stands = |fence: &Fence| epochs.get(fence.queue()) == Some(&fence.epoch);
    Ok(fences.into_iter().filter(|fence| !stands(fence)).collect())
}
