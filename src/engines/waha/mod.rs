//! The `waha` engine: the contract's commands against WAHA servers, and WAHA's events as the
//! contract's.
//!
//! `client` sends requests, `wire` reads bodies, `error` judges failures, `commands` knows what to ask
//! for. `intake` and `socket` take WAHA's events, `notices` reads them, `reconcile` finds what nobody
//! told; `known` turns all that into events and `book` keeps it in the store. `health` knows which
//! sessions can be used.
//!
//! The events of our own commands come the same way as all others (see `known`), so an
//! [`Effect`] of this engine has none.

mod client;
mod commands;
mod creation_records;
mod error;
mod health;
pub mod intake;
mod notices;
mod phone_directory;
mod reconcile;
mod search;
mod socket;
mod sync;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Call, Disposition, Effect, Engine, EngineError, Executed, Found};
use crate::clock::Clock;
use crate::config;
use crate::contract::{Command, EngineName, GroupId, ParticipantId, Repeat, SessionName};
use crate::observability::events;
use crate::outbound::Outbound;
use crate::store::ledger::Begun;
use crate::store::{self, Store};

use client::Client;
use commands::{Completed, Operation};
use creation_records::CreationRecord;
use health::Sessions;
use phone_directory::PhoneDirectory;
use search::{GroupSearch, SearchResult};
use sync::state_store::StateStore;
use sync::{Report, Source};

/// The engine; one for the process.
#[derive(Debug)]
pub struct Waha {
    client: Client,
    settings: config::Waha,
    sessions: Sessions,
    phone_directory: PhoneDirectory,
    state_store: StateStore,
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Waha {
    /// Builds the engine.
    #[must_use]
    pub fn new(
        outbound: Outbound,
        store: Store,
        settings: config::Waha,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let phone_directory = PhoneDirectory::default();
        Self {
            client: Client::new(outbound, &settings),
            sessions: Sessions::new(settings.health_interval, Arc::clone(&clock)),
            state_store: StateStore::new(
                store.known_groups(),
                Arc::clone(&clock),
                phone_directory.clone(),
                sync::Lag::new(settings.reconcile_lag),
            ),
            phone_directory,
            store,
            clock,
            settings,
        }
    }

    /// Asks for the sessions' states now and then; never ends.
    pub async fn watch(self: Arc<Self>) {
        loop {
            for server in self.client.servers() {
                // Why not is kept, and told by readiness.
                let working = self.sessions.fetch_sessions(&self.client, server).await;
                for session in working.unwrap_or_default() {
                    self.request_refresh(session);
                }
            }
            self.recheck_held().await;
            // Dropping either loses nothing.
            tokio::select! {
                () = tokio::time::sleep(self.settings.health_interval) => {}
                () = self.sessions.recheck_requested() => {}
            }
        }
    }

    /// What hinders the engine, one sentence each: servers that do not answer.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.sessions.unreachable_servers()
    }

    /// What operators should know though it hinders only some: sessions that are not `WORKING`.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.sessions.not_working()
    }

    /// Has the groups of a session looked at soon.
    fn request_refresh(&self, session: SessionName) {
        self.state_store
            .request_refresh(store::known_groups::KnownKey {
                session,
                group: None,
            });
    }

    /// An errand for a session; a command's requests are told apart by its trace.
    ///
    /// # Errors
    /// When the session lives nowhere, is known not to be `WORKING`, or its server answers as no WAHA
    /// does: what that says of a command is not WAHA's word, so nothing is refused by it.
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
            // What WAHA thinks of the session, its answer to the errand will tell.
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
            caller,
            me,
        })
    }

    async fn execute_change(
        &self,
        operation: &Operation<'_>,
        call: &Call,
    ) -> Result<Executed, EngineError> {
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
                effect.map(Executed::Done)
            }
            Err(error) => {
                let disposition = error.disposition();
                if disposition == Disposition::Reject {
                    let give_up = || self.state_store.drop_pending(session, id, &call.command);
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

    /// Carries out a command. A refusal counts only where WAHA refuses: whatever answers at an address at
    /// which nobody lists sessions as WAHA does has not been shown to be WAHA.
    async fn run(&self, operation: &Operation<'_>, call: &Call) -> Result<Completed, EngineError> {
        let server = &operation.caller.server.name;
        match operation.run(call).await {
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

    /// Tells what a command has changed. It is done by then, so this waits for the store, and a
    /// failure is no failure of the command.
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
        let give_up = || {
            self.state_store
                .drop_pending(&call.session, &call.id, &call.command)
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

/// What could not be kept is told; the command is done all the same.
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

    async fn execute(&self, call: &Call) -> Result<Executed, EngineError> {
        let operation = self.operation(&call.session, Some(call)).await?;
        match call.command.command_type().repeat() {
            Repeat::ReadOnly => {
                let done = self.run(&operation, call).await?;
                Effect::new(&done.result, Vec::new()).map(Executed::Done)
            }
            Repeat::Harmless | Repeat::Harmful => self.execute_change(&operation, call).await,
        }
    }

    async fn find(&self, call: &Call, begun: Begun) -> Result<Found, EngineError> {
        let Command::CreateGroup(wanted) = &call.command else {
            return Ok(Found::Unclear);
        };
        let operation = self.operation(&call.session, Some(call)).await?;
        let searching = GroupSearch {
            operation: &operation,
            command: &call.id,
            wanted,
            begun,
            settle: self.settings.settle,
            clock: &*self.clock,
        };
        Ok(match searching.run().await? {
            SearchResult::Nothing => Found::NotSeen,
            SearchResult::Unclear => Found::Unclear,
            SearchResult::Found(snapshot) => {
                let done = operation.created(wanted, *snapshot, Vec::new()).await?;
                let effect = Effect::new(&done.result, Vec::new())?;
                let begun = begun.first.0.as_millisecond();
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
}

/// Our own store failed before anything was asked of WAHA.
fn store_failed(error: store::Error) -> EngineError {
    EngineError::Internal {
        message: error.to_string(),
        source: Box::new(error),
    }
}

/// The least that is waited between two looks for something.
const READ_INTERVAL: Duration = Duration::from_millis(500);
