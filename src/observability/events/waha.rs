//! What is told about WAHA, and about events that an engine tells by itself.

use std::error::Error;
use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use tracing::{debug, info, warn};

use crate::observability::metrics as name;

/// What became of an event that an engine told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeOutcome {
    /// It is in the store.
    Stored,
    /// It told what was known already.
    AlreadyKnown,
    /// The same one came before.
    Duplicate,
    /// It is older than what is known.
    Outdated,
    /// There is no event for it.
    Ignored,
}

impl IntakeOutcome {
    /// As the label of a metric.
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

/// Why a look at groups was not believed, or not wholly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotDefect {
    /// All or most groups of a session are missing.
    NoGroups,
    /// A group's people are missing, or not all of them can be read.
    Incomplete,
    /// A group could not be read.
    Unreadable,
}

impl SnapshotDefect {
    /// As the label of a metric.
    const fn name(self) -> &'static str {
        match self {
            Self::NoGroups => "no-groups",
            Self::Incomplete => "incomplete",
            Self::Unreadable => "failed",
        }
    }
}

/// A WAHA server answered a request, or did not.
pub fn waha_answered(trace_id: &str, outcome: &'static str, took: Duration) {
    let duration_ms = super::millis(took);
    debug!(trace_id, outcome, duration_ms, "request to WAHA finished");
    counter!(name::WAHA_REQUESTS, "outcome" => outcome).increment(1);
    histogram!(name::WAHA_REQUEST_SECONDS, "outcome" => outcome).record(took);
}

/// A WAHA server does not answer; told when that begins.
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

/// A session has another status.
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

/// How many sessions have a status.
pub fn sessions_counted(status: &'static str, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    gauge!(name::WAHA_SESSIONS, "status" => status).set(f64::from(count));
}

/// WAHA told of something, by webhook or by socket.
pub fn waha_event(source: &'static str, outcome: &'static str) {
    waha_events(source, outcome, 1);
}

/// WAHA told of several things, or a comparison showed them.
pub fn waha_events(source: &'static str, outcome: &'static str, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    counter!(name::WAHA_EVENTS, "source" => source, "outcome" => outcome).increment(count);
}

/// Groups were compared with those last known.
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

/// Groups could not be compared; they will be, later.
pub fn not_reconciled(session: &str, error: &(dyn Error + 'static)) {
    warn!(session, error, "comparing the session's groups failed");
}

/// A look at groups was not believed, or not wholly.
pub fn snapshot_unreliable(reason: SnapshotDefect) {
    let reason = reason.name();
    debug!(
        reason,
        "WAHA returned an unreliable list of groups or members"
    );
    counter!(name::WAHA_DOUBTFUL_LOOKS, "reason" => reason).increment(1);
}

/// WAHA shows none of a session's groups, or few; logged when that begins.
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

/// A WebSocket to WAHA could not be opened, or has ended.
pub fn socket_lost(server: &str, why: &str, was_connected: bool) {
    if was_connected {
        gauge!(name::WAHA_SOCKETS).decrement(1.0);
    }
    warn!(
        server,
        why, "the connection to WAHA's WebSocket ended; reconnecting"
    );
}

/// So many events wait for the broker.
pub fn events_pending(count: u64) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    gauge!(name::PENDING_EVENTS).set(f64::from(count));
}

/// The broker has confirmed events that no command's reply carried.
pub fn events_published(count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    counter!(name::PUBLISHED_EVENTS).increment(count);
}
