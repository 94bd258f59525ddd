//! The ownership of the command queues, and the fence against former owners.
//!
//! The broker allows one active consumer per queue, but that is no fence: a worker that was paused or disconnected
//! still holds commands when the next owner starts. So each takeover raises the queue's **epoch**, and every write
//! that starts an effect or decides about order carries the epoch of its takeover ([`Fence`]). The writer reads the
//! epochs once per transaction, for any number of commands, and rejects writes of an older epoch
//! ([`Error::Fenced`]). Writes that record an effect which has already happened are not fenced.
//!
//! The worker decides when a queue may be taken over.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Error;
use super::batch::{ReadSet, Rows, TableRow, WriteBatcher};
use super::db::{self, Lock, Pool, Value};

/// The epoch under which a queue's owner writes, until the next takeover; cheap to clone.
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

/// The ownership of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// How often it was taken over.
    pub epoch: i64,
    /// The owner; none once it has handed the queue back.
    pub owner: Option<String>,
}

/// A handle to the table of queues; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shards {
    pool: Pool,
    me: Arc<str>,
}

impl Shards {
    pub(super) const fn new(pool: Pool, me: Arc<str>) -> Self {
        Self { pool, me }
    }

    /// The ownership of every queue that was ever taken over.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn all(&self) -> Result<BTreeMap<String, Ownership>, Error> {
        let sql = "SELECT queue, epoch, owner FROM shards";
        let rows = self.pool.fetch("reading shards", sql, Vec::new()).await?;
        let read = |row: &db::Row| {
            let owner = Some(row.get::<String>(2)?).filter(|owner| !owner.is_empty());
            let epoch = row.get(1)?;
            Ok((row.get(0)?, Ownership { epoch, owner }))
        };
        rows.iter().map(read).collect()
    }

    /// Takes a queue over, unless another worker has since its `ownership` was read.
    ///
    /// # Errors
    /// When the store cannot be used. The takeover may have succeeded even so; the queue then has no worker until
    /// the next takeover.
    pub async fn take_over(
        &self,
        queue: &str,
        ownership: Option<&Ownership>,
    ) -> Result<Option<Fence>, Error> {
        let before = ownership.map_or(0, |ownership| ownership.epoch);
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

    /// Hands a queue back, so that the next owner need not wait until this worker counts as dead.
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

impl Ownership {
    /// The fence of this takeover.
    #[must_use]
    pub fn fence(&self, queue: &str) -> Fence {
        Fence {
            queue: queue.into(),
            epoch: self.epoch,
        }
    }

    /// Whether the fence belongs to this takeover.
    #[must_use]
    pub fn is_of(&self, fence: &Fence) -> bool {
        self.epoch == fence.epoch
    }
}

/// Submits jobs that are written under a fence, if there is one; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct FencedBatcher {
    batcher: WriteBatcher,
    fence: Option<Fence>,
}

impl FencedBatcher {
    pub(super) const fn new(batcher: WriteBatcher) -> Self {
        let fence = None;
        Self { batcher, fence }
    }

    /// The same, for what is written under a fence.
    pub(super) fn under(&self, fence: Option<Fence>) -> Self {
        let batcher = self.batcher.clone();
        Self { batcher, fence }
    }

    /// The batcher itself, for what no fence applies to.
    pub(super) const fn unfenced(&self) -> &WriteBatcher {
        &self.batcher
    }

    /// As [`WriteBatcher::submit`]; fails with [`Error::Fenced`], and runs no step, if the queue was taken over.
    pub(super) async fn submit<F, T>(&self, needs: ReadSet, step: F) -> Result<T, Error>
    where
        F: Fn(&mut Rows) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let fence = self.fence.clone();
        let needs = needs.with::<EpochRow>(fence.iter().map(|it| Arc::clone(&it.queue)));
        let fenced = move |rows: &mut Rows| {
            if let Some(fence) = &fence {
                let row = rows.table::<EpochRow>()?.get(&fence.queue);
                if row.is_none_or(|row| row.epoch != fence.epoch) {
                    return Err(Error::Fenced);
                }
            }
            step(rows)
        };
        self.batcher.submit(needs, fenced).await
    }
}

/// A queue's epoch, as a batch sees it.
///
/// The row stays locked until the transaction ends, so that no worker takes the queue over in between.
#[derive(Debug)]
pub(super) struct EpochRow {
    epoch: i64,
}

impl TableRow for EpochRow {
    /// The queue.
    type Key = Arc<str>;

    const TABLE: &'static str = "shards";
    const KEY: &'static [&'static str] = &["queue"];
    const COLUMNS: &'static [&'static str] = &["epoch"];
    const LOCK: Lock = Lock::Share;
    const READING: &'static str = "reading shards";
    const WRITING: &'static str = "writing shards";

    fn key_values(queue: &Arc<str>) -> Vec<Value> {
        vec![Value::from(Arc::clone(queue))]
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        Ok(vec![Value::Int(self.epoch)])
    }

    fn read(row: &db::Row) -> Result<(Arc<str>, Self), Error> {
        let epoch = row.get(1)?;
        Ok((row.get::<String>(0)?.into(), Self { epoch }))
    }
}
