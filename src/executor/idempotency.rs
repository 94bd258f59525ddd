//! One effect per command.
//!
//! `started` is recorded before the engine is called and `done` after it. A command that is found `started`
//! is another worker's, or its outcome is unknown: then it is repeated if that is harmless; otherwise the
//! engine is asked for its effect, and if the engine does not know it, the answer is that the outcome is in
//! doubt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::clock::Clock;
use crate::contract::{Command, Event, Repeat, Timestamp};
use crate::engines::{Call, Disposition, Effect, EngineError, Found};
use crate::observability::events;
use crate::store::Store;
use crate::store::ledger::{Claim, Key, Ledger, Record, Starts};
use crate::store::workers::Workers;

use super::Failure;
use super::ensure::{self, Ensure, Parts};
use super::guard::Guarded;
use super::webhooks::Webhooks;

/// The wait before checking again whether another worker is still executing the command.
const BUSY: Duration = Duration::from_millis(500);

/// The maximum number of starts of a command that must not be repeated and whose outcome is unknown: a
/// search that finds nothing may be wrong, and each start may have had its effect.
const BEGINNINGS: u32 = 2;

/// The age of the records of a command in parts from which they are renewed, so that they are not purged while
/// it goes on.
const RENEWED_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// The owner of a started command that no worker is executing; no worker has this name.
const NOBODY: &str = "";

/// What came of a command.
#[derive(Debug)]
pub(super) enum Executed {
    /// It is done, or was refused.
    Done {
        record: Record,
        /// The record existed already; nothing was done now.
        replayed: bool,
    },
    /// The ledger knows this id with another fingerprint; nothing was done.
    Reused,
}

/// Executes commands through the ledger.
#[derive(Debug)]
pub(super) struct Idempotency {
    engine: Arc<Guarded>,
    webhooks: Webhooks,
    store: Store,
    ledger: Ledger,
    workers: Workers,
    clock: Arc<dyn Clock>,
    locks: KeyedLocks,
}

impl Idempotency {
    pub(super) fn new(engine: Arc<Guarded>, store: Store, clock: Arc<dyn Clock>) -> Self {
        let (ledger, workers) = (store.ledger(), store.workers());
        let webhooks = Webhooks::new(store.endpoints());
        Self {
            engine,
            webhooks,
            store,
            ledger,
            workers,
            clock,
            locks: KeyedLocks::default(),
        }
    }

    /// Executes a command, or returns its recorded outcome.
    pub(super) async fn carry_out(&self, call: &Call) -> Result<Executed, Failure> {
        let key = call.key();
        let _turn = self.locks.wait(&key).await;
        let me = self.workers.me();
        // Only the start of an effect is fenced. A command that has been started is this worker's to finish
        // and record: while it lives, no other worker touches the command.
        let ledger = self.ledger.under(call.context.fence.clone());
        let begun = Instant::now();
        let claim = ledger.claim(key.clone(), call.fingerprint, me).await?;
        events::stage_passed(events::Stage::Ledger, begun.elapsed());
        match claim {
            Claim::New => self.perform(key, call).await,
            Claim::Done(record) => Ok(replay(record)),
            Claim::Reused => Ok(Executed::Reused),
            // In a box like all that is rare, so that the future of each command in flight need not have room for it.
            Claim::Started { owner, starts } => {
                Box::pin(async {
                    self.take_over(&ledger, &key, &owner).await?;
                    self.resolve(key, call, starts).await
                })
                .await
            }
        }
    }

    /// Finds the outcome of a command that may no longer be started; none if nothing was done.
    pub(super) async fn look_up(&self, call: &Call) -> Result<Option<Executed>, Failure> {
        if is_in_parts(call)
            && let Some((first, _)) = ensure::steps(call).next()
            && self.noted(&first).await?.is_some()
        {
            // Some of its parts are done. It began in time, so it goes on.
            return self.carry_out(call).await.map(Some);
        }
        let key = call.key();
        let _turn = self.locks.wait(&key).await;
        let ledger = self.ledger.under(call.context.fence.clone());
        let executed = match ledger.peek(key.clone(), call.fingerprint).await? {
            Claim::New => return Ok(None),
            Claim::Done(record) => replay(record),
            Claim::Reused => Executed::Reused,
            Claim::Started { owner, starts } => {
                self.take_over(&ledger, &key, &owner).await?;
                if is_in_parts(call) {
                    // No part of it was noted, so nothing was done.
                    self.release(&key).await?;
                    return Ok(None);
                }
                let Some(effect) = self.find(call, starts).await? else {
                    self.release(&key).await?;
                    return Ok(None);
                };
                self.done(key, effect).await?
            }
        };
        Ok(Some(executed))
    }

