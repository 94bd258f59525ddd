//! The sessions' states as WAHA reports them: polled, and received with `session.status`.
//!
//! No request is sent for a session that is known not to be `WORKING`: its commands are deferred. A
//! status older than the freshness limit is ignored; then WAHA's answer to the request decides.
//!
//! WAHA retries each webhook on its own, so an older status may arrive after a newer one; it is
//! ignored. Webhooks carry WAHA's time. A list has no time: it is as old as the request for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use super::client::Client;
use super::error::FailureCause;
use super::wire::{Body, participant};
use crate::clock::Clock;
use crate::config::WahaServer;
use crate::contract::{ParticipantId, SessionName};
use crate::engines::EngineError;
use crate::engines::sync::is_phone;
use crate::observability::events;

/// The state in which a session is usable.
const WORKING: &str = "WORKING";

/// WAHA's states; the label of a metric.
const STATES: [&str; 6] = [
    "WORKING",
    "STARTING",
    "SCAN_QR_CODE",
    "STOPPED",
    "FAILED",
    "other",
];

/// The known state of all sessions and servers.
#[derive(Debug)]
pub(super) struct Sessions {
    /// An older status is not relied upon.
    fresh: Duration,
    clock: Arc<dyn Clock>,
    /// A webhook contradicted a newer list: the server should be asked at once.
    recheck: Notify,
    // A std mutex: held for map operations and never across an await.
    state: Mutex<SessionTable>,
}

#[derive(Debug, Default)]
struct SessionTable {
    sessions: BTreeMap<SessionName, Session>,
    /// How many are in each of [`STATES`], so that nothing counts all of them for each that changes.
    counts: BTreeMap<&'static str, usize>,
    /// How each server answered the last request for its sessions.
    servers: BTreeMap<String, Listing>,
}

/// How a server answered the request for its sessions.
#[derive(Debug)]
enum Listing {
    /// As WAHA does.
    Listed,
    /// No answer, or a failure that a WAHA may have; the reason.
    Unreachable(String),
    /// An answer that WAHA never gives: another server is behind this URL; the message for operators.
    NotWaha(String),
}

/// The source of a status, and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusSource {
    /// WAHA's event: since when, by WAHA's clock, in milliseconds.
    Event(i64),
    /// WAHA's list: when it was requested, by both of our clocks.
    List(Instant, i64),
}

#[derive(Debug, Clone)]
struct Session {
    server: String,
    status: String,
    /// The account's ids, the phone first.
    me: Vec<ParticipantId>,
    observed_at: Instant,
    /// Since when, or as of when; milliseconds.
    at: i64,
}

impl Session {
    /// Whether this is newer than a status from `source`.
    fn is_newer_than(&self, source: StatusSource) -> bool {
        match source {
            StatusSource::Event(at) => self.at > at,
            // Both by our own clock, so WAHA's clock does not matter.
            StatusSource::List(asked, _) => self.observed_at > asked,
        }
    }
}

