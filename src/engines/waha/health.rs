//! The sessions' states, as WAHA tells them: asked for now and then, and told by `session.status`.
//!
//! A session that is known not to be `WORKING` is not asked for anything: its commands wait. What was
//! heard too long ago counts for nothing; then WAHA itself says what it thinks of a request.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use super::wire::{Body, is_phone, participant};
use crate::config::WahaServer;
use crate::contract::{ParticipantId, SessionName};
use crate::engines::EngineError;
use crate::observability::events;

/// The state in which a session can be used.
const WORKING: &str = "WORKING";

/// The states that WAHA has; the label of a metric.
const STATES: [&str; 6] = [
    "WORKING",
    "STARTING",
    "SCAN_QR_CODE",
    "STOPPED",
    "FAILED",
    "other",
];

/// What is known of all sessions and servers.
#[derive(Debug)]
pub(super) struct Sessions {
    /// What was heard longer ago is not relied upon.
    fresh: Duration,
    // A std mutex: held for map operations and never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionName, Session>,
    /// Servers that did not answer when they were asked last, and why.
    away: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Session {
    server: String,
    status: String,
    /// The account's ids, the phone's first.
    me: Vec<ParticipantId>,
    heard: Instant,
}

impl Sessions {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            fresh: interval * 3,
            state: Mutex::default(),
        }
    }

    /// Whether a session can be used, as far as is known.
    ///
    /// # Errors
    /// When it is known that it cannot.
    pub(super) fn ready(&self, session: &SessionName) -> Result<(), EngineError> {
        let state = self.lock();
        let known = state.sessions.get(session);
        match known.filter(|known| known.heard.elapsed() < self.fresh) {
            Some(known) if known.status != WORKING => Err(EngineError::NotReady {
                message: format!(
                    "the session {session} is {} in WAHA, not WORKING; bring it back there",
                    known.status
                ),
                after: None,
            }),
            _ => Ok(()),
        }
    }

    /// The ids of a session's account; empty while they are not known.
    pub(super) fn me(&self, session: &SessionName) -> Vec<ParticipantId> {
        let state = self.lock();
        let known = state.sessions.get(session);
        known.map(|known| known.me.clone()).unwrap_or_default()
    }

    /// The sessions that can be used.
    pub(super) fn working(&self) -> Vec<SessionName> {
        let state = self.lock();
        let working = state.sessions.iter().filter(|(_, it)| it.status == WORKING);
        working.map(|(name, _)| name.clone()).collect()
    }

    /// Takes in a session's status; true where it has become `WORKING`.
    pub(super) fn hear(
        &self,
        session: &SessionName,
        server: &str,
        status: &str,
        me: Vec<ParticipantId>,
    ) -> bool {
        let mut state = self.lock();
        let before = state.sessions.get(session);
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
            heard: Instant::now(),
        };
        state.sessions.insert(session.clone(), now);
        Self::count(&state);
        drop(state);
        if was.as_deref() == Some(status) {
            return false;
        }
        events::session_status(session.as_str(), status, status == WORKING);
        status == WORKING
    }

    /// Asks a server for its sessions; those that have become `WORKING`.
    ///
    /// # Errors
    /// Why it did not answer.
    pub(super) async fn ask(
        &self,
        client: &Client,
        server: &WahaServer,
    ) -> Result<Vec<SessionName>, EngineError> {
        let answer = client.sessions(server).await.map_err(EngineError::from);
        let listed = answer.and_then(|body| list(&body, &server.name));
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let mut state = self.lock();
                let news = state.away.insert(server.name.clone(), error.to_string());
                drop(state);
                if news.is_none() {
                    events::waha_away(&server.name, &error);
                }
                return Err(error);
            }
        };
        let mut state = self.lock();
        let back = state.away.remove(&server.name).is_some();
        let still = |name: &SessionName| listed.iter().any(|(listed, ..)| listed == name);
        let gone = |name: &SessionName, it: &Session| it.server == server.name && !still(name);
        state.sessions.retain(|name, it| !gone(name, it));
        drop(state);
        if back {
            events::waha_back(&server.name);
        }
        let ours =
            |name: &SessionName| client.server(name).is_some_and(|it| it.name == server.name);
        let ours = listed.into_iter().filter(|(name, ..)| ours(name));
        let now =
            ours.filter(|(name, status, me)| self.hear(name, &server.name, status, me.clone()));
        Ok(now.map(|(name, ..)| name).collect())
    }

    /// Servers that do not answer, one sentence each.
    pub(super) fn away(&self) -> Vec<String> {
        self.lock().away.values().cloned().collect()
    }

    /// The sessions that cannot be used, one sentence each.
    pub(super) fn not_working(&self) -> Vec<String> {
        let state = self.lock();
        let not = state.sessions.iter().filter(|(_, it)| it.status != WORKING);
        not.map(|(name, it)| format!("the session {name} is {} in WAHA", it.status))
            .collect()
    }

    /// All in one sentence.
    pub(super) fn summary(&self) -> String {
        let state = self.lock();
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

    fn count(state: &State) {
        for status in STATES {
            let is_it = |it: &&Session| label(&it.status) == status;
            let count = state.sessions.values().filter(is_it).count();
            events::sessions_counted(status, count);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn label(status: &str) -> &'static str {
    let known = STATES.iter().find(|state| **state == status);
    known.copied().unwrap_or("other")
}

type Listed = (SessionName, String, Vec<ParticipantId>);

fn list(body: &Body, server: &str) -> Result<Vec<Listed>, EngineError> {
    let entries = body.json().as_array().ok_or_else(|| EngineError::Unavailable {
        message: format!(
            "the server {server} does not list sessions as WAHA does; is engine.waha's url right?"
        ),
        source: None,
    })?;
    let read = |entry: &Value| {
        let name = entry.get("name")?.as_str()?.parse().ok()?;
        let status = entry.get("status")?.as_str()?.to_owned();
        Some((name, status, me(entry)))
    };
    Ok(entries.iter().filter_map(read).collect())
}

/// The account's ids in a session's description or an event, the phone's first.
pub(super) fn me(body: &Value) -> Vec<ParticipantId> {
    let Some(me) = body.get("me") else {
        return Vec::new();
    };
    let told = ["id", "jid", "lid"]
        .iter()
        .filter_map(|name| participant(me.get(*name)?));
    let mut ids: Vec<_> = told.collect();
    ids.sort_by_key(|id| !is_phone(id));
    ids.dedup();
    ids
}
