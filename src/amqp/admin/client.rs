//! A producer and a consumer for the command line: one connection, without reconnecting.

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

/// The longest wait for the reason why a channel was closed; it has already arrived.
const REASON_WITHIN: Duration = Duration::from_secs(5);

/// A separate connection for a few requests.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    channel: Channel,
}

/// Why a call has no reply.
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

/// Calls that share one reply queue.
#[derive(Debug)]
pub struct Caller<'a> {
    client: &'a Client,
    reply_to: String,
    replies: Tailed,
}

/// Messages that arrive on a queue of this connection.
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

    /// Publishes a command and waits for its reply on a new reply queue.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, command: Outgoing, timeout: Duration) -> Result<Incoming, CallError> {
        self.caller().await?.call(command, timeout).await
    }

    /// Opens a reply queue for any number of consecutive calls.
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

    /// Publishes a command as mandatory.
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

    /// Consumes what is published to an exchange from now on with keys that match a pattern.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn tail(&self, exchange: &str, pattern: &str) -> Result<Tailed, Error> {
        let queue = self.own_queue().await?;
        self.bind(&queue, exchange, pattern).await?;
        self.consume(&queue).await
    }

    /// Binds the queue again, since the loss of a binding cannot be observed.
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

    /// Creates or checks the topology, as its mode says.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn ensure(&self, topology: &Topology) -> Result<(), Error> {
        topology.ensure(&self.connection).await
    }

    /// The same, and declares every run-time binding whether or not it seems to exist. Returns the bindings
    /// that failed, with the reason.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn ensure_every_binding(&self, topology: &Topology) -> Result<Vec<String>, Error> {
        topology.ensure_every_binding(&self.connection).await
    }

    /// Creates what is missing, except the command queues, their bindings and the run-time bindings.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn ensure_all_but_commands(&self, topology: &Topology) -> Result<(), Error> {
        topology.ensure_all_but_commands(&self.connection).await
    }

    /// Deletes the exchanges and queues of a topology with their messages: for demonstrations and tests,
    /// which use a separate prefix.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn delete(&self, topology: &Topology) -> Result<(), Error> {
        topology.delete(&self.connection).await?;
        self.disown_store(topology.names()).await
    }

    /// The number of ready messages and of consumers of a queue.
    ///
    /// # Errors
    /// When the queue does not exist; the client cannot be used after that.
    pub async fn queue(&self, name: &str) -> Result<(u32, u32), Error> {
        let queue = standing(&self.channel, name).await?;
        Ok((queue.message_count(), queue.consumer_count()))
    }

    /// Checks whether this user may publish to an exchange, with a transaction that is rolled back.
    ///
    /// # Errors
    /// When the user may not (the client stays usable), or the broker blocks publishing.
    pub async fn may_publish(&self, exchange: &str) -> Result<(), Error> {
        let mut events = self.connection.events_listener();
        let channel = self.connection.create_channel().await?;
        channel.tx_select().await?;
        let mut noticed = pin!(notice(&mut events));
        // A blocked connection gets no answer.
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

    /// Checks whether this user may consume a queue, with a request that cannot succeed: a real consumer
    /// could be sent deliveries that belong to a worker. The broker checks permissions before arguments.
    ///
    /// # Errors
    /// When the user may not; the client stays usable.
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
            // A broker without consumer priorities accepted the request; the consumer ends with its
            // channel.
            Ok(_) => Ok(channel.close(200, ShortString::default()).await?),
        }
    }

    /// Whether an exchange exists.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn has_exchange(&self, name: &str) -> Result<bool, Error> {
        // A separate channel, since the broker closes it when there is no such exchange. The type is not
        // compared.
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
        // The process ends soon; a broker that is slow to close the connection must not delay it.
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

    /// A separate channel, which errors on other channels cannot close.
    pub(in crate::amqp) async fn separate_channel(&self) -> Result<Channel, Error> {
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

/// Waits until the broker reports that it blocks publishing, or why it closed a channel.
async fn notice(events: &mut (impl Stream<Item = Event> + Unpin)) -> Error {
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => return Error::Blocked(reason),
            // Ignores 406, with which `may_consume` ends on its separate channel.
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
    /// Publishes a command and waits for the reply with its correlation id.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &mut self,
        command: Outgoing,
        timeout: Duration,
    ) -> Result<Incoming, CallError> {
        let id = command.message_id.clone();
        // A broker that is short of memory accepts nothing for a while.
        tokio::time::timeout(timeout, self.send(command))
            .await
            .map_err(|_| Error::TimedOut(timeout, "taking the command"))??;
        let answer = async {
            loop {
                let reply = self.next().await?;
                // Any other reply is late: its call timed out.
                if reply.correlation_id.as_ref() == Some(&id) {
                    return Ok(reply);
                }
            }
        };
        tokio::time::timeout(timeout, answer)
            .await
            .unwrap_or(Err(CallError::NoReply(timeout)))
    }

    /// Publishes a command whose reply [`Caller::next`] returns, with the command's id as its correlation id.
    ///
    /// # Errors
    /// When the broker is lost, refuses, or no queue takes it.
    pub async fn send(&self, mut command: Outgoing) -> Result<(), CallError> {
        command.reply_to = Some(self.reply_to.clone());
        command.correlation_id = Some(command.message_id.clone());
        self.client.publish(&command).await
    }

    /// The next reply to a command of this caller.
    ///
    /// # Errors
    /// When the connection is lost.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Incoming, Error> {
        self.replies.next().await
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
