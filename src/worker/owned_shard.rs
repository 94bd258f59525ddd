//! A shard that this worker has taken over, until it is handed back or lost.

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::store::lanes::Lanes;
use crate::store::shards::Fence;

use super::deferred_lanes::DeferredLanes;

/// One taking over of a shard; the next one, even by the same worker, is another one.
#[derive(Debug)]
pub(super) struct OwnedShard {
    /// Which shard.
    pub(super) number: u16,
    /// The right to it.
    pub(super) fence: Fence,
    /// The order of its groups that have deferred commands.
    pub(super) lanes: DeferredLanes,
    /// Nothing more is begun.
    ending: CancellationToken,
    /// Nothing more of it counts: its channel is gone, or another worker has taken over.
    lost: CancellationToken,
    /// Its channel is closed.
    over: CancellationToken,
}

impl OwnedShard {
    pub(super) fn new(number: u16, fence: Fence, lanes: &Lanes) -> Self {
        Self {
            number,
            // One of all shards: any would do.
            lanes: DeferredLanes::new(lanes.under(&fence), number == 0),
            fence,
            ending: CancellationToken::new(),
            lost: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }

    /// Begins to hand it back: what has been begun is finished.
    pub(super) fn begin_handback(&self) {
        self.ending.cancel();
    }

    /// It is not ours any more; what has been begun ends as soon as it can.
    pub(super) fn mark_lost(&self) {
        self.lost.cancel();
        self.ending.cancel();
    }

    /// Cancelled once nothing more is begun.
    pub(super) fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Whether what is in flight is delivered again, here or to another worker.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Guards that mark it as over and lost, with whatever is still in flight, when they are dropped.
    pub(super) fn over_when_dropped(&self) -> [DropGuard; 3] {
        [&self.ending, &self.lost, &self.over].map(|token| token.clone().drop_guard())
    }
}
