//! Errors of the broker connection, distinguished by AMQP's reply codes; by the text only where one code has
//! two meanings (`topology::unopened`).

use std::time::Duration;

use futures_util::stream::{Stream, StreamExt};
use lapin::{ErrorKind, Event, protocol::AMQPErrorKind};

use super::link::sanitize::broker::Broker;
use super::link::sanitize::stream::TlsFailure;

/// The longest wait for the reason why a channel was closed; it has already arrived.
const REASON_WITHIN: Duration = Duration::from_secs(5);

/// AMQP's reply code for connections that the broker or its operator closes.
const CONNECTION_FORCED: u16 = 320;

/// Why a connection, or a request to the broker, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The url or the TLS files cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The broker refuses, and would refuse again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The broker is older than the oldest supported version.
    #[error("the broker is {0}; RabbitMQ 3.10 or newer is needed")]
    TooOld(Broker),
    /// The broker cannot distribute commands over several queues.
    #[error(
        "the broker has no exchanges of the type x-modulus-hash, which spread commands over more than \
         one shard (topology.shards): enable the plugin rabbitmq_sharding on each of its nodes with \
         `rabbitmq-plugins enable rabbitmq_sharding`, or set topology.shards = 1"
    )]
    NoSharding,
    /// The number of command queues on the broker differs from the configuration.
    #[error(
        "the broker has {found} command queues ({prefix}.commands.*) than topology.shards = {wanted}: \
         sessions would move to another queue, and their commands would lose their order. Set \
         topology.shards to the number on the broker, or stop the workers and run `groupmq topology reshard`"
    )]
    OtherShards {
        /// The prefix of every name.
        prefix: String,
        /// `more` or `fewer`.
        found: &'static str,
        /// The configured number of shards.
        wanted: u16,
    },
    /// The number of command queues is being changed.
    #[error(
        "the number of shards of {0} is being changed, or the change was interrupted: let `groupmq \
         topology reshard` finish, and run it again if it is not running"
    )]
    Resharding(String),
    /// Parts of the topology are missing, and this process may not declare them.
    #[error(
        "not on the broker (404): {}. Run `groupmq topology apply`, or set topology.mode = \"declare\"",
        .0.join(", ")
    )]
    Missing(Vec<String>),
    /// Parts of the topology are missing that a process with another role declares.
    #[error(
        "not on the broker (404): {}. A process with the role commands declares it again with all its \
         bindings, and so does `groupmq topology apply`",
        .0.join(", ")
    )]
    Awaited(Vec<String>),
    /// The broker has a queue that it cannot open: the queue is damaged, or its node is down.
    #[error(
        "the broker has the queue {queue} but cannot open it ({code}): {text}. Its node is down, or it \
         is damaged: see the broker's log, and GroupmqBrokerUnsteady in the runbook",
        code = .why.code, text = .why.text
    )]
    Unopened {
        /// The queue's name.
        queue: String,
        /// The broker's reply code and text.
        why: Refusal,
    },
    /// The queues of webhook endpoints cannot be bound.
    #[error("the queues of webhook endpoints cannot be bound now: {0}")]
    NotBound(String),
    /// The commands on the broker were executed with another store.
    #[error(
        "this store ({own}) is not the one with which the commands of {prefix} were executed ({found}): it has \
         no record of them, and they would be executed a second time. Set store.url to that store; if it is \
         lost and this one replaces it, run `groupmq store adopt`"
    )]
    OtherStore {
        /// The prefix of every name.
        prefix: String,
        /// The beginning of this store's id.
        own: String,
        /// The beginning of the other store's id.
        found: String,
    },
    /// Another consumer takes messages from a queue that is to be moved.
    #[error(
        "another consumer takes messages from {0}: if another `groupmq topology reshard` is running, let it \
         finish; otherwise close that consumer, and run this again"
    )]
    Occupied(String),
    /// A message could not be moved to another queue.
    #[error(
        "the broker refuses the messages that are moved to {0}; they stay where they are. See the broker's \
         log for the reason (no room, or no majority of a queue's members), then run this again"
    )]
    NotMoved(String),
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
    /// The broker closed the connection over a message, which has been set aside.
    #[error("the broker closed the connection because of a message ({code}): {text}", code = .0.code, text = .0.text)]
    Provoked(Refusal),
    /// No connection, or it broke.
    #[error("the connection to the broker failed")]
    Lost(#[source] lapin::Error),
    /// No answer within the timeout.
    #[error("the broker did not answer within {0:?} ({1})")]
    TimedOut(Duration, &'static str),
    /// The broker has a resource alarm, in its own words.
    #[error(
        "the broker blocks publishing: {0}. It is short of memory or disk; nothing is lost, and nothing \
         is answered until it has more"
    )]
    Blocked(String),
    /// The broker keeps refusing messages.
    #[error("the broker has not taken a message for {0:?}; trying another connection")]
    NotTaken(Duration),
    /// The consumer ended without an error: its queue was deleted or moved.
    #[error("the broker ended the consumer of {0}; its queue was deleted or has moved")]
    ConsumerEnded(String),
}

