//! What is told about the exchanges and queues on the broker.

use ::metrics::{counter, gauge};
use tracing::{error, info, warn};

use crate::observability::metrics as name;

/// Exchanges and queues were made that were not there; put back, if all of them had been there before.
pub fn topology_made(parts: &[String], had_been_there: bool) {
    let made = parts.join(", ");
    if had_been_there {
        warn!(
            parts = made,
            "exchanges or queues were deleted, and are put back with what is bound to them; what was \
             published meanwhile, or was in a queue, may be lost, and if one of several command queues was \
             missing, commands sent meanwhile may be executed before or after others of their group"
        );
        counter!(name::TOPOLOGY_REPAIRS).increment(parts.len() as u64);
    } else {
        info!(parts = made, "declared what was missing on the broker");
    }
}

/// Something on the broker is not as it should be, and cannot be put right here.
pub fn topology_incomplete(problem: &str) {
    error!(problem, "the topology on the broker is incomplete");
}

/// So many parts of the topology are missing.
pub fn topology_lacks(parts: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    gauge!(name::TOPOLOGY_MISSING).set(parts as f64);
}
