//! Log lines and metrics of webhook endpoints and deliveries to them.

use std::error::Error;
use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use tracing::{error, info, warn};

use crate::observability::metrics as name;

/// An attempt to deliver an event to a webhook endpoint has ended.
pub fn webhook_attempted(outcome: &'static str, took: Duration) {
    counter!(name::WEBHOOK_ATTEMPTS, "outcome" => outcome).increment(1);
    histogram!(name::WEBHOOK_SECONDS, "outcome" => outcome).record(took);
}

/// The breaker of an endpoint was opened; its deliveries wait.
pub fn webhook_failing(endpoint: &str, reason: &str) {
    warn!(
        endpoint,
        reason,
        "webhook endpoint failing: its breaker is open, deliveries wait until a probe succeeds"
    );
    counter!(name::WEBHOOK_CHANGES, "change" => "failing").increment(1);
}

/// The breaker of an endpoint was closed.
pub fn webhook_recovered(endpoint: &str) {
    info!(
        endpoint,
        "webhook endpoint recovered: its breaker is closed"
    );
    counter!(name::WEBHOOK_CHANGES, "change" => "recovered").increment(1);
}

/// An endpoint was disabled: no more events are collected for it or sent to it.
pub fn webhook_disabled(endpoint: &str, reason: &str) {
    error!(
        endpoint,
        reason, "webhook endpoint disabled; `groupmq webhooks resume` enables it"
    );
    counter!(name::WEBHOOK_CHANGES, "change" => "disabled").increment(1);
}

/// The removal of an endpoint is complete.
pub fn webhook_removed(endpoint: &str) {
    info!(endpoint, "webhook endpoint removed");
    counter!(name::WEBHOOK_CHANGES, "change" => "removed").increment(1);
}

/// The queue of an endpoint was missing and has been recreated, empty. `seen` is its length at the last check,
/// and how long ago that was.
pub fn webhook_queue_recreated(endpoint: &str, seen: Option<(u32, Duration)>) {
    if let Some((waiting, ago)) = seen {
        let ago_ms = super::millis(ago);
        error!(
            endpoint,
            waiting,
            ago_ms,
            "the queue of a webhook endpoint was deleted and has been recreated; lost are the events that \
             were in it (`waiting` of them at the last check, `ago_ms` ago), those that arrived after that \
             check and those published while the queue was missing"
        );
    } else {
        error!(
            endpoint,
            "the queue of a webhook endpoint was deleted and has been recreated; lost are the events that \
             were in it and those published while the queue was missing; their number is unknown"
        );
    }
    counter!(name::WEBHOOK_QUEUES_REMADE).increment(1);
}

/// A delivery was given up and is kept as a dead letter.
pub fn webhook_given_up(endpoint: &str) {
    warn!(
        endpoint,
        "webhook delivery given up; it is kept as a dead letter"
    );
    counter!(name::WEBHOOK_DEAD).increment(1);
}

/// The number of endpoints, and of those whose breaker is open.
pub fn webhooks_counted(all: usize, failing: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let (all, failing) = (all as f64, failing as f64);
    gauge!(name::WEBHOOKS).set(all);
    gauge!(name::WEBHOOKS_FAILING).set(failing);
}

/// Attempts were left out of the delivery log.
pub fn webhook_log_skipped(count: usize) {
    counter!(name::WEBHOOK_LOG_SKIPPED).increment(count as u64);
}

/// Setting up the queues of the endpoints failed; it is retried.
pub fn webhooks_not_prepared(error: &(dyn Error + 'static)) {
    warn!(
        error,
        "cannot set up the queues of the webhook endpoints; retrying"
    );
}

/// Setting up the queue of an endpoint failed that this process does not declare; nothing waits for it.
pub fn webhook_not_in_place(endpoint: &str, error: &(dyn Error + 'static)) {
    warn!(
        endpoint,
        error,
        "cannot set up the queue of a webhook endpoint; it misses events until that succeeds"
    );
}
