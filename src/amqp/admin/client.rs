//! A producer and a listener, for the command line: one connection, no second try.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt};
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind, Event, ExchangeKind};

use crate::amqp::channel::{self, AckMode};
use crate::amqp::message::{Incoming, Outgoing};
use crate::amqp::properties::{incoming, short};
use crate::amqp::publish::probe::publish_nothing;
use crate::amqp::topology::standing;
use crate::amqp::{Error, Target, Topology};

/// How long the reason for a closed channel may take to become known: it has already arrived.
const REASON_WITHIN: Duration = Duration::from_secs(5);

/// A connection of its own for a few requests.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    channel: Channel,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The broker could not be reached, or refused.
    #[error(transparent)]
    Broker(#[from] Error),
    /// No queue took the command.
    #[error(
        "no queue takes what is published for {0}: is the topology there? \
         Start a worker, or run `groupmq topology apply`"
    )]
    Unroutable(String),
    /// The command is queued, but no answer came in time.
    #[error("no reply within {0:?}; the command is queued and will be executed all the same")]
    NoReply(Duration),
}

/// Calls, with one queue for all their replies.
#[derive(Debug)]
pub struct Caller<'a> {
    client: &'a Client,
    reply_to: String,
    replies: Tailed,
}

/// Messages that arrive on a queue of one's own.
#[derive(Debug)]
pub struct Tailed {
    queue: String,
    consumer: lapin::Consumer,
}

impl From<lapin::Error> for CallError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error.into())
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub async fn connect(target: &Target) -> Result<Self, Error> {
        let connection = target.connect("client", 0).await?;
        let channel = channel::confirming(&connection).await?;
        Ok(Self {
            connection,
            channel,
        })
    }

    /// Publishes a command and waits for its reply on a queue of its own.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, command: Outgoing, timeout: Duration) -> Result<Incoming, CallError> {
        self.caller().await?.call(command, timeout).await
    }

    /// Opens a queue for the replies to any number of calls, one after the other.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn caller(&self) -> Result<Caller<'_>, Error> {
        let reply_to = self.own_queue().await?;
        let replies = self.consume(&reply_to).await?;
        Ok(Caller {
            client: self,
            reply_to,
            replies,
        })
    }

    /// Publishes a command that must reach a queue.
    ///
    /// # Errors
    /// When the broker is lost, refuses, or no queue takes it.
    pub async fn publish(&self, command: &Outgoing) -> Result<(), CallError> {
        let mandatory = Outgoing {
            mandatory: true,
            ..command.clone()
        };
        let confirm = channel::publish(&self.channel, &mandatory).await?.await?;
        let accepted = confirm.is_ack() && confirm.take_message().is_none();
        accepted
            .then_some(())
            .ok_or_else(|| CallError::Unroutable(command.routing_key.clone()))
    }

    /// Listens to what is published to an exchange with keys of a pattern, from now on.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn tail(&self, exchange: &str, pattern: &str) -> Result<Tailed, Error> {
        let queue = self.own_queue().await?;
        self.bind(&queue, exchange, pattern).await?;
        self.consume(&queue).await
    }

    /// Binds anew what is listened on: a binding that is gone is seen by nobody.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn tail_on(
        &self,
        tailed: &Tailed,
        exchange: &str,
        pattern: &str,
    ) -> Result<(), Error> {
        self.bind(&tailed.queue, exchange, pattern).await
    }

    pub(in crate::amqp) async fn bind(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
    ) -> Result<(), Error> {
        let (queue, exchange, key) = (short(queue), short(exchange), short(key));
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let bound = self.channel.queue_bind(queue, exchange, key, options, none);
        Ok(bound.await?)
    }

    /// Creates what is missing on the broker, or looks for it, as the topology's mode says.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn ensure(&self, topology: &Topology) -> Result<(), Error> {
        topology.ensure(&self.connection).await
    }

    /// The same with what is bound at run time, whether it seems to be there or not; returns what of that
    /// could not be bound, and why.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn ensure_every_binding(&self, topology: &Topology) -> Result<Vec<String>, Error> {
        topology.ensure_every_binding(&self.connection).await
    }

    /// Creates what is missing but the command queues, what leads to them, and what is bound at run time.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn ensure_all_but_commands(&self, topology: &Topology) -> Result<(), Error> {
        topology.ensure_all_but_commands(&self.connection).await
    }

    /// Deletes the exchanges and queues of a topology, with whatever is in them: for demonstrations
    /// and tests, which use a prefix of their own.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn delete(&self, topology: &Topology) -> Result<(), Error> {
        topology.delete(&self.connection).await?;
        self.disown_store(topology.names()).await
    }

    /// How many messages wait in a queue, and how many consumers it has.
    ///
    /// # Errors
    /// When there is no such queue; the client cannot be used after that.
    pub async fn queue(&self, name: &str) -> Result<(u32, u32), Error> {
        let queue = standing(&self.channel, name).await?;
        Ok((queue.message_count(), queue.consumer_count()))
    }

    /// Whether this user may publish to an exchange: tried within a transaction that is taken back.
    ///
    /// # Errors
    /// When it may not, or the broker takes no messages now; the client itself stays usable in the first
    /// case.
    pub async fn may_publish(&self, exchange: &str) -> Result<(), Error> {
        let mut events = self.connection.events_listener();
        let channel = self.connection.create_channel().await?;
        channel.tx_select().await?;
        let mut noticed = pin!(notice(&mut events));
        // Blocked, it is not answered.
        let error = tokio::select! {
            biased;
            tried = publish_nothing(&channel, exchange) => match tried {
                Ok(()) => return Ok(channel.close(200, ShortString::default()).await?),
                Err(error) => error,
            },
            error = &mut noticed => return Err(error),
        };
        if !matches!(error.kind(), ErrorKind::InvalidChannelState(..)) {
            return Err(error.into());
        }
        let reason = tokio::time::timeout(REASON_WITHIN, noticed).await;
        Err(reason.unwrap_or_else(|_| error.into()))
    }

    /// Whether this user may consume a queue: tried in a way that cannot succeed, since a consumer
    /// might be sent what belongs to a worker. The broker looks at permissions before arguments.
    ///
    /// # Errors
    /// When it may not; the client itself stays usable.
    pub async fn may_consume(&self, queue: &str) -> Result<(), Error> {
        let channel = self.connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-priority"), AMQPValue::LongString("none".into()));
        let options = BasicConsumeOptions::default();
        let consumed = channel
            .basic_consume(short(queue), ShortString::default(), options, arguments)
            .await
            .map_err(Error::from);
        match consumed {
            Err(Error::Refused(refusal)) if refusal.code == 406 => Ok(()),
            Err(error) => Err(error),
            // A broker that knows no priorities; the consumer goes with its channel.
            Ok(_) => Ok(channel.close(200, ShortString::default()).await?),
        }
    }

    /// Whether there is such an exchange.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn has_exchange(&self, name: &str) -> Result<bool, Error> {
        // A channel apart: the broker closes it when there is none. The type is not looked at.
        let channel = self.connection.create_channel().await?;
        let options = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let (name, none) = (short(name), FieldTable::default());
        let found = channel
            .exchange_declare(name, ExchangeKind::Topic, options, none)
            .await
            .map_err(Error::from);
        match found {
            Ok(()) => Ok(true),
            Err(Error::Refused(refusal)) if refusal.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        // The process ends soon; a broker that is slow to say goodbye need not delay that.
        let close = self.connection.close(200, ShortString::default());
        drop(tokio::time::timeout(Duration::from_secs(1), close).await);
    }

    pub(in crate::amqp) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The channel for publishing with confirms.
    pub(in crate::amqp) const fn publishing(&self) -> &Channel {
        &self.channel
    }

    /// A channel apart, which others cannot close by their mistakes.
    pub(in crate::amqp) async fn channel_of_its_own(&self) -> Result<Channel, Error> {
        Ok(self.connection.create_channel().await?)
    }

    pub(in crate::amqp) async fn own_queue(&self) -> Result<String, Error> {
        channel::own_queue(&self.channel).await
    }

    pub(in crate::amqp) async fn consume(&self, queue: &str) -> Result<Tailed, Error> {
        let consumer = channel::consume(&self.channel, queue, "", AckMode::Automatic).await?;
        let queue = queue.to_owned();
        Ok(Tailed { queue, consumer })
    }
}

