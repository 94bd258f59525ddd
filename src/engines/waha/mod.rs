//! The `waha` engine: executes the contract's commands on WAHA servers, and turns WAHA's events into
//! the contract's.
//!
//! `client` sends requests, `wire` parses bodies, `error` classifies failures, `commands` holds the
//! requests of each command. `intake` and `socket` receive WAHA's events, `notices` parses them,
//! `reconcile` finds changes that no event reported; `sync` turns all of it into the contract's events
//! and stores the state. `health` knows which sessions are usable.
//!
//! The events of our own commands are produced in the same way as all others (see `sync`), so an
//! [`Effect`] of this engine has none.

mod client;
mod commands;
mod error;
mod health;
pub mod intake;
mod notices;
mod phone_directory;
mod reconcile;
mod reload_limit;
mod search;
mod socket;
mod support;
pub(super) mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::pictures::Pictures;
use super::sync::creation_records::CreationRecord;
use super::sync::state_store::StateStore;
use super::sync::{Lag, PhoneDirectory, Report, Source};
use super::{Abilities, Call, Disposition, Effect, Engine, EngineError, Found};
use crate::clock::Clock;
use crate::config;
use crate::contract::{
    Command, EngineName, ErrorCode, GroupId, ParticipantId, Repeat, SessionName,
};
use crate::observability::events;
use crate::outbound::Outbound;
use crate::store::ledger::Starts;
use crate::store::{self, Store};

use client::Client;
use commands::{Completed, Operation};
use error::{FailureCause, Intent};
use health::Sessions;
use reload_limit::ReloadLimit;
use search::{GroupSearch, SearchResult};
use support::Environment;

/// The engine; one for the process.
#[derive(Debug)]
pub struct Waha {
    client: Client,
    settings: config::Waha,
    sessions: Sessions,
    phone_directory: PhoneDirectory,
    reload_limit: ReloadLimit,
    state_store: StateStore,
    store: Store,
    clock: Arc<dyn Clock>,
    pictures: Pictures,
}

impl Waha {
    /// Builds the engine.
    #[must_use]
    pub fn new(
        outbound: Outbound,
        store: Store,
        settings: config::Waha,
        clock: Arc<dyn Clock>,
        pictures: Pictures,
    ) -> Self {
        let phone_directory = PhoneDirectory::default();
        Self {
            client: Client::new(outbound, &settings),
            sessions: Sessions::new(settings.health_interval, Arc::clone(&clock)),
            state_store: StateStore::new(
                EngineName::Waha,
                store.known_groups(),
                Arc::clone(&clock),
                phone_directory.clone(),
                Lag::new(settings.reconcile_lag),
            ),
            phone_directory,
            reload_limit: ReloadLimit::default(),
            store,
            clock,
            settings,
            pictures,
        }
    }

    /// Polls the sessions' states; never ends.
    pub async fn watch(self: Arc<Self>) {
        loop {
            for server in self.client.servers() {
                // The reason for a failure is kept; readiness reports it.
                let working = self.sessions.fetch_sessions(&self.client, server).await;
                for session in working.unwrap_or_default() {
                    self.request_refresh(session);
                }
            }
            self.recheck_held().await;
            // Dropping either future loses nothing.
            tokio::select! {
                () = tokio::time::sleep(self.settings.health_interval) => {}
                () = self.sessions.recheck_requested() => {}
            }
        }
    }

