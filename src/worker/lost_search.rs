//! Searches the queues of the broker for deferred commands that are overdue; `lost_deferrals` decides which are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::amqp::{self, Names, Session};
use crate::contract::Timestamp;
use crate::observability::events;
use crate::store;
use crate::store::ledger::{CommandState, Ledger};

use super::lost_deferrals::QueueDepths;
use super::owned_shard::OwnedShard;

/// The interval of searching for a late command, at most.
const SEARCH_EVERY: Duration = Duration::from_secs(10);

/// What a search needs.
#[derive(Debug)]
pub(super) struct LostSearch<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) names: &'a Names,
    /// The number of command queues.
    pub(super) shards: u16,
    /// One permit for each command that may be in flight.
    pub(super) places: &'a Semaphore,
    pub(super) ledger: Ledger,
    /// `retry.lost_after`
    pub(super) lost_after: Duration,
    pub(super) now: Timestamp,
}

/// The pause between two searches: several within `lost_after`.
pub(super) fn pause(lost_after: Duration) -> Duration {
    SEARCH_EVERY.min(lost_after / 4)
}

impl LostSearch<'_> {
    /// Searches for late commands of the shards that this worker has; lost ones are recorded.
    pub(super) async fn search(&self, owned: &[Arc<OwnedShard>]) -> Result<(), SearchError> {
        let mut seen = QueueDepths {
            at: self.now,
            empty: BTreeSet::new(),
            ended: BTreeMap::new(),
            nothing_waits: false,
        };
        let mut late = BTreeSet::new();
        for shard in owned {
            let (tiers, ended) = shard.lanes.late(self.now);
            late.extend(tiers);
            for (tier, last) in ended {
                let known = seen.ended.entry(tier).or_insert(last);
                *known = last.max(*known);
            }
        }
        if late.is_empty() {
            return Ok(());
        }
        // The delay queues first: commands that have left them since are in a command queue, or in flight
        // here.
        for tier in late {
            let waiting = self.session.waiting(&self.names.delay(tier)).await?;
            if waiting.is_none_or(|(messages, _)| messages == 0) {
                seen.empty.insert(tier);
            }
        }
        seen.nothing_waits = self.nothing_waits().await?;
        for shard in owned {
            for lost in shard.lanes.find_lost(&seen, self.lost_after) {
                // Done by a worker of a version that does not record deferred commands.
                if let Some(CommandState::Done(_)) = self.ledger.find(&lost.key).await? {
                    shard.lanes.record_done_elsewhere(&lost).await?;
                } else if shard.lanes.record_lost(&lost.key, self.now).await? {
                    let (id, session) = (&lost.key.command_id, &lost.key.session);
                    let command_type = &lost.command_type;
                    events::deferred_command_lost(id.as_str(), command_type, session.as_str());
                }
            }
        }
        Ok(())
    }

    /// Whether all command queues are empty. All queues count: the broker takes only a limited number of
    /// commands out of a delay queue that a command queue does not accept, and those of other queues wait
    /// behind them unseen. A queue without consumers may be one that did not answer the broker.
    async fn nothing_waits(&self) -> Result<bool, amqp::Error> {
        for number in 0..self.shards {
            let waiting = self.session.waiting(&self.names.shard(number)).await?;
            if waiting.is_none_or(|(messages, consumers)| messages > 0 || consumers == 0) {
                return Ok(false);
            }
        }
        // Without a free place, a delivery may be waiting for one.
        Ok(self.places.available_permits() > 0)
    }
}

/// Why a search was not completed.
#[derive(Debug)]
pub(super) enum SearchError {
    Broker(amqp::Error),
    Store(store::Error),
}

impl From<amqp::Error> for SearchError {
    fn from(error: amqp::Error) -> Self {
        Self::Broker(error)
    }
}

impl From<store::Error> for SearchError {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}
