//! Writes the log of deliveries: many attempts at a time, and never in anybody's way.
//!
//! Deliveries do not wait for it. While the store is away or slow, what does not fit is left out and
//! counted.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::contract::Timestamp;
use crate::observability::events;
use crate::store::Store;
use crate::store::deliveries::Attempt;

/// Attempts that wait to be written, at most.
const CAPACITY: usize = 4_096;

/// So many are written together, and they wait for company so long.
const BATCH: usize = 256;
const PAUSE: Duration = Duration::from_millis(200);

/// How often old attempts are removed, and how many at a time.
const PURGE_EVERY: Duration = Duration::from_mins(1);
const SLICE: u32 = 1_000;

/// The way into the log; clones are cheap.
#[derive(Debug, Clone)]
pub(super) struct Log(mpsc::Sender<Attempt>);

impl Log {
    /// Notes an attempt.
    pub(super) fn note(&self, attempt: Attempt) {
        if self.0.try_send(attempt).is_err() {
            events::webhook_log_skipped(1);
        }
    }
}

/// The log, and the task that writes it until the last way into it is gone.
pub(super) fn open(store: &Store) -> (Log, impl Future<Output = ()> + Send + 'static) {
    let (sender, mut queue) = mpsc::channel(CAPACITY);
    let deliveries = store.deliveries();
    let writing = async move {
        let mut batch = Vec::with_capacity(BATCH);
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            let count = batch.len();
            if deliveries.add(std::mem::take(&mut batch)).await.is_err() {
                // The store itself tells of its outage.
                events::webhook_log_skipped(count);
            }
            if count < BATCH {
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    (Log(sender), writing)
}

/// Removes attempts that are older than `retention`, now and then; never ends.
pub(super) async fn purge_old(store: Store, retention: Duration, clock: std::sync::Arc<dyn Clock>) {
    let deliveries = store.deliveries();
    loop {
        tokio::time::sleep(PURGE_EVERY).await;
        let Ok(before) = clock.now().checked_sub(retention) else {
            continue;
        };
        // Asked again the next time, should the store be away.
        while let Ok(removed) = deliveries.purge(Timestamp(before), SLICE).await {
            if removed < u64::from(SLICE) {
                break;
            }
        }
    }
}
