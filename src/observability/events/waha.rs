//! Events of WAHA, and of the notifications that an engine sends.

use std::error::Error;
use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use tracing::{debug, info, warn};

use crate::observability::metrics as name;

/// The outcome of a notification of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeOutcome {
    /// It was stored.
    Stored,
    /// It reports a state that was known already.
    AlreadyKnown,
    /// It was received before.
    Duplicate,
    /// It is older than the known state.
    Outdated,
    /// It does not correspond to an event.
    Ignored,
}

impl IntakeOutcome {
    /// The label of a metric.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stored => "taken",
            Self::AlreadyKnown => "known",
            Self::Duplicate => "again",
            Self::Outdated => "outdated",
            Self::Ignored => "ignored",
        }
    }
}

/// Why a snapshot of groups is unreliable, at least in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotDefect {
    /// All or most groups of a session are missing.
    NoGroups,
    /// Members of a group are missing, or not all of them can be read.
    Incomplete,
    /// A group could not be read.
    Unreadable,
}

impl SnapshotDefect {
    /// The label of a metric.
    const fn name(self) -> &'static str {
        match self {
            Self::NoGroups => "no-groups",
            Self::Incomplete => "incomplete",
            Self::Unreadable => "failed",
        }
    }
}

/// A WAHA server answered a request, or failed to.
pub fn waha_answered(trace_id: &str, outcome: &'static str, took: Duration) {
    let duration_ms = super::millis(took);
    debug!(trace_id, outcome, duration_ms, "request to WAHA finished");
    counter!(name::WAHA_REQUESTS, "outcome" => outcome).increment(1);
    histogram!(name::WAHA_REQUEST_SECONDS, "outcome" => outcome).record(took);
}

/// A WAHA server does not answer; logged when that begins.
pub fn waha_away(server: &str, error: &(dyn Error + 'static)) {
    warn!(
        server,
        error, "a WAHA server is unavailable; its commands are deferred"
    );
}

/// A WAHA server answers again.
pub fn waha_back(server: &str) {
    info!(server, "a WAHA server is available again");
}

/// The status of a session changed.
pub fn session_status(session: &str, status: &str, works: bool) {
    if works {
        info!(session, status, "the session is WORKING");
    } else {
        warn!(
            session,
            status, "the session is not WORKING; its commands are deferred"
        );
    }
}

/// The number of sessions with a status.
pub fn sessions_counted(status: &'static str, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    gauge!(name::WAHA_SESSIONS, "status" => status).set(f64::from(count));
}

/// WAHA sent a notification, by webhook or WebSocket.
pub fn waha_event(source: &'static str, outcome: &'static str) {
    waha_events(source, outcome, 1);
}

/// WAHA sent several notifications, or a comparison found changes.
pub fn waha_events(source: &'static str, outcome: &'static str, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    counter!(name::WAHA_EVENTS, "source" => source, "outcome" => outcome).increment(count);
}

/// Groups were compared with their last known state.
pub fn reconciled(session: &str, changed: usize) {
    if changed > 0 {
        info!(
            session,
            changed, "the comparison found changes that no notification reported"
        );
    } else {
        debug!(session, "the comparison found no changes");
    }
}

/// Groups could not be compared; the comparison is retried later.
pub fn not_reconciled(session: &str, error: &(dyn Error + 'static)) {
    warn!(session, error, "comparing the session's groups failed");
}

/// A snapshot of groups was unreliable, at least in part.
pub fn snapshot_unreliable(reason: SnapshotDefect) {
    let reason = reason.name();
    debug!(
        reason,
        "WAHA returned an unreliable list of groups or members"
    );
    counter!(name::WAHA_DOUBTFUL_LOOKS, "reason" => reason).increment(1);
}

/// WAHA lists none or few of a session's groups; logged when that begins.
pub fn groups_missing(session: &str) {
    warn!(
        session,
        "WAHA does not show most of the session's groups; leaving them is published only when \
         later lists agree"
    );
}

/// A WebSocket to WAHA was opened.
pub fn socket_connected(server: &str) {
    info!(server, "connected to WAHA's WebSocket");
    gauge!(name::WAHA_SOCKETS).increment(1.0);
}

/// A WebSocket to WAHA could not be opened, or ended.
pub fn socket_lost(server: &str, why: &str, was_connected: bool) {
    if was_connected {
        gauge!(name::WAHA_SOCKETS).decrement(1.0);
    }
    warn!(
        server,
        why, "the connection to WAHA's WebSocket ended; reconnecting"
    );
}

/// The number of events that wait for the broker.
pub fn events_pending(count: u64) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    gauge!(name::PENDING_EVENTS).set(f64::from(count));
}

/// The broker has confirmed events of an engine that belong to no command.
pub fn events_published(count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    counter!(name::PUBLISHED_EVENTS).increment(count);
}
