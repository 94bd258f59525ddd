//! Writes the delivery log in batches.
//!
//! Deliveries do not wait for it. While the store is away or slow, entries that do not fit into the buffer are
//! dropped and counted.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::contract::Timestamp;
use crate::observability::events;
use crate::store::Store;
use crate::store::deliveries::Attempt;

/// The maximum number of entries that wait to be written.
const CAPACITY: usize = 4_096;

/// The maximum size of a batch, and the pause between batches that are not full.
const BATCH: usize = 256;
const PAUSE: Duration = Duration::from_millis(200);

/// The interval of the purge of old entries, and the number of entries deleted by one statement.
const PURGE_EVERY: Duration = Duration::from_mins(1);
const SLICE: u32 = 1_000;

/// A handle to the log; clones are cheap.
#[derive(Debug, Clone)]
pub(super) struct Log(mpsc::Sender<Attempt>);

impl Log {
    /// Adds an entry, or drops it if the buffer is full.
    pub(super) fn note(&self, attempt: Attempt) {
        if self.0.try_send(attempt).is_err() {
            events::webhook_log_skipped(1);
        }
    }
}

/// Opens the log. The returned task writes it until the last handle is dropped.
pub(super) fn open(store: &Store) -> (Log, impl Future<Output = ()> + Send + 'static) {
    let (sender, mut queue) = mpsc::channel(CAPACITY);
    let deliveries = store.deliveries();
    let writing = async move {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            let count = batch.len();
            if deliveries.add(std::mem::take(&mut batch)).await.is_err() {
                // The store logs its outages.
                events::webhook_log_skipped(count);
            }
            if count < BATCH {
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    (Log(sender), writing)
}

/// Deletes entries older than `retention` at intervals; never returns.
pub(super) async fn purge_old(store: Store, retention: Duration, clock: std::sync::Arc<dyn Clock>) {
    let deliveries = store.deliveries();
    loop {
        tokio::time::sleep(PURGE_EVERY).await;
        let Ok(before) = clock.now().checked_sub(retention) else {
            continue;
        };
        // If the store is away, the next round tries again.
        while let Ok(removed) = deliveries.purge(Timestamp(before), SLICE).await {
            if removed < u64::from(SLICE) {
                break;
            }
        }
    }
}
