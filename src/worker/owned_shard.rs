//! A shard that this worker has taken over, until it is handed back or lost.

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::store::lanes::Lanes;
use crate::store::shards::Fence;

use super::deferred_lanes::DeferredLanes;

/// One takeover of a shard; the next takeover, even by the same worker, is another one.
#[derive(Debug)]
pub(super) struct OwnedShard {
    /// The shard's number.
    pub(super) number: u16,
    /// The fence with the epoch of the takeover.
    pub(super) fence: Fence,
    /// The order of its groups that have deferred commands.
    pub(super) lanes: DeferredLanes,
    /// No more commands are started.
    ending: CancellationToken,
    /// Its results no longer count: its channel is gone, or another worker has taken over.
    lost: CancellationToken,
    /// Its channel is closed.
    over: CancellationToken,
}

impl OwnedShard {
    pub(super) fn new(number: u16, fence: Fence, lanes: &Lanes) -> Self {
        Self {
            number,
            // One shard of all searches for strays: any would do.
            lanes: DeferredLanes::new(lanes.under(&fence), number == 0),
            fence,
            ending: CancellationToken::new(),
            lost: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }

    /// Begins to hand it back: started commands are finished.
    pub(super) fn begin_handback(&self) {
        self.ending.cancel();
    }

    /// The shard is not ours any more; started commands end as soon as they can.
    pub(super) fn mark_lost(&self) {
        self.lost.cancel();
        self.ending.cancel();
    }

    /// Cancelled once no more commands are started.
    pub(super) fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Whether deliveries in flight are redelivered, here or to another worker.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Guards that mark it as over and lost, with everything in flight, when they are dropped.
    pub(super) fn over_when_dropped(&self) -> [DropGuard; 3] {
        [&self.ending, &self.lost, &self.over].map(|token| token.clone().drop_guard())
    }
}
