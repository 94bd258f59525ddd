//! Background maintenance: the worker's heartbeat, and purging old ledger rows.

use std::time::Duration;

use crate::clock::Clock;
use crate::config::Config;
use crate::contract::Timestamp;
use crate::observability::events;
use crate::store::ledger::PurgeLimits;
use crate::store::workers::HEARTBEAT_INTERVAL;
use crate::store::{Error, Store};

/// The interval of purging.
const PURGE_EVERY: Duration = Duration::from_mins(1);

/// How long a command that was started and never finished is kept after the last possible attempt. Without
/// it, a delivery that waited while all workers were stopped, or a producer that sends again, would lead to
/// a second execution. There are few of them.
const IN_DOUBT: Duration = Duration::from_hours(7 * 24);

/// How long lost commands are listed (by `groupmq doctor`), unless they are sent again: an operator who
/// checks once a week sees them.
const LOST: Duration = Duration::from_hours(7 * 24);

/// The number of rows purged in one statement, so that the writer is not delayed.
const SLICE: u32 = 1_000;

/// Sends the heartbeat of this worker until the process ends: commands are still being finished while it
/// stops.
pub async fn beat(store: Store) {
    let workers = store.workers();
    loop {
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
        log_failure(workers.heartbeat().await);
    }
}

/// The retention times of the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    finished: Duration,
    started: Duration,
}

impl Memory {
    /// As configured.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let finished = config.ledger.retention;
        Self {
            finished,
            started: finished.max(config.retry.max_age).saturating_add(IN_DOUBT),
        }
    }

    fn limits(&self, now: Timestamp) -> Option<PurgeLimits> {
        let before = |age| now.0.checked_sub(age).ok().map(Timestamp);
        Some(PurgeLimits {
            finished: before(self.finished)?,
            started: before(self.started)?,
        })
    }
}

/// Purges old commands, and measures the ledger, until the process ends.
pub async fn purge(store: Store, memory: Memory, clock: std::sync::Arc<dyn Clock>) {
    loop {
        log_failure(store.ledger().size().await.map(events::ledger_measured));
        tokio::time::sleep(PURGE_EVERY).await;
        let now = Timestamp(clock.now());
        if let Some(limits) = memory.limits(now) {
            log_failure(purge_once(&store, limits).await);
        }
        if let Ok(before) = now.0.checked_sub(LOST) {
            log_failure(store.lanes().forget_lost(Timestamp(before)).await);
        }
    }
}

/// The store logs its outages itself.
fn log_failure(outcome: Result<(), Error>) {
    if let Err(error) = outcome
        && !error.is_outage()
    {
        events::store_refused(&error);
    }
}

async fn purge_once(store: &Store, limits: PurgeLimits) -> Result<(), Error> {
    // Before the ledger: once the ledger has forgotten a command, its id is that of a new one.
    let outcomes = store.sandbox_groups();
    while outcomes.purge_outcomes(limits.finished, SLICE).await? == u64::from(SLICE) {}
    while store.ledger().purge(limits, SLICE).await? == u64::from(SLICE) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn what_was_begun_is_remembered_longer_than_it_can_be_tried() {
        let hour = Duration::from_hours(1);
        let mut config = Sources::default().load().unwrap();
        for (retention, max_age) in [(hour, 12 * hour), (24 * hour, 12 * hour)] {
            config.ledger.retention = retention;
            config.retry.max_age = max_age;
            let now = Timestamp(jiff::Timestamp::from_second(1_800_000_000).unwrap());
            let limits = Memory::of(&config).limits(now).unwrap();
            let age = |at: Timestamp| now.0.duration_since(at.0).unsigned_abs();
            assert_eq!(age(limits.finished), retention);
            assert!(age(limits.started) > retention.max(max_age) + 24 * hour);
        }
    }
}
