//! Why a command was not executed, and whether it is deferred for that or answered with an error.
//!
//! How long it is deferred is decided by `worker::defer`, which publishes it to a delay queue.

use std::time::Duration;

use crate::config;
use crate::contract::{ErrorBody, ErrorCode, ErrorDetail, Event, Timestamp};
use crate::engines::{Disposition, EngineError};
use crate::store;

use super::Interrupted;

/// The maximum number of deferrals for a lasting failure: the engine may recover, and if it does not,
/// waiting for hours with the group's other commands does not help.
const LASTING_DEFERRALS: u32 = 2;

/// How a command is deferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferral {
    /// The minimum delay, if the server or an account sets one.
    pub after: Option<Duration>,
    /// The engine failed: this counts against the limit of attempts.
    pub counts: bool,
    /// The failure is lasting: few attempts are enough.
    pub lasts: bool,
    /// The cause.
    pub cause: ErrorBody,
}

/// The history of a command's deferrals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryState {
    /// The number of deferrals because the engine failed.
    pub attempts: u32,
    /// When it was first received.
    pub first_seen: Timestamp,
    /// The cause of the last deferral.
    pub cause: Option<Cause>,
}

/// Why a command was not executed, as it is kept while the command is deferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// For programs.
    pub code: ErrorCode,
    /// The last failure in words; empty if they were not kept.
    pub words: String,
}

impl Cause {
    /// The cause that corresponds to an error.
    #[must_use]
    pub fn of(error: &ErrorBody) -> Self {
        Self {
            code: error.code,
            words: error.message.clone(),
        }
    }
}

/// Why a command was not executed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Refused, after parts of it had caused these events.
    #[error("{error}")]
    Refused {
        #[source]
        error: EngineError,
        events: Vec<Event>,
    },
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The engine could not be asked for the command's effect.
    #[error("{0}")]
    Searching(#[source] EngineError),
    #[error("another worker is executing this command")]
    Busy(Duration),
    #[error("the group is not yet as wanted; this goes on")]
    Unfinished,
    #[error("it is not known whether the command took effect; look, then decide")]
    InDoubt,
    #[error("{}", .0.message)]
    TooLate(ErrorBody),
}

impl Failure {
    /// The interruption, if the failure says nothing about the command itself.
    pub(super) fn interruption(&self) -> Option<Interrupted> {
        let (outage, fenced) = match self {
            Self::Engine(error) | Self::Searching(error) => {
                (error.is_store_outage(), error.is_fenced())
            }
            Self::Store(error) => (error.is_outage(), error.is_fenced()),
            Self::Refused { .. }
            | Self::Busy(_)
            | Self::Unfinished
            | Self::InDoubt
            | Self::TooLate(_) => (false, false),
        };
        match (outage, fenced) {
            (true, _) => Some(Interrupted::Outage),
            (_, true) => Some(Interrupted::Fenced),
            _ => None,
        }
    }
}

/// Whether a failure is temporary (a deferral) or final (an error); `last` is the previous one.
pub(super) fn judge(failure: &Failure, last: Option<&Cause>) -> Result<Deferral, ErrorBody> {
    let deferral = |after, counts, cause| {
        Ok(Deferral {
            after,
            counts,
            lasts: false,
            cause,
        })
    };
    match failure {
        Failure::Engine(error) | Failure::Refused { error, .. } => judge_engine(error),
        // It was started, and its outcome is still unknown.
        Failure::Searching(error) => {
            let cause = ErrorBody::new(ErrorCode::InDoubt, error.to_string());
            match judge_engine(error) {
                Ok(deferral) => Ok(Deferral { cause, ..deferral }),
                Err(_) => Err(in_doubt(Some(&Cause::of(&cause)))),
            }
        }
        Failure::Busy(after) => {
            let cause = ErrorBody::new(ErrorCode::EngineUnavailable, failure.to_string());
            deferral(Some(*after), false, cause)
        }
        Failure::Unfinished => {
            let cause = ErrorBody::new(ErrorCode::RateLimited, failure.to_string());
            deferral(None, false, cause)
        }
        // The store is our own; a command must not fail because of its outage.
        Failure::Store(error) => {
            let cause = ErrorBody::new(ErrorCode::Internal, error.to_string());
            deferral(None, false, cause)
        }
        Failure::InDoubt => Err(in_doubt(last)),
        Failure::TooLate(error) => Err(error.clone()),
    }
}

fn judge_engine(error: &EngineError) -> Result<Deferral, ErrorBody> {
    let after = match error.disposition() {
        Disposition::Reject => return Err(error_body(error)),
        Disposition::Retry { after } => after,
        // The ledger has it as started: the next attempt checks what happened before it does anything.
        Disposition::Unknown => None,
    };
    Ok(Deferral {
        after,
        counts: error.counts_as_attempt(),
        lasts: error.is_lasting(),
        cause: error_body(error),
    })
}

/// Whether a command is not deferred any more: it is too old, or the engine has failed too often.
pub(super) fn is_over(
    deferral: &Deferral,
    retry_state: &RetryState,
    now: Timestamp,
    retry: &config::Retry,
) -> bool {
    let age = now.0.duration_since(retry_state.first_seen.0);
    let too_old = Duration::try_from(age).is_ok_and(|age| age >= retry.max_age);
    let most = if deferral.lasts {
        retry.attempts.min(LASTING_DEFERRALS)
    } else {
        retry.attempts
    };
    too_old || deferral.counts && retry_state.attempts >= most
}

/// Whether a read that fails like this is answered instead of deferred: the engine is away, not ready or
/// broken. Reads are still deferred for WhatsApp's rate limits and for internal errors.
pub(super) fn is_soon_answered(failure: &Failure) -> bool {
    let Failure::Engine(error) = failure else {
        return false;
    };
    match error {
        EngineError::NotReady { .. }
        | EngineError::Unavailable { .. }
        | EngineError::NoAnswer { .. }
        | EngineError::NotFetched { .. }
        | EngineError::Failing { .. } => true,
        EngineError::Refused { .. }
        | EngineError::InvalidField { .. }
        | EngineError::Restricted { .. }
        | EngineError::RateLimited { .. }
        | EngineError::Internal { .. } => false,
    }
}

pub(super) fn in_doubt(last: Option<&Cause>) -> ErrorBody {
    let message = format!("{}{}", Failure::InDoubt, what_failed(last));
    ErrorBody::new(ErrorCode::InDoubt, message)
}

/// The last failure, at the end of a sentence.
pub(super) fn what_failed(last: Option<&Cause>) -> String {
    match last {
        Some(last) if !last.words.is_empty() => format!(" (the last failure: {})", last.words),
        _ => String::new(),
    }
}

pub(super) fn error_body(error: &EngineError) -> ErrorBody {
    let body = ErrorBody::new(error.code(), error.to_string());
    let details = match error {
        EngineError::InvalidField { path, reason } => vec![ErrorDetail {
            path: (*path).to_owned(),
            reason: reason.clone(),
        }],
        _ => Vec::new(),
    };
    ErrorBody { details, ..body }
}