    /// Leaves a command that this worker may have started to the worker that gets it next, and its part
    /// that may have been started.
    pub(super) async fn leave(&self, call: &Call) {
        if is_in_parts(call) {
            let mut last = None;
            for (note, part) in ensure::steps(call) {
                if !self.is_noted(&note).await {
                    break;
                }
                last = Some(part.key());
            }
            if let Some(last) = last {
                self.leave_key(last).await;
            }
        }
        self.leave_key(call.key()).await;
    }

    /// Whether a value was noted, however long the store takes to say so.
    async fn is_noted(&self, call: &Call) -> bool {
        let peek = || self.ledger.peek(call.key(), call.fingerprint);
        match self.store.through_outages(peek).await {
            Ok(claim) => matches!(claim, Claim::Done(_)),
            Err(error) => {
                events::store_refused(&error);
                false
            }
        }
    }

    /// Keeps what a command in parts has recorded for as long as the command goes on.
    async fn keep(&self, part: &Call, recorded: Timestamp) -> Result<(), Failure> {
        let age = self.now().0.duration_since(recorded.0);
        if age > RENEWED_AFTER {
            let ledger = self.ledger.under(part.context.fence.clone());
            ledger.keep(part.key()).await?;
        }
        Ok(())
    }

    async fn leave_key(&self, key: Key) {
        // If it has come back to this worker meanwhile, it is this worker's until that is over.
        let _turn = self.locks.wait(&key).await;
        let leave = || {
            self.ledger
                .take_over(key.clone(), self.workers.me(), NOBODY)
        };
        if let Err(error) = self.store.through_outages(leave).await {
            events::store_refused(&error);
        }
    }

    /// Takes over a started command, unless another worker is executing it.
    async fn take_over(&self, ledger: &Ledger, key: &Key, owner: &str) -> Result<(), Failure> {
        let me = self.workers.me();
        // This worker's own, and not being executed: an attempt whose outcome is unknown.
        if owner == me {
            return Ok(());
        }
        if self.workers.is_alive(owner).await? || !ledger.take_over(key.clone(), owner, me).await? {
            return Err(Failure::Busy(BUSY));
        }
        Ok(())
    }

    async fn release(&self, key: &Key) -> Result<(), Failure> {
        let release = || self.ledger.release(key.clone(), self.workers.me());
        Ok(self.store.through_outages(release).await?)
    }

    /// Executes a command that changes nothing: it is not recorded.
    pub(super) async fn read(&self, call: &Call) -> Result<Executed, Failure> {
        let effect = self.execute(call).await?;
        Ok(Executed::Done {
            record: self.record_of(effect),
            replayed: false,
        })
    }

    /// Executes a command by its kind, without the ledger.
    async fn execute(&self, call: &Call) -> Result<Effect, Failure> {
        if let Command::EnsureGroup(wanted) = &call.command {
            let ensure = Ensure {
                parts: self,
                call,
                wanted,
            };
            return Box::pin(ensure.run()).await;
        }
        let executed = if call.command.about().is_webhooks() {
            Box::pin(self.webhooks.execute(call)).await
        } else {
            self.engine.execute(call).await
        };
        Ok(executed?)
    }

    /// Decides about a command of which only the start is recorded.
    async fn resolve(&self, key: Key, call: &Call, starts: Starts) -> Result<Executed, Failure> {
        match call.command.command_type().repeat() {
            Repeat::ReadOnly | Repeat::Harmless => self.perform(key, call).await,
            Repeat::Harmful => {
                if let Some(effect) = self.find(call, starts).await? {
                    return self.done(key, effect).await;
                }
                // Recorded before the request is sent, so that the command's next owner knows of it.
                self.ledger.restart(key.clone(), self.workers.me()).await?;
                self.perform(key, call).await
            }
        }
    }

    /// Asks the engine for the effect of a command; none if it may be started (again).
    async fn find(&self, call: &Call, starts: Starts) -> Result<Option<Effect>, Failure> {
        if call.command.about().is_webhooks() {
            // No engine executed it.
            return Err(Failure::InDoubt);
        }
        let found = self.engine.engine().find(call, starts).await;
        match found.map_err(Failure::Searching)? {
            Found::Effect(effect) => Ok(Some(effect)),
            Found::Nothing => Ok(None),
            Found::NotSeen if starts.times < BEGINNINGS => Ok(None),
            Found::NotSeen | Found::Unclear => Err(Failure::InDoubt),
        }
    }

