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

mod book;
mod client;
mod commands;
mod error;
mod health;
pub mod intake;
mod known;
mod lids;
mod makings;
mod notices;
mod reconcile;
mod search;
mod socket;
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

use book::Book;
use client::Client;
use commands::{Done, Errand};
use health::Sessions;
use known::{Report, Source};
use lids::Lids;
use makings::Making;
use search::{Search, Searching};

/// The engine; one for the process.
#[derive(Debug)]
pub struct Waha {
    client: Client,
    settings: config::Waha,
    sessions: Sessions,
    lids: Lids,
    book: Book,
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
        let lids = Lids::default();
        Self {
            client: Client::new(outbound, &settings),
            sessions: Sessions::new(settings.health_interval, Arc::clone(&clock)),
            book: Book::new(
                store.known_groups(),
                Arc::clone(&clock),
                lids.clone(),
                known::Lag::new(settings.reconcile_lag),
            ),
            lids,
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
                let working = self.sessions.ask(&self.client, server).await;
                for session in working.unwrap_or_default() {
                    self.wish(session);
                }
            }
            self.see_to_waiting().await;
            // Dropping either loses nothing.
            tokio::select! {
                () = tokio::time::sleep(self.settings.health_interval) => {}
                () = self.sessions.doubt() => {}
            }
        }
    }

    /// What hinders the engine, one sentence each: servers that do not answer.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.sessions.away()
    }

    /// What operators should know though it hinders only some: sessions that are not `WORKING`.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.sessions.not_working()
    }

    /// Has the groups of a session looked at soon.
    fn wish(&self, session: SessionName) {
        self.book.wish(store::known_groups::KnownKey {
            session,
            group: None,
        });
    }

    /// An errand for a session; a command's requests are told apart by its trace.
    ///
    /// # Errors
    /// When the session lives nowhere, is known not to be `WORKING`, or its server answers as no WAHA
    /// does: what that says of a command is not WAHA's word, so nothing is refused by it.
    async fn errand<'a>(
        &'a self,
        session: &'a SessionName,
        call: Option<&'a Call>,
    ) -> Result<Errand<'a>, EngineError> {
        self.sessions.ready(session)?;
        let by = self.client.caller(session, call)?;
        let mut me = self.sessions.me(session);
        let server = &by.server.name;
        if me.is_empty() || !self.sessions.is_listed(server) {
            // What WAHA thinks of the session, its answer to the errand will tell.
            let asked = self.sessions.ask(&self.client, by.server).await;
            for session in asked.unwrap_or_default() {
                self.wish(session);
            }
            if let Some(message) = self.sessions.strange(server) {
                return Err(EngineError::NotReady {
                    message,
                    after: None,
                });
            }
            me = self.sessions.me(session);
        }
        Ok(Errand {
            client: &self.client,
            book: &self.book,
            lids: &self.lids,
            by,
            me,
        })
    }

    async fn change(&self, errand: &Errand<'_>, call: &Call) -> Result<Executed, EngineError> {
        let Call { id, session, .. } = call;
        self.book
            .expect(session, id, &call.command)
            .await
            .map_err(own)?;
        let begun = self.book.now();
        if let Command::CreateGroup(wanted) = &call.command {
            let making = Making::new(id.clone(), wanted, begun);
            let written = self.book.making_begins(session, making).await;
            written.map_err(own)?;
        }
        match self.run(errand, call).await {
            Ok(done) => {
                let effect = Effect::new(&done.result, Vec::new());
                self.tell(call, &errand.me, begun, done).await;
                effect.map(Executed::Done)
            }
            Err(error) => {
                let disposition = error.disposition();
                if disposition == Disposition::Reject {
                    let give_up = || self.book.give_up(session, id, &call.command);
                    note(self.store.through_outages(give_up).await);
                }
                let creates = matches!(call.command, Command::CreateGroup(_));
                if creates && disposition != Disposition::Unknown {
                    let failed = || self.book.making_failed(session, id);
                    note(self.store.through_outages(failed).await);
                }
                Err(error)
            }
        }
    }

    /// Carries out a command. A refusal counts only where WAHA refuses: whatever answers at an address at
    /// which nobody lists sessions as WAHA does has not been shown to be WAHA.
    async fn run(&self, errand: &Errand<'_>, call: &Call) -> Result<Done, EngineError> {
        let server = &errand.by.server.name;
        match errand.run(call).await {
            Err(error)
                if error.disposition() == Disposition::Reject
                    && !self.sessions.is_listed(server) =>
            {
                Err(EngineError::Unavailable {
                    message: format!(
                        "the server {server} does not list its sessions, so this need not be WAHA's \
                         word: {error}; is engine.waha.url right?"
                    ),
                    source: None,
                })
            }
            run => run,
        }
    }

    /// Tells what a command has changed. It is done by then, so this waits for the store, and a
    /// failure is no failure of the command.
    async fn tell(&self, call: &Call, me: &[ParticipantId], begun: i64, done: Done) {
        let Some(group) = done.group else {
            return;
        };
        let report = Report {
            source: Source::Command(call.id.clone()),
            at: begun,
            heard: begun,
            now: self.book.now(),
            me: me.to_vec(),
            author: None,
            claims: done.claims,
            trace: call.context.trace.headers().collect(),
        };
        let hear = || self.hear(&call.session, &group, &report);
        note(self.store.through_outages(hear).await);
        let give_up = || self.book.give_up(&call.session, &call.id, &call.command);
        note(self.store.through_outages(give_up).await);
    }

    async fn hear(
        &self,
        session: &SessionName,
        group: &GroupId,
        report: &Report,
    ) -> Result<(), store::Error> {
        let heard = self.book.hear(session, group, None, report.clone()).await;
        heard.map(drop)
    }
}

/// What could not be kept is told; the command is done all the same.
fn note(kept: Result<(), store::Error>) {
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
        let errand = self.errand(&call.session, Some(call)).await?;
        match call.command.command_type().repeat() {
            Repeat::ReadOnly => {
                let done = self.run(&errand, call).await?;
                Effect::new(&done.result, Vec::new()).map(Executed::Done)
            }
            Repeat::Harmless | Repeat::Harmful => self.change(&errand, call).await,
        }
    }

    async fn find(&self, call: &Call, begun: Begun) -> Result<Found, EngineError> {
        let Command::CreateGroup(wanted) = &call.command else {
            return Ok(Found::Unclear);
        };
        let errand = self.errand(&call.session, Some(call)).await?;
        let searching = Searching {
            errand: &errand,
            command: &call.id,
            wanted,
            begun,
            settle: self.settings.settle,
            clock: &*self.clock,
        };
        Ok(match searching.run().await? {
            Search::Nothing => Found::NotSeen,
            Search::Unclear => Found::Unclear,
            Search::Found(seen) => {
                let done = errand.made(wanted, *seen, Vec::new()).await?;
                let effect = Effect::new(&done.result, Vec::new())?;
                let begun = begun.first.0.as_millisecond();
                self.tell(call, &errand.me, begun, done).await;
                Found::Effect(effect)
            }
        })
    }

    async fn check(&self) -> Result<String, EngineError> {
        for server in self.client.servers() {
            self.sessions.ask(&self.client, server).await?;
        }
        Ok(format!("WAHA; {}", self.sessions.summary()))
    }
}

/// Our own store failed before anything was asked of WAHA.
fn own(error: store::Error) -> EngineError {
    EngineError::Internal {
        message: error.to_string(),
        source: Box::new(error),
    }
}

/// The least that is waited between two looks for something.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