impl Sessions {
    pub(super) fn new(interval: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            fresh: interval * 3,
            clock,
            recheck: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Whether a session is usable, as far as is known.
    ///
    /// # Errors
    /// When it is known not to be.
    pub(super) fn ensure_usable(&self, session: &SessionName) -> Result<(), EngineError> {
        let state = self.state.lock();
        let known = state.sessions.get(session);
        match known.filter(|known| known.observed_at.elapsed() < self.fresh) {
            Some(known) if known.status != WORKING => Err(EngineError::NotReady {
                message: format!(
                    "the session {session} is {} in WAHA, not WORKING; start it there",
                    known.status
                ),
                after: None,
            }),
            _ => Ok(()),
        }
    }

    /// The ids of a session's account; empty if unknown.
    pub(super) fn me(&self, session: &SessionName) -> Vec<ParticipantId> {
        let state = self.state.lock();
        let known = state.sessions.get(session);
        known.map(|known| known.me.clone()).unwrap_or_default()
    }

    /// The usable sessions.
    pub(super) fn working(&self) -> Vec<SessionName> {
        let state = self.state.lock();
        let working = state.sessions.iter().filter(|(_, it)| it.status == WORKING);
        working.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a server answered the last request for its sessions as WAHA does: only then its answers
    /// count as WAHA's.
    pub(super) fn is_listed(&self, server: &str) -> bool {
        let state = self.state.lock();
        matches!(state.servers.get(server), Some(Listing::Listed))
    }

    /// The message for a server that does not answer like WAHA.
    pub(super) fn not_waha(&self, server: &str) -> Option<String> {
        match self.state.lock().servers.get(server) {
            Some(Listing::NotWaha(why)) => Some(why.clone()),
            _ => None,
        }
    }

    /// Waits until a status has to be checked at once.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(super) async fn recheck_requested(&self) {
        self.recheck.notified().await;
    }

    /// Records a session's status; true if it has become `WORKING`.
    pub(super) fn record_status(
        &self,
        session: &SessionName,
        server: &str,
        status: &str,
        me: Vec<ParticipantId>,
        source: StatusSource,
    ) -> bool {
        let mut state = self.state.lock();
        let before = state.sessions.get(session);
        if let Some(before) = before.filter(|before| before.is_newer_than(source)) {
            if before.status != status {
                self.recheck.notify_one();
            }
            return false;
        }
        let was = before.map(|before| before.status.clone());
        let me = if me.is_empty() {
            before.map(|before| before.me.clone()).unwrap_or_default()
        } else {
            me
        };
        let now = Session {
            server: server.to_owned(),
            status: status.to_owned(),
            me,
            observed_at: Instant::now(),
            at: match source {
                StatusSource::Event(at) | StatusSource::List(_, at) => at,
            },
        };
        state.put(session.clone(), now);
        if was.as_deref() == Some(status) {
            return false;
        }
        state.report();
        drop(state);
        events::session_status(session.as_str(), status, status == WORKING);
        status == WORKING
    }

    /// Requests a server's sessions; returns those that have become `WORKING`.
    ///
    /// # Errors
    /// Why the request failed.
    pub(super) async fn fetch_sessions(
        &self,
        client: &Client,
        server: &WahaServer,
    ) -> Result<Vec<SessionName>, EngineError> {
        let asked = StatusSource::List(Instant::now(), self.clock.now().as_millisecond());
        let listed = match client.sessions(server).await {
            Ok(body) => list(&body).ok_or_else(|| not_waha(server, "")),
            Err(failure) if shows_other_server(&failure.cause) => Err(match failure.cause {
                FailureCause::Unreadable(why) => not_waha(server, &format!(" ({why})")),
                FailureCause::Status(status) => not_waha(server, &format!(" ({status})")),
                _ => not_waha(server, ""),
            }),
            Err(failure) => Err((failure.into_engine_error(), false)),
        };
        let listed = match listed {
            Ok(listed) => listed,
            Err((error, is_not_waha)) => {
                let why = error.to_string();
                let listing = if is_not_waha {
                    Listing::NotWaha(why)
                } else {
                    Listing::Unreachable(why)
                };
                let before = self
                    .state
                    .lock()
                    .servers
                    .insert(server.name.clone(), listing);
                if matches!(before, None | Some(Listing::Listed)) {
                    events::waha_away(&server.name, &error);
                }
                return Err(error);
            }
        };
        let mut state = self.state.lock();
        let before = state.servers.insert(server.name.clone(), Listing::Listed);
        let back = matches!(before, Some(Listing::Unreachable(_) | Listing::NotWaha(_)));
        let still: BTreeSet<_> = listed.iter().map(|(listed, ..)| listed).collect();
        state.retain(|name, it| {
            it.server != server.name || still.contains(name) || it.is_newer_than(asked)
        });
        state.report();
        drop(state);
        if back {
            events::waha_back(&server.name);
        }
        let ours =
            |name: &SessionName| client.server(name).is_some_and(|it| it.name == server.name);
        let ours = listed.into_iter().filter(|(name, ..)| ours(name));
        let now = ours.filter(|(name, status, me)| {
            self.record_status(name, &server.name, status, me.clone(), asked)
        });
        Ok(now.map(|(name, ..)| name).collect())
    }

    /// Servers that do not answer, one sentence each.
    pub(super) fn unreachable_servers(&self) -> Vec<String> {
        let state = self.state.lock();
        let away = |listing: &Listing| match listing {
            Listing::Listed => None,
            Listing::Unreachable(why) | Listing::NotWaha(why) => Some(why.clone()),
        };
        state.servers.values().filter_map(away).collect()
    }

    /// The sessions that are not usable, one sentence each.
    pub(super) fn not_working(&self) -> Vec<String> {
        let state = self.state.lock();
        let not = state.sessions.iter().filter(|(_, it)| it.status != WORKING);
        not.map(|(name, it)| format!("the session {name} is {} in WAHA", it.status))
            .collect()
    }

    /// A summary in one sentence.
    pub(super) fn summary(&self) -> String {
        let state = self.state.lock();
        let all = state.sessions.len();
        let working = state.sessions.values().filter(|it| it.status == WORKING);
        let sentence = format!("{all} sessions, {} of them WORKING", working.count());
        drop(state);
        let not = self.not_working();
        if not.is_empty() {
            sentence
        } else {
            format!("{sentence}; {}", not.join("; "))
        }
    }
}

impl SessionTable {
    /// Adds or replaces a session.
    fn put(&mut self, name: SessionName, session: Session) {
        *self.counts.entry(label(&session.status)).or_default() += 1;
        if let Some(before) = self.sessions.insert(name, session) {
            self.uncount(&before);
        }
    }

