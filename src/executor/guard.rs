//! The only access to the engine: within its account's limits and a time limit; a panic becomes an error
//! with its text.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use crate::engines::{Call, Effect, Engine, EngineError};
use crate::observability::describe::panic_text;
use crate::observability::events;
use crate::observability::trace::SpanKind;
use crate::store::shards::Fence;

use super::accounts::Accounts;

/// An engine whose panics do not end the process, and whose calls are limited.
#[derive(Debug)]
pub(super) struct Guarded {
    engine: Arc<dyn Engine>,
    accounts: Accounts,
    timeout: Duration,
}

impl Guarded {
    pub(super) const fn new(
        engine: Arc<dyn Engine>,
        accounts: Accounts,
        timeout: Duration,
    ) -> Self {
        Self {
            engine,
            accounts,
            timeout,
        }
    }

    /// The engine itself, for calls that need no guard.
    pub(super) fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// The account's limits.
    pub(super) const fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The time limit for one command.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Lets the engine execute a command.
    pub(super) async fn execute(&self, call: &Call) -> Result<Effect, EngineError> {
        self.accounts.admit(&call.session, &call.command)?;
        let begun = Instant::now();
        let mut span = call.context.trace.span(SpanKind::Internal, "execute");
        if span.is_recorded() {
            span.rename(format!("execute {}", call.command.command_type().as_str()));
            span.set("groupmq.engine", self.engine.name().as_str());
        }
        // The engine's requests are children of this span.
        let within = span.is_recorded().then(|| call.within(span.trace()));
        let answer = self.answer(within.as_ref().unwrap_or(call)).await;
        if let Err(error) = &answer {
            span.fail(error.code().as_str());
        }
        drop(span);
        events::stage_passed(events::Stage::Engine, begun.elapsed());
        let queue = call.context.fence.as_ref().map(Fence::queue);
        self.accounts
            .learn(&call.session, queue, &call.command, &answer);
        answer
    }

    /// Forgets the accounts whose queues this worker no longer owns.
    pub(super) fn keep_accounts(&self, has: impl Fn(&str) -> bool) {
        self.accounts.keep(has);
    }

    async fn answer(&self, call: &Call) -> Result<Effect, EngineError> {
        let timeout = self.timeout;
        let calling = AssertUnwindSafe(self.engine.execute(call)).catch_unwind();
        match tokio::time::timeout(timeout, calling).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => {
                let text = panic_text(panic.as_ref());
                events::engine_panicked(call.command.command_type().as_str(), text);
                Err(EngineError::NoAnswer {
                    message: format!("the engine panicked: {text}"),
                })
            }
            Err(_) => Err(EngineError::NoAnswer {
                message: format!("the engine did not answer within {timeout:?} (executor.timeout)"),
            }),
        }
    }
}