impl Error {
    /// Whether it would happen again.
    pub(super) const fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Settings(_)
                | Self::Refused(_)
                | Self::Tls(_)
                | Self::TooOld(_)
                | Self::NoSharding
                | Self::OtherShards { .. }
                | Self::Resharding(_)
                | Self::Missing(_)
                | Self::OtherStore { .. }
        )
    }

    /// Whether it ends the connection even after everything had worked. Parts that are missing by then were
    /// deleted, and return, with their bindings, once a process declares them.
    pub(super) const fn outlasts_grace(&self) -> bool {
        self.is_lasting() && !matches!(self, Self::Missing(_))
    }

    /// The number of missing parts of the topology, as far as this error knows.
    pub(super) const fn missing(&self) -> usize {
        match self {
            Self::Missing(parts) | Self::Awaited(parts) => parts.len(),
            _ => 1,
        }
    }

    /// Whether nothing may be tried again, even after everything had worked.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::OtherStore { .. })
    }

    /// The broker's refusal, if it closed a channel or the connection because of a message or request: a
    /// lost connection or a broker that shuts down is not caused by either.
    pub(super) fn blame(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Lost(error) => match error.kind() {
                ErrorKind::ProtocolError(reply) if reply.get_id() != CONNECTION_FORCED => {
                    Some(Refusal {
                        code: reply.get_id(),
                        text: reply.get_message().to_string(),
                    })
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The same error after everything had worked, which makes it likely to work again. For example, the
    /// broker answers with 406 when a command takes longer than its `consumer_timeout`.
    #[must_use]
    pub fn while_serving(self) -> Self {
        match self {
            // Permissions are checked at each publish; a missing one does not come back by itself.
            Self::Refused(refusal) if refusal.code != 403 => {
                Self::Closed(refusal.code, refusal.text)
            }
            Self::Tls(error) => Self::Lost(error),
            other => other,
        }
    }
}

/// A refusal: its AMQP reply code, and advice.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the broker refuses ({code}): {text}. {advice}", advice = self.advice())]
pub struct Refusal {
    /// AMQP's reply code: 403, 404, 406, 530 and so on.
    pub code: u16,
    /// The broker's reply text.
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
                "Something that the configuration names does not exist: run `groupmq topology apply`, \
                 or set topology.mode = \"declare\""
            }
            406 => {
                "It exists with other arguments: `groupmq topology show` prints the expected ones; drain \
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
        // 320 (the broker shuts down) and 541 (internal error) are temporary; see AMQP 0-9-1, reply codes.
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

/// Why the broker closed a channel or the connection. A request that is made just afterwards learns only
/// that the channel is closed; the reason is reported to the event listener of the connection.
pub(super) async fn why_closed(
    error: Error,
    notices: &mut (impl Stream<Item = Event> + Unpin),
) -> Error {
    let is_after = |error: &lapin::Error| {
        matches!(
            error.kind(),
            ErrorKind::InvalidChannelState(..)
                | ErrorKind::InvalidConnectionState(..)
                | ErrorKind::InvalidChannel(..)
        )
    };
    if !matches!(&error, Error::Lost(error) if is_after(error)) {
        return error;
    }
    let reason = async {
        while let Some(notice) = notices.next().await {
            if let Event::Error(reason) = notice
                && !is_after(&reason)
            {
                return Some(reason);
            }
        }
        None
    };
    let reason = tokio::time::timeout(REASON_WITHIN, reason).await;
    reason.ok().flatten().map_or(error, Error::from)
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPHardError, AMQPSoftError};

    use super::*;

    fn closed(kind: impl Into<AMQPErrorKind>) -> Error {
        let error = AMQPError::new(kind.into(), "words".into());
        lapin::Error::from(ErrorKind::ProtocolError(error)).into()
    }

    #[test]
    fn what_the_broker_closes_a_link_for_is_something_that_it_was_sent() {
        for error in [
            closed(AMQPSoftError::NOTFOUND),
            closed(AMQPSoftError::PRECONDITIONFAILED),
            closed(AMQPSoftError::ACCESSREFUSED),
            closed(AMQPHardError::FRAMEERROR),
            closed(AMQPHardError::INTERNALERROR),
        ] {
            let blame = error.blame().unwrap();
            assert_eq!(blame.text, "words", "{error}");
        }
        let code = |error: Error| error.blame().map(|it| it.code);
        assert_eq!(code(closed(AMQPHardError::INTERNALERROR)), Some(541));
        assert_eq!(code(closed(AMQPSoftError::PRECONDITIONFAILED)), Some(406));
    }

    #[test]
    fn a_broker_that_stops_or_is_gone_or_silent_blames_nothing() {
        let gone = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let gone = lapin::Error::from(ErrorKind::IOError(std::sync::Arc::new(gone)));
        for error in [
            closed(AMQPHardError::CONNECTIONFORCED),
            gone.into(),
            lapin::Error::from(ErrorKind::MissingHeartbeatError).into(),
            Error::TimedOut(Duration::from_secs(30), "confirming a message"),
            Error::NotTaken(Duration::from_secs(3)),
        ] {
            assert!(error.blame().is_none(), "{error}");
        }
    }
}
