//! One function for each thing worth telling an operator.

use std::error::Error;
use std::time::Duration;

use tracing::{debug, error, info, warn};

/// A command was answered: one line for each, with ids and outcome and nothing of its content.
pub fn command_answered(
    command_id: &str,
    command_type: &str,
    session: &str,
    outcome: &str,
    replayed: bool,
    duration_ms: u128,
) {
    debug!(
        command_id,
        command_type, session, outcome, replayed, duration_ms, "command answered"
    );
}

/// A message went to the dead-letter queue.
pub fn dead_lettered(command_id: &str, code: &str) {
    warn!(
        command_id,
        code, "a message could not be handled and is kept as a dead letter"
    );
}

/// An engine panicked while executing a command.
pub fn engine_panicked(command_type: &str, text: &str) {
    error!(command_type, text, "the engine panicked");
}

/// A role is at work.
pub fn role_started(role: &str) {
    info!(role, "started");
}

/// A command cannot be done now and rests.
pub fn command_deferred(command_id: &str, command_type: &str, code: &str, tier: Duration) {
    let tier_ms = tier.as_millis();
    info!(
        command_id,
        command_type, code, tier_ms, "a command cannot be done now and rests"
    );
}

/// A command that rested did not come back.
pub fn resting_command_lost() {
    error!(
        "a resting command did not come back; was a delay queue emptied? its group goes on without \
         it"
    );
}

/// The store does not answer; work waits for it.
pub fn store_unavailable(error: &(dyn Error + 'static)) {
    warn!(error, "the store cannot be used; waiting for it");
}
