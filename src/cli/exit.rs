//! Exit codes, and the failures that cause them.

use std::process::ExitCode;
use std::time::Duration;

use crate::amqp;
use crate::config;
use crate::fanout;
use crate::store;

/// Shown at the end of `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  success
  1  failure; see the message
  2  invalid usage or configuration
  3  the reply is an error
  4  no reply within the timeout
  5  the broker cannot be reached or refuses
  6  stopped before all work was finished; the broker will redeliver it
  7  this store is not the one that the broker belongs to, or it was replaced while in use";

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    ErrorReply = 3,
    NoReply = 4,
    Broker = 5,
    Abandoned = 6,
    OtherStore = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Config(config::Error),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Broker(#[from] amqp::Error),
    #[error(transparent)]
    StoreReplaced(anyhow::Error),
    #[error("{0}")]
    Unroutable(String),
    #[error("no reply within {0:?}; the command is queued and will be executed once a worker runs")]
    NoReply(Duration),
    #[error("{0}")]
    NoWorker(String),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Failure {
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Usage(_) => Exit::Usage,
            Self::Broker(amqp::Error::OtherStore { .. }) | Self::StoreReplaced(_) => {
                Exit::OtherStore
            }
            Self::Broker(_) => Exit::Broker,
            Self::NoReply(_) | Self::NoWorker(_) => Exit::NoReply,
            Self::Unroutable(_) | Self::Other(_) => Exit::Failed,
        }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        Self::Other(anyhow::Error::new(error).context("the store cannot be used (store.url)"))
    }
}

impl From<fanout::Error> for Failure {
    fn from(error: fanout::Error) -> Self {
        match error {
            fanout::Error::Store(error) => error.into(),
            fanout::Error::Broker(error) => Self::Broker(error),
            error @ fanout::Error::Busy(_) => Self::Other(error.into()),
        }
    }
}

impl From<amqp::CallError> for Failure {
    fn from(error: amqp::CallError) -> Self {
        match error {
            amqp::CallError::Broker(error) => Self::Broker(error),
            amqp::CallError::NoReply(timeout) => Self::NoReply(timeout),
            error @ amqp::CallError::Unroutable(_) => Self::Unroutable(error.to_string()),
        }
    }
}
