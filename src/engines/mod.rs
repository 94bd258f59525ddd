//! Engines: what talks to WhatsApp, and the verdict that each of their errors carries.
//!
//! The executor knows this trait alone. An engine knows nothing of queues, retries or replies.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::{RawValue, to_raw_value};

use crate::contract::{
    Command, CommandId, CommandResult, EngineName, ErrorCode, Event, SessionName,
};
use crate::observability::trace::Trace;
use crate::store;
use crate::store::ledger::{Begun, Record};
use crate::store::shards::Fence;

pub mod sandbox;
pub mod waha;

/// A command on its way to an engine.
#[derive(Debug, Clone)]
pub struct Call {
    /// The command's id, unique within the session.
    pub id: CommandId,
    /// The account that is to do it.
    pub session: SessionName,
    /// What to do.
    pub command: Command,
    /// SHA-256 of type and canonical payload: the same id with another one is refused.
    pub fingerprint: [u8; 32],
    /// What it is done under.
    pub context: Context,
}

impl Call {
    /// The same as a part of what is done there.
    #[must_use]
    pub fn within(&self, trace: &Trace) -> Self {
        let mut call = self.clone();
        call.context.trace = trace.clone();
        call
    }
}

/// What a command is done under, beside what it says itself.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The worker's right to the command queue that it came over; effects in the store need it.
    pub fence: Option<Fence>,
    /// The trace that it belongs to.
    pub trace: Trace,
}

/// What a command came to, and the events it caused, in the order they happened.
#[derive(Debug, Clone)]
pub struct Effect {
    /// The `result` of the reply, as JSON.
    pub result: Box<RawValue>,
    /// What happened in the group.
    pub events: Vec<Event>,
}

impl Effect {
    /// An effect with this result.
    ///
    /// # Errors
    /// When the result cannot be written as JSON, which is a fault in the contract's types.
    pub fn new(result: &CommandResult, events: Vec<Event>) -> Result<Self, EngineError> {
        let result = to_raw_value(result).map_err(|error| EngineError::Refused {
            code: ErrorCode::Internal,
            message: format!("the result cannot be written as JSON: {error}"),
        })?;
        Ok(Self { result, events })
    }
}

/// How an engine answers.
#[derive(Debug)]
pub enum Executed {
    /// Done. Recording it is the caller's business.
    Done(Effect),
    /// Done and recorded in one transaction, now or (`replayed`) when the command came before.
    Recorded {
        /// What came of it; a refusal is recorded too.
        record: Record,
        /// The record was there already; nothing was done now.
        replayed: bool,
    },
    /// The ledger knows this id with another fingerprint; nothing was done.
    Reused,
}

/// What an engine knows of a command whose end nobody saw.
#[derive(Debug)]
pub enum Found {
    /// It took effect; this is what it came to.
    Effect(Effect),
    /// It did not take effect, for certain.
    Nothing,
    /// No effect shows where it would have to. What the engine sees may be wrong or old all the same.
    NotSeen,
    /// The engine cannot tell.
    Unclear,
}

/// What talks to WhatsApp.
#[async_trait]
pub trait Engine: Send + Sync + std::fmt::Debug + 'static {
    /// The engine's name in replies and events.
    fn name(&self) -> EngineName;

    /// Whether effects and ledger records are one transaction (see [`Executed::Recorded`]).
    ///
    /// Where they are not, the caller records `started` before and `done` after.
    fn keeps_ledger(&self) -> bool {
        false
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// When WhatsApp refused, could not be reached, or may or may not have done it.
    ///
    /// # Cancellation
    /// Dropping the future leaves it open whether the command took effect.
    async fn execute(&self, call: &Call) -> Result<Executed, EngineError>;

    /// Looks for what a command may have done whose end nobody saw.
    ///
    /// Asked only for commands that must not be repeated: a `CreateGroup` looks for the group.
    ///
    /// # Errors
    /// When the engine cannot be asked now.
    async fn find(&self, call: &Call, begun: Begun) -> Result<Found, EngineError>;

    /// Tells whether the engine can work at all, and how it stands in a sentence; for `doctor`.
    ///
    /// # Errors
    /// The reason why it cannot, and what to do.
    async fn check(&self) -> Result<String, EngineError>;
}

