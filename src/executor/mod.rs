//! The executor: from a message's bytes to its verdict. It does not use the broker.
//!
//! [`Executor::admit`] decodes a message; [`Executor::run`] executes a command on the engine, with short
//! retries, and returns an answer or a deferral. The caller turns that into publications and an
//! acknowledgement. `deferral` decides between the two after a failure. [`lanes`] keeps the order within a group.

mod accounts;
pub mod decode;
mod deferral;
mod ensure;
mod guard;
mod idempotency;
pub mod lanes;
mod outcome;
mod short_retries;
#[cfg(test)]
mod tests;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::contract::{Command, ErrorBody, ErrorCode, Repeat, Timestamp};
use crate::engines::{Call, Context, Engine, ResultLimit};
use crate::observability::events;
use crate::store::Store;

use accounts::Accounts;
use deferral::{Failure, in_doubt, is_soon_answered, what_failed};
use guard::Guarded;
use idempotency::{Executed, Idempotency};
use short_retries::ShortRetries;

pub use decode::{Accepted, Decoder, RawCommand, Rejected};
pub use deferral::{Cause, Deferral, RetryState};
pub use outcome::{CommandIdentity, CommandOutcome};

/// What to do with a command now.
#[derive(Debug)]
pub enum Verdict {
    /// It has its final answer, a success or an error.
    Answered(Box<CommandOutcome>),
    /// It cannot be executed now and has to be deferred.
    Deferred(Deferral),
}

impl Verdict {
    /// Whether the ledger may have the command as started.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Answered(outcome) => {
                let error = outcome.reply.error.as_ref();
                error.is_some_and(|error| error.code == ErrorCode::InDoubt)
            }
            Self::Deferred(_) => true,
        }
    }
}

/// Why there is no verdict about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// It is to be run again when the outage is over.
    #[error("the store cannot be used")]
    Outage,
    /// Another worker owns its queue now; the broker delivers it there.
    #[error("another worker has taken the command queue over")]
    Fenced,
}

/// Executes commands on one engine, a bounded number at a time.
#[derive(Debug)]
pub struct Executor {
    engine: Arc<Guarded>,
    idempotency: Idempotency,
    decoder: Decoder,
    clock: Arc<dyn Clock>,
    permits: Semaphore,
    retry: config::Retry,
    result_limit: ResultLimit,
}