    /// Removes the sessions that are not to be kept.
    fn retain(&mut self, keep: impl Fn(&SessionName, &Session) -> bool) {
        let gone = self.sessions.extract_if(.., |name, it| !keep(name, it));
        for (_, session) in gone.collect::<Vec<_>>() {
            self.uncount(&session);
        }
    }

    fn uncount(&mut self, session: &Session) {
        let count = self.counts.entry(label(&session.status)).or_default();
        *count = count.saturating_sub(1);
    }

    /// Sets the metric.
    fn report(&self) {
        for status in STATES {
            let count = self.counts.get(status).copied().unwrap_or_default();
            events::sessions_counted(status, count);
        }
    }
}

fn label(status: &str) -> &'static str {
    let known = STATES.iter().find(|state| **state == status);
    known.copied().unwrap_or("other")
}

type Listed = (SessionName, String, Vec<ParticipantId>);

/// The sessions in an answer; none if it is not a list of sessions.
fn list(body: &Body) -> Option<Vec<Listed>> {
    let entries = body.json().as_array()?;
    let sessions: Vec<_> = entries.iter().filter_map(entry).collect();
    if sessions.is_empty() && !entries.is_empty() {
        return None;
    }
    // No command can name a session whose name the contract does not allow.
    let named = |(name, status, me): (&str, _, _)| Some((name.parse().ok()?, status, me));
    Some(sessions.into_iter().filter_map(named).collect())
}

fn entry(entry: &Value) -> Option<(&str, String, Vec<ParticipantId>)> {
    let name = entry.get("name")?.as_str()?;
    let status = entry.get("status")?.as_str()?.to_owned();
    Some((name, status, me(entry)))
}

/// Whether a failure to list sessions shows that the server is not WAHA: it does not know the path, or
/// returns something other than a list. A wrong key, a rate limit or a failure does not show that.
const fn shows_other_server(cause: &FailureCause) -> bool {
    match cause {
        FailureCause::NoSession
        | FailureCause::NotImplemented
        | FailureCause::Invalid(_)
        | FailureCause::WhatsApp(_)
        | FailureCause::SessionNotWorking(_)
        | FailureCause::RefusalText(_)
        | FailureCause::Unreadable(_) => true,
        FailureCause::Status(status) => *status < 500,
        FailureCause::InvalidKey
        | FailureCause::Throttled(_)
        | FailureCause::Exception { .. }
        | FailureCause::NotSent(_)
        | FailureCause::NoAnswer(_) => false,
    }
}

/// The error for a server that is not WAHA, and the flag that says so.
fn not_waha(server: &WahaServer, why: &str) -> (EngineError, bool) {
    let error = EngineError::Unavailable {
        message: format!(
            "the server {} does not list sessions as WAHA does{why}; check engine.waha.url, which ends before /api",
            server.name
        ),
        source: None,
    };
    (error, true)
}

/// The account's ids in a session's description or an event, the phone first.
pub(super) fn me(body: &Value) -> Vec<ParticipantId> {
    let Some(me) = body.get("me") else {
        return Vec::new();
    };
    let found = ["id", "jid", "lid"]
        .iter()
        .filter_map(|name| participant(me.get(*name)?));
    let mut ids: Vec<_> = found.collect();
    ids.sort_by_key(|id| !is_phone(id));
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests;
