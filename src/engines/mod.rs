//! Engines: the implementations that talk to WhatsApp, and what each of their errors means for a
//! command.
//!
//! The executor depends on this trait only. An engine knows nothing of queues, retries or replies.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::contract::{
    Command, CommandId, CommandResult, CommandType, EngineName, ErrorCode, Event, ParticipantId,
    SessionName,
};
use crate::observability::trace::Trace;
use crate::store;
use crate::store::ledger::{Key, Starts};
use crate::store::shards::Fence;

mod event_fields;
mod link_refusals;
pub mod pictures;
mod result_limit;
pub mod sandbox;
mod setting;
mod sync;
pub mod waha;

pub use result_limit::ResultLimit;
pub(crate) use setting::Setting;
pub use sync::comparable;

/// What an engine, or one of its servers, can execute: every command but these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// The engine or server, with its version if it has one.
    pub of: String,
    /// What it cannot execute.
    pub unsupported: Vec<Unsupported>,
}

/// A command that an engine cannot execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The command.
    pub command: CommandType,
    /// What it needs that the engine does not have.
    pub reason: String,
}

/// A command on its way to an engine.
#[derive(Debug, Clone)]
pub struct Call {
    /// The command's id, unique within the session.
    pub id: CommandId,
    /// The session whose account executes it.
    pub session: SessionName,
    /// The command.
    pub command: Command,
    /// SHA-256 of type and canonical payload: the same id with another one is refused.
    pub fingerprint: [u8; 32],
    /// The number of the part, if the command is executed in parts and this call is one of them.
    pub part: Option<u32>,
    /// The conditions under which it is executed.
    pub context: Context,
}

/// The namespace of the ids of parts (UUIDv5).
const PARTS: Uuid = Uuid::from_u128(0x4d0a_71b2_52f6_5e0b_8b7e_6a1c_93d5_0f28);

impl Call {
    /// The key of its effect: a part has one of its own, while its events name the whole command.
    #[must_use]
    pub fn key(&self) -> Key {
        let command_id = match self.part {
            None => self.id.clone(),
            Some(part) => {
                let name = format!("{}\n{}\n{part}", self.session, self.id);
                CommandId::from(Uuid::new_v5(&PARTS, name.as_bytes()))
            }
        };
        Key {
            session: self.session.clone(),
            command_id,
        }
    }

    /// The same call as a child span of the trace.
    #[must_use]
    pub fn within(&self, trace: &Trace) -> Self {
        let mut call = self.clone();
        call.context.trace = trace.clone();
        call
    }
}

/// The conditions under which a command is executed, in addition to its own content.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The worker's right to the command queue that delivered it; writes to the store need it.
    pub fence: Option<Fence>,
    /// The trace that it belongs to.
    pub trace: Trace,
}

/// The result of a command, and the events that it caused, in order.
#[derive(Debug, Clone)]
pub struct Effect {
    /// The `result` of the reply, as JSON.
    pub result: Box<RawValue>,
    /// The changes in the group.
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

/// What an engine knows of a command whose outcome is unknown.
#[derive(Debug)]
pub enum Found {
    /// It took effect, with this result.
    Effect(Effect),
    /// It certainly did not take effect.
    Nothing,
    /// No effect is visible where it should be. What the engine sees may still be wrong or old.
    NotSeen,
    /// The engine cannot determine it.
    Unclear,
}

/// An implementation that talks to WhatsApp.
#[async_trait]
pub trait Engine: Send + Sync + std::fmt::Debug + 'static {
    /// The engine's name in replies and events.
    fn name(&self) -> EngineName;

    /// Executes a command.
    ///
    /// # Errors
    /// When WhatsApp refused, could not be reached, or may or may not have done it.
    ///
    /// # Cancellation
    /// After dropping the future it is unknown whether the command took effect.
    async fn execute(&self, call: &Call) -> Result<Effect, EngineError>;

    /// The ids of the account that executes a call, the phone first if it is known.
    ///
    /// # Errors
    /// When there is no such session, or the engine is not available now.
    async fn account(&self, call: &Call) -> Result<Vec<ParticipantId>, EngineError>;

    /// Searches for the effect of a command whose outcome is unknown.
    ///
    /// Called for commands that must not be repeated, and for those that may no longer be started.
    ///
    /// # Errors
    /// When the engine is not available now.
    async fn find(&self, call: &Call, starts: Starts) -> Result<Found, EngineError>;

    /// Checks whether the engine can work at all and describes its state in a sentence; for `doctor`.
    ///
    /// # Errors
    /// The reason why it cannot, and what to do.
    async fn check(&self) -> Result<String, EngineError>;

    /// The commands that it can execute, for each of its servers; for `doctor`.
    ///
    /// # Errors
    /// When a server does not describe itself.
    async fn abilities(&self) -> Result<Vec<Abilities>, EngineError> {
        Ok(vec![Abilities {
            of: self.name().as_str().to_owned(),
            unsupported: Vec::new(),
        }])
    }
}

