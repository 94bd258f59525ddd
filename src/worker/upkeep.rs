//! What has to be done now and then: saying that this worker is alive, and forgetting old commands.

use std::time::Duration;

use crate::clock::Clock;
use crate::contract::Timestamp;
use crate::observability::events;
use crate::store::workers::BEAT;
use crate::store::{Error, Store};

/// How often old commands are looked for.
const PURGE_EVERY: Duration = Duration::from_mins(1);

/// So many are forgotten at a time, so that the writer gets to its work in between.
const SLICE: u32 = 1_000;

/// Says that this worker is alive, until the process ends: commands are still being finished while
/// it stops.
pub async fn beat(store: Store) {
    let workers = store.workers();
    loop {
        tokio::time::sleep(BEAT).await;
        tell(workers.beat().await);
    }
}

/// Forgets commands that were finished longer ago than `retention`, and measures the ledger, until the
/// process ends.
pub async fn purge(store: Store, retention: Duration, clock: std::sync::Arc<dyn Clock>) {
    loop {
        tell(store.ledger().size().await.map(events::ledger_measured));
        tokio::time::sleep(PURGE_EVERY).await;
        let Ok(before) = clock.now().checked_sub(retention) else {
            continue;
        };
        tell(purge_once(&store, Timestamp(before)).await);
    }
}

/// The store itself tells of its outages.
fn tell(outcome: Result<(), Error>) {
    if let Err(error) = outcome
        && !error.is_outage()
    {
        events::store_refused(&error);
    }
}

async fn purge_once(store: &Store, before: Timestamp) -> Result<(), Error> {
    while store.ledger().purge(before, SLICE).await? == u64::from(SLICE) {}
    Ok(())
}