impl Executor {
    /// An executor as configured, with a store.
    #[must_use]
    pub fn new(
        engine: Arc<dyn Engine>,
        store: &Store,
        decoder: Decoder,
        clock: Arc<dyn Clock>,
        config: &Config,
    ) -> Self {
        let limited = config.safety.limits(&config.engine);
        let accounts = Accounts::new(&config.safety, limited);
        let engine = Arc::new(Guarded::new(engine, accounts, config.executor.timeout));
        let idempotency = Idempotency::new(Arc::clone(&engine), store.clone(), Arc::clone(&clock));
        Self {
            engine,
            idempotency,
            decoder,
            clock,
            permits: Semaphore::new(config.executor.concurrency),
            retry: config.retry,
            result_limit: ResultLimit::of_messages(config.amqp.message_max),
        }
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// With the outcome of a message that is not a valid command.
    pub fn admit(&self, incoming: &RawCommand<'_>) -> Result<Accepted, Box<CommandOutcome>> {
        self.decoder.decode(incoming).map_err(|rejected| {
            let subject = CommandIdentity::rejected(&rejected, incoming.body);
            Box::new(subject.refused(rejected.error, self.engine.engine().name(), self.now()))
        })
    }

    /// Executes a command, with short retries.
    ///
    /// # Errors
    /// When the store cannot be used, or another worker has taken over.
    ///
    /// # Cancellation
    /// Dropping the future leaves the command's outcome open; the ledger decides when it is redelivered.
    pub async fn run(
        &self,
        accepted: &Accepted,
        retry_state: &RetryState,
        context: &Context,
    ) -> Result<Verdict, Interrupted> {
        // Never closed: the semaphore lives as long as the executor.
        let _permit = self.permits.acquire().await;
        let begun = Instant::now();
        let reads = only_reads(accepted);
        let mut retries = self.short_retries(reads);
        let mut last = retry_state.cause.clone();
        loop {
            let late = self.too_late(accepted, last.as_ref());
            let is_late = late.is_some();
            let attempt = match late {
                Some(error) => Box::pin(self.look_up(accepted, context, error)).await,
                None => self.attempt(accepted, context).await,
            };
            let failure = match attempt {
                Ok(executed) => return Ok(self.answered(accepted, executed)),
                Err(failure) => failure,
            };
            if let Some(stalled) = failure.interruption() {
                return Err(stalled);
            }
            let deferral = match deferral::judge(&failure, last.as_ref()) {
                Ok(deferral) => deferral,
                Err(error) => return Ok(self.refuse(accepted, error)),
            };
            last = Some(Cause::of(&deferral.cause));
            // An attempt that took long is not repeated where a caller waits for a read, or where each attempt
            // does many parts.
            let limit = match accepted.command {
                Command::EnsureGroup(_) => self.engine.timeout(),
                _ if reads => self.retry.reads,
                _ => Duration::MAX,
            };
            let in_time = |wait: &Duration| begun.elapsed().saturating_add(*wait) <= limit;
            match retries.next(deferral.after).filter(in_time) {
                Some(wait) => {
                    events::command_retried();
                    tokio::time::sleep(wait).await;
                }
                // It was started, and there is no time left to wait until the engine knows its effect.
                None if is_late && matches!(failure, Failure::Searching(_)) => {
                    return Ok(self.refuse(accepted, in_doubt(last.as_ref())));
                }
                None if reads && is_soon_answered(&failure) => {
                    return Ok(self.refuse(accepted, deferral.cause));
                }
                None if deferral::is_over(&deferral, retry_state, self.now(), &self.retry) => {
                    return Ok(self.refuse(accepted, deferral.cause));
                }
                None => return Ok(Verdict::Deferred(deferral)),
            }
        }
    }

    /// Leaves a command to the worker that gets it next: one whose verdict is open, or one without a verdict
    /// with which the caller does not go on.
    ///
    /// Otherwise the next worker would wait for this one as long as it lives.
    pub async fn leave(&self, accepted: &Accepted) {
        let call = call(accepted, &Context::default());
        self.idempotency.leave(&call).await;
    }

    fn short_retries(&self, reads: bool) -> ShortRetries {
        let within = if reads {
            self.retry.reads
        } else {
            self.retry.within
        };
        ShortRetries::new(self.retry.first, within)
    }

    /// The answer to a command that may no longer be started.
    fn too_late(&self, accepted: &Accepted, last: Option<&Cause>) -> Option<ErrorBody> {
        let limit = accepted.expires_at?;
        if limit > self.now() {
            return None;
        }
        // What it waited for is more helpful than the expiry.
        let waiting = last
            .filter(|it| matches!(it.code, ErrorCode::SessionNotReady | ErrorCode::RateLimited));
        let (code, why) = match waiting {
            Some(waiting) => (
                waiting.code,
                "expiresAt passed while the command waited for its session",
            ),
            None => (
                ErrorCode::Expired,
                "expiresAt passed before the command could be executed",
            ),
        };
        Some(ErrorBody::new(
            code,
            format!(
                "{why}; send it again with a new id if it is still wanted{}",
                what_failed(last)
            ),
        ))
    }

    /// Forgets the accounts whose queues this worker no longer owns.
    pub fn keep_accounts(&self, has: impl Fn(&str) -> bool) {
        self.engine.keep_accounts(has);
    }

    /// Answers a command that may no longer be started but may have been: then with its outcome.
    async fn look_up(
        &self,
        accepted: &Accepted,
        context: &Context,
        late: ErrorBody,
    ) -> Result<Executed, Failure> {
        let known = if only_reads(accepted) {
            None
        } else {
            self.idempotency.look_up(&call(accepted, context)).await?
        };
        known.ok_or(Failure::TooLate(late))
    }

    async fn attempt(&self, accepted: &Accepted, context: &Context) -> Result<Executed, Failure> {
        let call = call(accepted, context);
        if only_reads(accepted) {
            self.idempotency.read(&call).await
        } else {
            self.idempotency.carry_out(&call).await
        }
    }

    fn answered(&self, accepted: &Accepted, executed: Executed) -> Verdict {
        let subject = CommandIdentity::accepted(accepted);
        let engine = self.engine.engine().name();
        let command = accepted.command.command_type();
        let fitting = |result| outcome::fitting(result, command, self.result_limit);
        let mut outcome = match executed {
            Executed::Done { record, replayed } => {
                let result = record.outcome.and_then(fitting);
                subject.done(result, record.events, replayed, engine, record.at)
            }
            Executed::Reused => {
                let error = ErrorBody::new(
                    ErrorCode::IdReused,
                    "this id was used before for a command with another type or payload; take a \
                     new id for a new command",
                );
                subject.refused(error, engine, self.now())
            }
        };
        if outcome.reply.error.is_none() {
            outcome.test = webhooks::test_event(accepted, outcome.reply.timestamp);
        }
        Verdict::Answered(Box::new(outcome))
    }

    fn refuse(&self, accepted: &Accepted, error: ErrorBody) -> Verdict {
        let subject = CommandIdentity::accepted(accepted);
        Verdict::Answered(Box::new(subject.refused(
            error,
            self.engine.engine().name(),
            self.now(),
        )))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }
}

fn call(accepted: &Accepted, context: &Context) -> Call {
    Call {
        id: accepted.id.clone(),
        session: accepted.session.clone(),
        command: accepted.command.clone(),
        fingerprint: accepted.fingerprint,
        part: None,
        context: context.clone(),
    }
}

fn only_reads(accepted: &Accepted) -> bool {
    accepted.command.command_type().repeat() == Repeat::ReadOnly
}
