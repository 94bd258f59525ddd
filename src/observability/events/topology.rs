//! Events of the exchanges and queues on the broker.

use ::metrics::{counter, gauge};
use tracing::{error, info, warn};

use crate::observability::metrics as name;

/// Missing exchanges and queues were declared; again, if all of them had existed before.
pub fn topology_made(parts: &[String], had_been_there: bool) {
    let made = parts.join(", ");
    if had_been_there {
        warn!(
            parts = made,
            "exchanges or queues were deleted, and are declared again with their bindings; messages that were \
             published meanwhile, or were in a queue, may be lost, and if one of several command queues was \
             missing, commands sent meanwhile may be executed before or after others of their group"
        );
        counter!(name::TOPOLOGY_REPAIRS).increment(parts.len() as u64);
    } else {
        info!(parts = made, "declared the missing exchanges and queues");
    }
}

/// The topology is incomplete, and this process cannot repair it.
pub fn topology_incomplete(problem: &str) {
    error!(problem, "the topology on the broker is incomplete");
}

/// The number of missing parts of the topology.
pub fn topology_lacks(parts: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    gauge!(name::TOPOLOGY_MISSING).set(parts as f64);
}