    async fn perform(&self, key: Key, call: &Call) -> Result<Executed, Failure> {
        match self.execute(call).await {
            Ok(effect) => self.done(key, effect).await,
            Err(Failure::Refused { error, events }) => {
                Box::pin(self.refused(key, error, events)).await
            }
            Err(Failure::Engine(error)) => {
                match error.disposition() {
                    // Some of its parts may be done.
                    Disposition::Retry { .. } if is_in_parts(call) => {}
                    // Nothing was done, and the next attempt starts afresh.
                    Disposition::Retry { .. } => Box::pin(self.release(&key)).await?,
                    Disposition::Reject => {
                        return Box::pin(self.refused(key, error, Vec::new())).await;
                    }
                    // `started` stays, for the next attempt.
                    Disposition::Unknown => {}
                }
                Err(error.into())
            }
            // `started` stays here too: a part of it was interrupted.
            Err(failure) => Err(failure),
        }
    }

    async fn done(&self, key: Key, effect: Effect) -> Result<Executed, Failure> {
        self.record(key, self.record_of(effect)).await
    }

    /// A refusal is an answer too, and is replayed when the command is redelivered.
    async fn refused(
        &self,
        key: Key,
        error: EngineError,
        events: Vec<Event>,
    ) -> Result<Executed, Failure> {
        let outcome = Err(super::deferral::error_body(&error));
        self.record(
            key,
            Record {
                outcome,
                events,
                at: self.now(),
            },
        )
        .await
    }

    async fn record(&self, key: Key, record: Record) -> Result<Executed, Failure> {
        // Only this process knows the effect, so it waits here until the store is available. If another
        // worker has recorded an outcome meanwhile, the first record stands.
        let complete = || self.ledger.complete(key.clone(), record.clone());
        let begun = Instant::now();
        let earlier = self.store.through_outages(complete).await?;
        events::stage_passed(events::Stage::Ledger, begun.elapsed());
        let replayed = earlier.is_some();
        Ok(Executed::Done {
            record: earlier.unwrap_or(record),
            replayed,
        })
    }

    fn record_of(&self, effect: Effect) -> Record {
        Record {
            outcome: Ok(effect.result),
            events: effect.events,
            at: self.now(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }
}

#[async_trait]
impl Parts for Idempotency {
    fn engine(&self) -> &Guarded {
        &self.engine
    }

    async fn carry_out_part(&self, part: &Call) -> Result<Record, Failure> {
        match self.carry_out(part).await? {
            Executed::Done { record, replayed } => {
                if replayed {
                    self.keep(part, record.at).await?;
                }
                Ok(record)
            }
            // The same id was used for another command before this one.
            Executed::Reused => Err(Failure::InDoubt),
        }
    }

    async fn noted(&self, call: &Call) -> Result<Option<Box<RawValue>>, Failure> {
        let ledger = self.ledger.under(call.context.fence.clone());
        match ledger.peek(call.key(), call.fingerprint).await? {
            Claim::Done(record) => {
                self.keep(call, record.at).await?;
                Ok(record.outcome.ok())
            }
            Claim::New | Claim::Started { .. } => Ok(None),
            // The same id was used for another command before this one.
            Claim::Reused => Err(Failure::InDoubt),
        }
    }

    async fn note(&self, call: &Call, value: Box<RawValue>) -> Result<Box<RawValue>, Failure> {
        let ledger = self.ledger.under(call.context.fence.clone());
        let me = self.workers.me();
        if let Claim::Reused = ledger.claim(call.key(), call.fingerprint, me).await? {
            return Err(Failure::InDoubt);
        }
        let record = Record {
            outcome: Ok(value.clone()),
            events: Vec::new(),
            at: self.now(),
        };
        let earlier = ledger.complete(call.key(), record).await?;
        Ok(earlier.and_then(|it| it.outcome.ok()).unwrap_or(value))
    }
}

/// Whether a command is carried out in parts, each with a record of its own.
const fn is_in_parts(call: &Call) -> bool {
    matches!(call.command, Command::EnsureGroup(_))
}

const fn replay(record: Record) -> Executed {
    Executed::Done {
        record,
        replayed: true,
    }
}

/// The commands that this process is executing: one delivery of each at a time.
#[derive(Debug, Default)]
struct KeyedLocks(Mutex<HashMap<Key, Arc<AsyncMutex<()>>>>);

/// The lock for one delivery, until dropped.
struct Turn<'a> {
    locks: &'a KeyedLocks,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyedLocks {
    async fn wait(&self, key: &Key) -> Turn<'_> {
        let turn = {
            let mut locks = self.0.lock();
            Arc::clone(locks.entry(key.clone()).or_default())
        };
        Turn {
            locks: self,
            key: key.clone(),
            guard: Some(turn.lock_owned().await),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard.take();
        let mut locks = self.locks.0.lock();
        // Each waiter holds another reference.
        if locks
            .get(&self.key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            locks.remove(&self.key);
        }
    }
}
