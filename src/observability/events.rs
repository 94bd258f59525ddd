//! One function for each thing worth telling an operator: a log line, a metric, or both.

use std::error::Error;
use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use tracing::{debug, error, info, warn};

use super::metrics as name;

/// An answer that the broker has confirmed.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The command's id.
    pub command_id: &'a str,
    /// Its type.
    pub command_type: &'static str,
    /// The session it was for.
    pub session: &'a str,
    /// `ok`, or the error's code.
    pub outcome: &'static str,
    /// Whether it came from the ledger.
    pub replayed: bool,
    /// How long it took from the command's turn on.
    pub took: Duration,
}

/// A command was answered: one line for each, with ids and outcome and nothing of its content.
pub fn command_answered(answer: Answer<'_>) {
    let Answer {
        command_id,
        command_type,
        session,
        outcome,
        replayed,
        took,
    } = answer;
    let duration_ms = took.as_millis();
    debug!(
        command_id,
        command_type, session, outcome, replayed, duration_ms, "command answered"
    );
    counter!(name::COMMANDS, "type" => command_type, "outcome" => outcome).increment(1);
    histogram!(name::COMMAND_SECONDS, "type" => command_type).record(took);
    if replayed {
        counter!(name::REPLAYS).increment(1);
    }
}

/// A message went to the dead-letter queue.
pub fn dead_lettered(command_id: &str, code: &'static str) {
    warn!(
        command_id,
        code, "a message could not be handled and is kept as a dead letter"
    );
    counter!(name::DEAD_LETTERS, "reason" => code).increment(1);
}

/// An engine panicked while executing a command.
pub fn engine_panicked(command_type: &str, text: &str) {
    error!(command_type, text, "the engine panicked");
    counter!(name::PANICS).increment(1);
}

/// A role is at work.
pub fn role_started(role: &str) {
    info!(role, "started");
}

/// A command cannot be done now and rests.
pub fn command_deferred(command_id: &str, command_type: &str, code: &'static str, tier: Duration) {
    let tier_ms = tier.as_millis();
    info!(
        command_id,
        command_type, code, tier_ms, "a command cannot be done now and rests"
    );
    counter!(name::DEFERRED, "reason" => code).increment(1);
}

/// A command that rested did not come back.
pub fn resting_command_lost() {
    error!(
        "a resting command did not come back; was a delay queue emptied? its group goes on without \
         it"
    );
    counter!(name::LOST).increment(1);
}

/// An operation has to wait, so that its account stays within its limits.
pub fn account_limited(kind: &'static str) {
    counter!(name::LIMITED, "kind" => kind).increment(1);
}

/// WhatsApp asks an account for patience.
pub fn account_asked_for_patience(session: &str, kind: &'static str, pause: Duration) {
    let pause_ms = pause.as_millis();
    warn!(
        session,
        kind, pause_ms, "WhatsApp asks the account for patience; such operations wait"
    );
    counter!(name::PATIENCE, "kind" => kind).increment(1);
}

/// An account was reported restricted or banned; `again` when it was so before.
pub fn account_restricted(session: &str, pause: Duration, again: bool) {
    let pause_ms = pause.as_millis();
    error!(
        session,
        pause_ms, "the session's account is restricted or banned; its commands wait"
    );
    counter!(name::RESTRICTIONS).increment(1);
    if !again {
        gauge!(name::RESTRICTED).increment(1.0);
    }
}

/// An account that was restricted works again.
pub fn account_unrestricted(session: &str) {
    info!(session, "the session's account works again");
    gauge!(name::RESTRICTED).decrement(1.0);
}

/// Something failed because the store cannot be used; one of many while that lasts.
pub fn store_failed(error: &(dyn Error + 'static)) {
    debug!(error, "the store cannot be used");
    counter!(name::STORE_FAILURES).increment(1);
}

/// The store cannot be used: told when that begins, and now and then while it lasts.
pub fn store_unavailable(error: &(dyn Error + 'static), since: Duration, failures: u64) {
    let since_ms = since.as_millis();
    warn!(
        error,
        since_ms, failures, "the store cannot be used; commands wait until it can"
    );
}

/// The store can be used again, after an outage that was told of.
pub fn store_available_again(after: Duration, failures: u64) {
    let after_ms = after.as_millis();
    info!(
        after_ms,
        failures, "the store can be used again; commands go on"
    );
}

/// The store answered that it will not do something; asking goes on.
pub fn store_refused(error: &(dyn Error + 'static)) {
    error!(error, "the store refuses what has to be kept; asking again");
    counter!(name::STORE_FAILURES).increment(1);
}

/// The broker takes no messages for a while.
pub fn broker_blocks(reason: &str) {
    warn!(reason, "the broker blocks publishing; waiting for it");
    gauge!(name::BLOCKED).set(1.0);
}

/// The broker takes messages again, or the connection that it blocked is gone.
pub fn broker_unblocks() {
    info!("the broker takes messages again");
    gauge!(name::BLOCKED).set(0.0);
}

/// A connection to the broker was made.
pub fn broker_connected(purpose: &'static str) {
    counter!(name::CONNECTIONS, "purpose" => purpose).increment(1);
}

/// A connection to the broker could not be made, or broke.
pub fn broker_lost(purpose: &'static str) {
    counter!(name::DISCONNECTIONS, "purpose" => purpose).increment(1);
}