/// Why an engine did not do a command.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// WhatsApp or the engine refused; asking again changes nothing.
    #[error("{message}")]
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, and what to do, for people.
        message: String,
    },
    /// The session is not connected; the command was not begun.
    #[error("{message}")]
    NotReady {
        /// Why, and what to do, for people.
        message: String,
        /// When to look again, where the engine says so.
        after: Option<Duration>,
    },
    /// WhatsApp has restricted or banned the session's account; the command was not begun, and others
    /// of the session had better not be.
    #[error("{message}")]
    Restricted {
        /// Why, and what to do, for people.
        message: String,
        /// For how long, where WhatsApp says so.
        after: Option<Duration>,
    },
    /// WhatsApp asks for patience; the command was not begun.
    #[error("{message}")]
    RateLimited {
        /// What was exceeded.
        message: String,
        /// When to try again, where WhatsApp says so.
        after: Option<Duration>,
    },
    /// The engine could not be reached, or failed before it began.
    #[error("{message}")]
    Unavailable {
        /// What failed.
        message: String,
        /// The failure underneath.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Something of our own failed, the store mostly; the command was not begun, or its effect is
    /// recorded. It is no fault of the engine and must not cost the command its attempts.
    #[error("{message}")]
    Internal {
        /// What failed.
        message: String,
        /// The failure underneath.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request went out and no answer came: it may have taken effect.
    #[error("{message}")]
    NoAnswer {
        /// What was seen last.
        message: String,
    },
    /// The engine answered that it failed by itself. Waiting seldom helps: a fault of this kind lasts
    /// until somebody mends or updates the engine.
    #[error("{message}")]
    Failing {
        /// What it said.
        message: String,
        /// Whether it may have taken effect all the same.
        is_open: bool,
    },
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing was done; try again, not before the time given.
    Retry {
        /// The engine's own wish; the retry policy decides where there is none.
        after: Option<Duration>,
    },
    /// Nothing was done, and nothing would be the next time.
    Reject,
    /// It may have been done: never repeat it blindly.
    Unknown,
}

impl EngineError {
    /// What to do after this error.
    #[must_use]
    pub const fn disposition(&self) -> Disposition {
        match self {
            Self::Refused { .. } => Disposition::Reject,
            Self::NotReady { after, .. }
            | Self::Restricted { after, .. }
            | Self::RateLimited { after, .. } => Disposition::Retry { after: *after },
            Self::Unavailable { .. }
            | Self::Internal { .. }
            | Self::Failing { is_open: false, .. } => Disposition::Retry { after: None },
            Self::NoAnswer { .. } | Self::Failing { is_open: true, .. } => Disposition::Unknown,
        }
    }

    /// Whether waiting seldom helps, so that it is tried a few times and not for hours.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Failing { .. })
    }

    /// Whether WhatsApp, or what stands between it and us, was asked and has answered.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Restricted { .. }
            | Self::RateLimited { .. }
            | Self::Failing { .. } => true,
            Self::Unavailable { source, .. } => source.is_none(),
            Self::NotReady { .. } | Self::Internal { .. } | Self::NoAnswer { .. } => false,
        }
    }

    /// Whether it counts against the limit of attempts: waiting for a session, for patience that
    /// WhatsApp asks for, or for our own store, does not.
    #[must_use]
    pub const fn counts_as_attempt(&self) -> bool {
        match self {
            Self::NotReady { .. }
            | Self::Restricted { .. }
            | Self::RateLimited { .. }
            | Self::Internal { .. } => false,
            Self::Refused { .. }
            | Self::Unavailable { .. }
            | Self::NoAnswer { .. }
            | Self::Failing { .. } => true,
        }
    }

    /// Whether our own store cannot be used: a matter of waiting, whatever the command.
    #[must_use]
    pub fn is_store_outage(&self) -> bool {
        match self {
            Self::Internal { source, .. } => {
                source.downcast_ref().is_some_and(store::Error::is_outage)
            }
            _ => false,
        }
    }

    /// Whether another worker has taken over, so that the command is its business now.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Internal { source, .. } => {
                source.downcast_ref().is_some_and(store::Error::is_fenced)
            }
            _ => false,
        }
    }

    /// The code of the error reply, once nothing more is tried.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::NotReady { .. } | Self::Restricted { .. } => ErrorCode::SessionNotReady,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::Unavailable { .. } | Self::Failing { is_open: false, .. } => {
                ErrorCode::EngineUnavailable
            }
            Self::Internal { .. } => ErrorCode::Internal,
            Self::NoAnswer { .. } | Self::Failing { is_open: true, .. } => ErrorCode::InDoubt,
        }
    }
}
