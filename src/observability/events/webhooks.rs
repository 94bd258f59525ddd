//! What is told about deliveries to webhook endpoints.

use std::error::Error;
use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use tracing::{error, info, warn};

use crate::observability::metrics as name;

/// An event was sent to a webhook endpoint, or could not be.
pub fn webhook_attempted(outcome: &'static str, took: Duration) {
    counter!(name::WEBHOOK_ATTEMPTS, "outcome" => outcome).increment(1);
    histogram!(name::WEBHOOK_SECONDS, "outcome" => outcome).record(took);
}

/// An endpoint fails; its deliveries wait.
pub fn webhook_failing(endpoint: &str, reason: &str) {
    warn!(
        endpoint,
        reason, "a webhook endpoint fails; its deliveries wait until it answers well"
    );
    counter!(name::WEBHOOK_CHANGES, "change" => "failing").increment(1);
}

/// An endpoint answers well again.
pub fn webhook_recovered(endpoint: &str) {
    info!(endpoint, "a webhook endpoint answers well again");
    counter!(name::WEBHOOK_CHANGES, "change" => "recovered").increment(1);
}

/// An endpoint gets no more events.
pub fn webhook_disabled(endpoint: &str, reason: &str) {
    error!(
        endpoint,
        reason, "a webhook endpoint is disabled; `groupmq webhooks resume` enables it"
    );
    counter!(name::WEBHOOK_CHANGES, "change" => "disabled").increment(1);
}

/// An endpoint that was to go is gone.
pub fn webhook_removed(endpoint: &str) {
    info!(endpoint, "a webhook endpoint has been removed");
    counter!(name::WEBHOOK_CHANGES, "change" => "removed").increment(1);
}

/// The queue of an endpoint was gone and is there again, empty; with how many events waited in it when it was
/// last looked at, and how long ago that was.
pub fn webhook_queue_remade(endpoint: &str, seen: Option<(u32, Duration)>) {
    if let Some((waiting, ago)) = seen {
        let ago_ms = super::millis(ago);
        error!(
            endpoint,
            waiting,
            ago_ms,
            "the queue of a webhook endpoint was deleted and is made anew: the events that waited in it \
             are lost, this many when it was last looked at, with those that came since then and those \
             that were published while it was gone"
        );
    } else {
        error!(
            endpoint,
            "the queue of a webhook endpoint was deleted and is made anew: the events that waited in it \
             are lost, with those that were published while it was gone; how many is not known"
        );
    }
    counter!(name::WEBHOOK_QUEUES_REMADE).increment(1);
}

/// A delivery was given up.
pub fn webhook_given_up(endpoint: &str) {
    warn!(
        endpoint,
        "a delivery to a webhook endpoint is given up and kept as a dead letter"
    );
    counter!(name::WEBHOOK_DEAD).increment(1);
}

/// How many endpoints there are, and how many of them fail.
pub fn webhooks_counted(all: usize, failing: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let (all, failing) = (all as f64, failing as f64);
    gauge!(name::WEBHOOKS).set(all);
    gauge!(name::WEBHOOKS_FAILING).set(failing);
}

/// Attempts were not written to the log of deliveries.
pub fn webhook_log_skipped(count: usize) {
    counter!(name::WEBHOOK_LOG_SKIPPED).increment(count as u64);
}

/// The endpoints cannot be put in place yet; tried again.
pub fn webhooks_not_prepared(error: &(dyn Error + 'static)) {
    warn!(
        error,
        "the webhook endpoints cannot be put in place yet; trying again"
    );
}

/// An endpoint that somebody else has set cannot be put in place; nobody waits for it.
pub fn webhook_not_in_place(endpoint: &str, error: &(dyn Error + 'static)) {
    warn!(
        endpoint,
        error, "a webhook endpoint cannot be put in place; it misses events until it is"
    );
}