    /// What prevents the engine from working, one sentence each: servers that do not answer.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.sessions.unreachable_servers()
    }

    /// What operators should know though it affects only some commands: sessions that are not
    /// `WORKING`.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.sessions.not_working()
    }

    /// Requests a comparison of all groups of a session.
    fn request_refresh(&self, session: SessionName) {
        self.state_store
            .request_refresh(store::known_groups::KnownKey {
                session,
                group: None,
            });
    }

    /// An operation for a session; a command's requests carry its trace.
    ///
    /// # Errors
    /// When no server is configured for the session, when it is known not to be `WORKING`, or when its
    /// server does not answer like WAHA: an answer of such a server is not WAHA's, so it refuses no
    /// command.
    async fn operation<'a>(
        &'a self,
        session: &'a SessionName,
        call: Option<&'a Call>,
    ) -> Result<Operation<'a>, EngineError> {
        self.sessions.ensure_usable(session)?;
        let caller = self.client.caller(session, call)?;
        let mut me = self.sessions.me(session);
        let server = &caller.server.name;
        if me.is_empty() || !self.sessions.is_listed(server) {
            // What WAHA reports of the session shows in the answer to the operation.
            let asked = self
                .sessions
                .fetch_sessions(&self.client, caller.server)
                .await;
            for session in asked.unwrap_or_default() {
                self.request_refresh(session);
            }
            if let Some(message) = self.sessions.not_waha(server) {
                return Err(EngineError::NotReady {
                    message,
                    after: None,
                });
            }
            me = self.sessions.me(session);
        }
        Ok(Operation {
            client: &self.client,
            state_store: &self.state_store,
            phone_directory: &self.phone_directory,
            reload_limit: &self.reload_limit,
            pictures: &self.pictures,
            caller,
            me,
        })
    }

    async fn execute_change(
        &self,
        operation: &Operation<'_>,
        call: &Call,
    ) -> Result<Effect, EngineError> {
        let Call { id, session, .. } = call;
        self.state_store
            .expect(session, id, &call.command)
            .await
            .map_err(store_failed)?;
        let begun = self.state_store.now();
        if let Command::CreateGroup(wanted) = &call.command {
            let record = CreationRecord::new(id.clone(), wanted, begun);
            let written = self
                .state_store
                .record_creation_started(session, record)
                .await;
            written.map_err(store_failed)?;
        }
        match self.run(operation, call).await {
            Ok(done) => {
                let effect = Effect::new(&done.result, Vec::new());
                self.report_completed(call, &operation.me, begun, done)
                    .await;
                effect
            }
            Err(error) => {
                let disposition = error.disposition();
                if disposition == Disposition::Reject {
                    let group = call.command.group();
                    let give_up = || self.state_store.drop_pending(session, id, group);
                    log_store_error(self.store.through_outages(give_up).await);
                }
                let creates = matches!(call.command, Command::CreateGroup(_));
                if creates && disposition != Disposition::Unknown {
                    let failed = || self.state_store.record_creation_failed(session, id);
                    log_store_error(self.store.through_outages(failed).await);
                }
                Err(error)
            }
        }
    }

    /// Executes a command. A refusal counts only if WAHA refuses: a server that does not list sessions
    /// as WAHA does has not been shown to be WAHA.
    async fn run(&self, operation: &Operation<'_>, call: &Call) -> Result<Completed, EngineError> {
        let server = &operation.caller.server.name;
        match operation.run(call).await {
            Err(EngineError::Refused {
                code: ErrorCode::NotSupported,
                message,
            }) if self.sessions.is_listed(server) => {
                let needed = support::needed(call.command.command_type());
                Err(EngineError::Refused {
                    code: ErrorCode::NotSupported,
                    message: needed.unwrap_or(message),
                })
            }
            Err(error)
                if error.disposition() == Disposition::Reject
                    && !self.sessions.is_listed(server) =>
            {
                Err(EngineError::Unavailable {
                    message: format!(
                        "the server {server} does not list its sessions, so this answer may not be WAHA's: {error}; check engine.waha.url"
                    ),
                    source: None,
                })
            }
            run => run,
        }
    }

    /// Reports what a command has changed. The command is done by then, so this waits for the store,
    /// and a failure here is no failure of the command.
    async fn report_completed(
        &self,
        call: &Call,
        me: &[ParticipantId],
        begun: i64,
        done: Completed,
    ) {
        let Some(group) = done.group else {
            return;
        };
        let report = Report {
            source: Source::Command(call.id.clone()),
            at: begun,
            observed_at: begun,
            now: self.state_store.now(),
            me: me.to_vec(),
            author: None,
            observations: done.observations,
            trace: call.context.trace.headers().collect(),
        };
        let apply = || self.apply(&call.session, &group, &report);
        log_store_error(self.store.through_outages(apply).await);
        let named = match call.command {
            // Its group's, by which the join was expected.
            Command::JoinGroup(_) => Some(&group),
            _ => call.command.group(),
        };
        let give_up = || {
            self.state_store
                .drop_pending(&call.session, &call.id, named)
        };
        log_store_error(self.store.through_outages(give_up).await);
    }

    async fn apply(
        &self,
        session: &SessionName,
        group: &GroupId,
        report: &Report,
    ) -> Result<(), store::Error> {
        let observed_at = self
            .state_store
            .apply(session, group, None, report.clone())
            .await;
        observed_at.map(drop)
    }
}

