//! What can go wrong between us and the broker, by AMQP's own codes and never by text.

use std::time::Duration;

use lapin::{ErrorKind, protocol::AMQPErrorKind};

use super::stream::TlsFailure;

/// Why a link, or something asked of the broker, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The url or the TLS files cannot be used at all.
    #[error("{0}")]
    Settings(String),
    /// The broker refuses, and would refuse again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// TLS failed, and would fail again.
    #[error(
        "TLS with the broker failed. Check amqp.tls: ca_file must hold the authority that signed the \
         broker's certificate, whose name must be the host in amqp.url; some brokers ask for \
         certificate_file and key_file; the port must be one for TLS"
    )]
    Tls(#[source] lapin::Error),
    /// The broker closed a channel that had worked; it may work again.
    #[error("the broker closed the channel ({0}): {1}")]
    Closed(u16, String),
    /// No connection, or it broke.
    #[error("the connection to the broker failed")]
    Lost(#[source] lapin::Error),
    /// No answer within the time given.
    #[error("the broker did not answer within {0:?} ({1})")]
    TimedOut(Duration, &'static str),
    /// The consumer ended without an error: its queue was deleted or moved.
    #[error("the broker ended the consumer of {0}; its queue was deleted or has moved")]
    ConsumerEnded(String),
}

impl Error {
    /// Whether it would happen again.
    pub(super) const fn is_lasting(&self) -> bool {
        matches!(self, Self::Settings(_) | Self::Refused(_) | Self::Tls(_))
    }

    /// The same, after everything had worked: no reason to believe that it will not work again. A
    /// command that takes longer than the broker's `consumer_timeout` is answered with 406, say.
    pub(super) fn while_serving(self) -> Self {
        match self {
            // Permissions are looked at when something is published; they do not come by themselves.
            Self::Refused(refusal) if refusal.code != 403 => {
                Self::Closed(refusal.code, refusal.text)
            }
            Self::Tls(error) => Self::Lost(error),
            other => other,
        }
    }
}

/// A refusal with its AMQP reply code, and what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the broker refuses ({code}): {text}. {advice}", advice = self.advice())]
pub struct Refusal {
    /// AMQP's reply code: 403, 404, 406, 530 and so on.
    pub code: u16,
    /// The broker's own words.
    pub text: String,
}

impl Refusal {
    fn advice(&self) -> &'static str {
        match self.code {
            403 => {
                "Check user and password in amqp.url, and the user's permissions \
                 (configure, write, read, and topic permissions) on the virtual host"
            }
            404 => {
                "Something that the configuration names is not there: run `groupmq topology apply`, \
                 or set topology.mode = \"declare\""
            }
            406 => {
                "It exists with other arguments: `groupmq topology show` says what is wanted; drain \
                 and delete the old one, or choose another topology.prefix"
            }
            530 => "Check the virtual host at the end of amqp.url: / is written %2f",
            _ => "See the broker's log",
        }
    }
}

impl From<lapin::Error> for Error {
    fn from(error: lapin::Error) -> Self {
        let reply = match error.kind() {
            ErrorKind::ProtocolError(reply) => reply,
            ErrorKind::IOError(io)
                if io
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<TlsFailure>) =>
            {
                return Self::Tls(error);
            }
            _ => return Self::Lost(error),
        };
        // 320 (a broker that stops) and 541 (one in trouble) pass; see AMQP 0-9-1, reply codes.
        let lasting = matches!(reply.get_id(), 402 | 403 | 404 | 405 | 406 | 530 | 540);
        if lasting || matches!(reply.kind(), AMQPErrorKind::Soft(_)) {
            Self::Refused(Refusal {
                code: reply.get_id(),
                text: reply.get_message().to_string(),
            })
        } else {
            Self::Lost(error)
        }
    }
}
