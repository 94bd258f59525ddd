//! What can go wrong between us and the broker, by AMQP's own codes and not by text, but where one
//! code means two things (`topology::unopened`).

use std::time::Duration;

use futures_util::stream::{Stream, StreamExt};
use lapin::{ErrorKind, Event, protocol::AMQPErrorKind};

use super::link::sanitize::broker::Broker;
use super::link::sanitize::stream::TlsFailure;

/// How long the reason for a closed channel may take to become known: it has already arrived.
const REASON_WITHIN: Duration = Duration::from_secs(5);

/// AMQP's code for a broker, or its operator, that ends connections.
const CONNECTION_FORCED: u16 = 320;

/// Why a link, or something asked of the broker, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The url or the TLS files cannot be used at all.
    #[error("{0}")]
    Settings(String),
    /// The broker refuses, and would refuse again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The broker is older than any that would do.
    #[error("the broker is {0}; RabbitMQ 3.10 or newer is needed")]
    TooOld(Broker),
    /// The broker cannot spread commands over several queues.
    #[error(
        "the broker has no exchanges of the type x-modulus-hash, which spread commands over more than \
         one shard (topology.shards): enable the plugin rabbitmq_sharding on each of its nodes with \
         `rabbitmq-plugins enable rabbitmq_sharding`, or set topology.shards = 1"
    )]
    NoSharding,
    /// The command queues on the broker are other ones than those of the configuration.
    #[error(
        "the broker has {found} command queues ({prefix}.commands.*) than topology.shards = {wanted} asks \
         for: sessions would change their queue, and their commands the order. Set topology.shards to \
         what is there, or stop the workers and run `groupmq topology reshard`"
    )]
    OtherShards {
        /// What every name begins with.
        prefix: String,
        /// `more` or `fewer`.
        found: &'static str,
        /// How many there should be.
        wanted: u16,
    },
    /// The number of command queues is being changed.
    #[error(
        "the number of shards of {0} is being changed, or that was cut off: see `groupmq topology \
         reshard` to its end, by running it again if it is not running"
    )]
    Resharding(String),
    /// Parts of the topology are not there, and this process may not make them.
    #[error(
        "not on the broker (404): {}. Run `groupmq topology apply`, or set topology.mode = \"declare\"",
        .0.join(", ")
    )]
    Missing(Vec<String>),
    /// Parts of the topology are not there, and a process with another role makes them.
    #[error(
        "not on the broker (404): {}. A process with the role commands puts that back, with all that is \
         bound to it, and so does `groupmq topology apply`",
        .0.join(", ")
    )]
    Awaited(Vec<String>),
    /// The broker has a queue that it cannot open: it is damaged, or its node is down.
    #[error(
        "the broker has the queue {queue} but cannot open it ({code}): {text}. Its node is down, or it \
         is damaged: see the broker's log, and GroupmqBrokerUnsteady in the runbook",
        code = .why.code, text = .why.text
    )]
    Unopened {
        /// Its name.
        queue: String,
        /// The broker's code and words.
        why: Refusal,
    },
    /// The queues of webhook endpoints cannot be bound.
    #[error("the queues of webhook endpoints cannot be bound now: {0}")]
    NotBound(String),
    /// The commands on the broker were done with another store.
    #[error(
        "this store ({own}) is not the one that the commands of {prefix} were done with ({found}): it has no \
         record of them, and would have them done a second time. Set store.url to that store; if it is \
         lost and this one is to take its place, run `groupmq store adopt`"
    )]
    OtherStore {
        /// What every name begins with.
        prefix: String,
        /// The beginning of this store's id.
        own: String,
        /// The beginning of the other one's.
        found: String,
    },
    /// Somebody else takes messages from a queue that is to be moved.
    #[error(
        "somebody else takes messages from {0}: if another `groupmq topology reshard` is running, see it \
         to its end; otherwise close that consumer, and run this again"
    )]
    Occupied(String),
    /// A message could not be moved to another queue.
    #[error(
        "the broker refuses what is to be moved to {0}; it stays where it is. See the broker's log for what \
         a queue there lacks (room, or a majority of its members), then run this again"
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
    /// The broker closed the link over a message, which has been taken aside.
    #[error("the broker closed the link over a message ({code}): {text}", code = .0.code, text = .0.text)]
    Provoked(Refusal),
    /// No connection, or it broke.
    #[error("the connection to the broker failed")]
    Lost(#[source] lapin::Error),
    /// No answer within the time given.
    #[error("the broker did not answer within {0:?} ({1})")]
    TimedOut(Duration, &'static str),
    /// The broker has an alarm, in its own words.
    #[error(
        "the broker blocks publishing: {0}. It is short of memory or disk; nothing is lost, and nothing \
         is answered until it has more"
    )]
    Blocked(String),
    /// The broker keeps refusing messages.
    #[error("the broker has not taken a message for {0:?}; another connection may fare better")]
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

    /// Whether it ends the link although everything had worked. Parts that are missing by then were deleted,
    /// and come back, with whatever is bound to them, when somebody makes them.
    pub(super) const fn outlasts_grace(&self) -> bool {
        self.is_lasting() && !matches!(self, Self::Missing(_))
    }

    /// How many parts of the topology are missing, as far as this tells.
    pub(super) const fn missing(&self) -> usize {
        match self {
            Self::Missing(parts) | Self::Awaited(parts) => parts.len(),
            _ => 1,
        }
    }

    /// Whether nothing may be tried again, even where everything worked before.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::OtherStore { .. })
    }

    /// The broker's words, where it has closed a channel or the connection for something that it was
    /// sent: neither a lost connection nor a broker that stops is anything's fault.
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

    /// The same, after everything had worked: no reason to believe that it will not work again. A
    /// command that takes longer than the broker's `consumer_timeout` is answered with 406, say.
    #[must_use]
    pub fn while_serving(self) -> Self {
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

/// Why the broker closed a channel or the connection. A request that comes just after it did learns only
/// that the channel is closed; the reason is told to whoever listens to the connection.
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