/// Logs what could not be stored; the command is done nevertheless.
fn log_store_error(kept: Result<(), store::Error>) {
    if let Err(error) = kept {
        events::store_refused(&error);
    }
}

#[async_trait]
impl Engine for Waha {
    fn name(&self) -> EngineName {
        EngineName::Waha
    }

    async fn execute(&self, call: &Call) -> Result<Effect, EngineError> {
        let operation = self.operation(&call.session, Some(call)).await?;
        match call.command.command_type().repeat() {
            Repeat::ReadOnly => {
                let done = self.run(&operation, call).await?;
                Effect::new(&done.result, Vec::new())
            }
            Repeat::Harmless | Repeat::Harmful => self.execute_change(&operation, call).await,
        }
    }

    async fn account(&self, call: &Call) -> Result<Vec<ParticipantId>, EngineError> {
        Ok(self.operation(&call.session, Some(call)).await?.me)
    }

    async fn find(&self, call: &Call, starts: Starts) -> Result<Found, EngineError> {
        let Command::CreateGroup(wanted) = &call.command else {
            return Ok(Found::Unclear);
        };
        let operation = self.operation(&call.session, Some(call)).await?;
        let searching = GroupSearch {
            operation: &operation,
            command: &call.id,
            wanted,
            starts,
            settle: self.settings.settle,
            clock: &*self.clock,
        };
        Ok(match searching.run().await? {
            SearchResult::Nothing => Found::NotSeen,
            SearchResult::Unclear => Found::Unclear,
            SearchResult::Found(snapshot) => {
                let done = operation.created(wanted, *snapshot, Vec::new()).await?;
                let effect = Effect::new(&done.result, Vec::new())?;
                let begun = starts.first.0.as_millisecond();
                self.report_completed(call, &operation.me, begun, done)
                    .await;
                Found::Effect(effect)
            }
        })
    }

    async fn check(&self) -> Result<String, EngineError> {
        for server in self.client.servers() {
            self.sessions.fetch_sessions(&self.client, server).await?;
        }
        Ok(format!("WAHA; {}", self.sessions.summary()))
    }

    async fn abilities(&self) -> Result<Vec<Abilities>, EngineError> {
        let mut all = Vec::new();
        for server in self.client.servers() {
            let body = self.client.environment(server).await?;
            let environment = Environment::read(body.json()).ok_or_else(|| {
                FailureCause::Unreadable("no version").into_engine_error(Intent::Read, &server.name)
            })?;
            all.push(Abilities {
                of: format!("{environment} ({})", server.name),
                unsupported: support::unsupported(&environment),
            });
        }
        Ok(all)
    }
}

/// Our own store failed before a request was sent to WAHA.
fn store_failed(error: store::Error) -> EngineError {
    EngineError::Internal {
        message: error.to_string(),
        source: Box::new(error),
    }
}

/// The shortest wait between two reads of the same thing.
const READ_INTERVAL: Duration = Duration::from_millis(500);