/// What the broker tells of a connection: that it takes no messages over it, or why it closed a channel.
async fn notice(events: &mut (impl Stream<Item = Event> + Unpin)) -> Error {
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => return Error::Blocked(reason),
            // 406 is how `may_consume` ends, on a channel of its own.
            Event::Error(error) if !matches!(error.kind(), ErrorKind::ProtocolError(it) if it.get_id() == 406) =>
            {
                return error.into();
            }
            _ => {}
        }
    }
    pending().await
}

impl Caller<'_> {
    /// Publishes a command and waits for its reply, which is known by its correlation id.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &mut self,
        mut command: Outgoing,
        timeout: Duration,
    ) -> Result<Incoming, CallError> {
        let id = command.message_id.clone();
        command.reply_to = Some(self.reply_to.clone());
        command.correlation_id = Some(id.clone());
        // A broker that is short of memory takes nothing for a while.
        tokio::time::timeout(timeout, self.client.publish(&command))
            .await
            .map_err(|_| Error::TimedOut(timeout, "taking the command"))??;
        let answer = async {
            loop {
                let reply = self.replies.next().await?;
                // Another one is late: its call was given up.
                if reply.correlation_id.as_ref() == Some(&id) {
                    return Ok(reply);
                }
            }
        };
        tokio::time::timeout(timeout, answer)
            .await
            .unwrap_or(Err(CallError::NoReply(timeout)))
    }
}

impl Tailed {
    /// The next message.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn next(&mut self) -> Result<Incoming, Error> {
        match self.consumer.next().await {
            Some(delivery) => Ok(incoming(delivery?)),
            None => Err(Error::ConsumerEnded("a queue of our own".to_owned())),
        }
    }
}