/// Why an engine did not do a command.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// WhatsApp or the engine refused; a repetition changes nothing.
    #[error("{message}")]
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, and what to do, for people.
        message: String,
    },
    /// A field of the command turned out to be wrong when the command was executed; a repetition changes
    /// nothing.
    #[error("{path} {reason}")]
    InvalidField {
        /// A JSON pointer into the command.
        path: &'static str,
        /// What is wrong there, and what would be right.
        reason: String,
    },
    /// The session is not connected; the command was not started.
    #[error("{message}")]
    NotReady {
        /// Why, and what to do, for people.
        message: String,
        /// When to check again, if the engine says so.
        after: Option<Duration>,
    },
    /// WhatsApp has restricted or banned the session's account; the command was not started, and the
    /// session's other commands should not be.
    #[error("{message}")]
    Restricted {
        /// Why, and what to do, for people.
        message: String,
        /// For how long, if WhatsApp says so.
        after: Option<Duration>,
    },
    /// WhatsApp limits the request rate; the command was not started.
    #[error("{message}")]
    RateLimited {
        /// What was exceeded.
        message: String,
        /// When to try again, if WhatsApp says so.
        after: Option<Duration>,
    },
    /// The engine could not be reached, or failed before it started the command.
    #[error("{message}")]
    Unavailable {
        /// What failed.
        message: String,
        /// The underlying failure.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A part of this process failed, mostly the store; the command was not started. It is no fault of
    /// the engine and must not cost the command an attempt.
    #[error("{message}")]
    Internal {
        /// What failed.
        message: String,
        /// The underlying failure.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The request was sent and no answer came: it may have taken effect.
    #[error("{message}")]
    NoAnswer {
        /// The last observation.
        message: String,
    },
    /// The engine reported an internal failure. Waiting seldom helps: such a failure lasts until an
    /// operator repairs or updates the engine.
    #[error("{message}")]
    Failing {
        /// The engine's message.
        message: String,
        /// Whether the command may have taken effect nevertheless.
        is_open: bool,
    },
    /// What the command names on a server of somebody else's could not be fetched. Neither the engine nor
    /// WhatsApp was asked. Waiting seldom helps: the server may never come back.
    #[error("{message}")]
    NotFetched {
        /// What failed.
        message: String,
    },
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing was done; try again, not before the given time.
    Retry {
        /// The delay that the engine asks for; without one the retry policy decides.
        after: Option<Duration>,
    },
    /// Nothing was done, and a repetition would do nothing.
    Reject,
    /// It may have been done: never repeat it blindly.
    Unknown,
}

impl EngineError {
    /// What to do after this error.
    #[must_use]
    pub const fn disposition(&self) -> Disposition {
        match self {
            Self::Refused { .. } | Self::InvalidField { .. } => Disposition::Reject,
            Self::NotReady { after, .. }
            | Self::Restricted { after, .. }
            | Self::RateLimited { after, .. } => Disposition::Retry { after: *after },
            Self::Unavailable { .. }
            | Self::Internal { .. }
            | Self::NotFetched { .. }
            | Self::Failing { is_open: false, .. } => Disposition::Retry { after: None },
            Self::NoAnswer { .. } | Self::Failing { is_open: true, .. } => Disposition::Unknown,
        }
    }

    /// Whether waiting seldom helps, so that it is retried a few times and not for hours.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Failing { .. } | Self::NotFetched { .. })
    }

    /// Whether WhatsApp, or a server between it and us, has answered the request.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Restricted { .. }
            | Self::RateLimited { .. }
            | Self::Failing { .. } => true,
            Self::Unavailable { source, .. } => source.is_none(),
            Self::InvalidField { .. }
            | Self::NotReady { .. }
            | Self::Internal { .. }
            | Self::NotFetched { .. }
            | Self::NoAnswer { .. } => false,
        }
    }

    /// Whether it counts against the limit of attempts. Waiting for a session, for WhatsApp's rate
    /// limit or for our own store does not.
    #[must_use]
    pub const fn counts_as_attempt(&self) -> bool {
        match self {
            Self::NotReady { .. }
            | Self::Restricted { .. }
            | Self::RateLimited { .. }
            | Self::Internal { .. } => false,
            Self::Refused { .. }
            | Self::InvalidField { .. }
            | Self::Unavailable { .. }
            | Self::NoAnswer { .. }
            | Self::NotFetched { .. }
            | Self::Failing { .. } => true,
        }
    }

    /// Whether our own store is unavailable: any command has to wait.
    #[must_use]
    pub fn is_store_outage(&self) -> bool {
        match self {
            Self::Internal { source, .. } => {
                source.downcast_ref().is_some_and(store::Error::is_outage)
            }
            _ => false,
        }
    }

    /// Whether another worker has taken over, so that the command belongs to that worker now.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Internal { source, .. } => {
                source.downcast_ref().is_some_and(store::Error::is_fenced)
            }
            _ => false,
        }
    }

    /// The code of the error reply once no further attempt is made.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::InvalidField { .. } => ErrorCode::InvalidPayload,
            Self::NotReady { .. } | Self::Restricted { .. } => ErrorCode::SessionNotReady,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::Unavailable { .. }
            | Self::NotFetched { .. }
            | Self::Failing { is_open: false, .. } => ErrorCode::EngineUnavailable,
            Self::Internal { .. } => ErrorCode::Internal,
            Self::NoAnswer { .. } | Self::Failing { is_open: true, .. } => ErrorCode::InDoubt,
        }
    }
}
