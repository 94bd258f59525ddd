//! Changing the number of command queues: the steps on the broker.
//!
//! The order of the steps, which prevents loss and reordering, is decided in `reshard`. Each step may be
//! repeated.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::StreamExt;
use lapin::Channel;
use lapin::options::{
    BasicAckOptions, BasicPublishOptions, ExchangeBindOptions, ExchangeDeleteOptions,
    ExchangeUnbindOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use tokio::time::Instant;

use crate::amqp::channel::{AckMode, consume};
use crate::amqp::message::{Incoming, Outgoing};
use crate::amqp::properties::{incoming, outgoing, short};
use crate::amqp::topology::{ANY, ANY_SESSION, holding_queue, is_there};
use crate::amqp::{Client, Error, Names, Topology};

/// The minimum number of messages moved as one batch: published, confirmed, then acknowledged at the
/// source.
const BATCH_MIN: u16 = 200;

/// After this time without a delivery, the broker is asked whether the queue is empty.
const SILENCE: Duration = Duration::from_millis(500);

/// The longest wait until other consumers of a queue that is to be moved have ended: longer than the broker
/// needs to notice that a client is dead (two heartbeats; RabbitMQ's own interval is at most a minute).
const CONSUMERS_END_WITHIN: Duration = Duration::from_mins(2);
/// The number of times that messages are offered to a broker that refuses them.
const ATTEMPTS: usize = 50;
/// The interval between two queries for the consumers of a queue.
const POLL: Duration = Duration::from_millis(100);

/// Where commands are routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the queues of this number of shards.
    Shards(u16),
    /// To the holding queue.
    Held,
}

/// When draining a queue ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainMode {
    /// When it is empty; nothing arrives any more.
    Empty,
    /// When only recent messages are left; more keep arriving.
    NearlyEmpty,
}

/// Which commands are routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandSource {
    /// Commands that producers publish.
    New,
    /// Commands that return from a delay queue.
    Back,
}

/// Converts the messages that are moved, and records their progress.
pub trait Transfer {
    /// The error of the conversion.
    type Error: From<Error>;

    /// The message as it is published at its destination.
    fn change(&mut self, message: Incoming) -> Outgoing;

    /// Called when everything converted so far is confirmed at the destination and not yet acknowledged at
    /// the source.
    fn moved(&mut self) -> impl Future<Output = Result<(), Self::Error>>;
}

impl Client {
    /// The number of command queues on the broker.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn count_shards(&self, names: &Names) -> Result<u16, Error> {
        let mut count = 0;
        while self.is_there(&names.shard(count)).await? {
            count += 1;
        }
        Ok(count)
    }

    /// Whether a queue exists.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn is_there(&self, queue: &str) -> Result<bool, Error> {
        is_there(self.connection(), queue).await
    }

    /// Takes the lock for changing the shards, for as long as this connection lives: an exclusive queue,
    /// which the broker deletes when the connection ends.
    ///
    /// # Errors
    /// When another process keeps the lock, or the broker is lost or refuses.
    pub async fn lock_shards(&self, names: &Names) -> Result<(), Error> {
        const LOCKED: u16 = 405;
        let begun = Instant::now();
        let queue = names.resharding();
        loop {
            // A separate channel, since the broker closes it when another process has the queue.
            let channel = self.separate_channel().await?;
            let options = QueueDeclareOptions {
                exclusive: true,
                ..Default::default()
            };
            let none = FieldTable::default();
            let declared = channel.queue_declare(short(&queue), options, none);
            match declared.await.map_err(Error::from) {
                Err(Error::Refused(refusal)) if refusal.code == LOCKED => {}
                declared => return declared.map(drop),
            }
            if begun.elapsed() > CONSUMERS_END_WITHIN {
                return Err(Error::Occupied(queue));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Declares the queues that hold commands while the number of shards changes.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn declare_holding_queues(&self, names: &Names) -> Result<(), Error> {
        let channel = self.separate_channel().await?;
        for queue in [names.held(), names.collected()] {
            let options = QueueDeclareOptions {
                durable: true,
                ..Default::default()
            };
            channel
                .queue_declare(short(&queue), options, holding_queue())
                .await?;
        }
        Ok(())
    }

    /// Binds commands to another destination. The new binding is made before the old one is removed, so
    /// that no command is lost; some are routed to both.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn rebind(
        &self,
        names: &Names,
        source: CommandSource,
        from: Destination,
        to: Destination,
    ) -> Result<(), Error> {
        let channel = self.separate_channel().await?;
        let (source, key) = match source {
            CommandSource::New => (names.commands(), ANY),
            CommandSource::Back => (names.back(), ANY_SESSION),
        };
        bind(&channel, names, &source, key, to).await?;
        unbind(&channel, names, &source, key, from).await
    }

    /// Declares the queues of a topology's shards, bound only to the commands that return from delay
    /// queues; queues with a higher number are deleted, which must be empty.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn declare_shards(&self, topology: &Topology, before: u16) -> Result<(), Error> {
        let names = topology.names();
        let channel = self.separate_channel().await?;
        // An earlier attempt may have bound the shards already; commands without a binding go to the orphan
        // queue.
        bind(
            &channel,
            names,
            &names.back(),
            ANY_SESSION,
            Destination::Held,
        )
        .await?;
        // Deletes all of the exchange's bindings too.
        let options = ExchangeDeleteOptions::default();
        channel
            .exchange_delete(short(&names.shards()), options)
            .await?;
        for number in topology.shards()..before {
            let options = QueueDeleteOptions::default();
            channel
                .queue_delete(short(&names.shard(number)), options)
                .await?;
        }
        topology.ensure_closed_shards(&channel).await
    }

    /// Moves the messages of a queue in their order; returns their number. Each message is confirmed at its
    /// destination before it is acknowledged at the source.
    ///
    /// `prefetch` is the most that a worker takes from a queue. RabbitMQ 3 requeues the messages that a
    /// consumer returns behind those that earlier consumers returned: if this took fewer and was
    /// interrupted, the messages that it returned would end up behind the remaining ones that a worker had
    /// returned.
    ///
    /// # Errors
    /// When the broker is lost or refuses, another consumer keeps consuming the queue, or `transfer` fails.
    pub async fn transfer<P: Transfer>(
        &self,
        queue: &str,
        until: DrainMode,
        prefetch: u16,
        transfer: &mut P,
    ) -> Result<u64, P::Error> {
        let together = prefetch.max(BATCH_MIN);
        let mut moved = 0;
        self.count_without_consumers(queue).await?;
        loop {
            moved += self.transfer_once(queue, until, together, transfer).await?;
            // The broker counts neither our unacknowledged messages nor those in flight to us as ready;
            // once the queue has no consumers, all of them are counted again.
            let left = self.count_without_consumers(queue).await?;
            if left == 0 || until == DrainMode::NearlyEmpty && left < together.into() {
                return Ok(moved);
            }
        }
    }

    /// Moves messages until none has arrived for a while, or until few are left where that is enough.
    async fn transfer_once<P: Transfer>(
        &self,
        queue: &str,
        until: DrainMode,
        together: u16,
        transfer: &mut P,
    ) -> Result<u64, P::Error> {
        let channel = self.separate_channel().await?;
        let mode = AckMode::Manual { prefetch: together };
        let mut consumer = consume(&channel, queue, "", mode).await?;
        let mut moved = 0;
        loop {
            let mut messages = Vec::new();
            let mut last = 0;
            let mut patience = SILENCE;
            while messages.len() < usize::from(together) {
                match tokio::time::timeout(patience, consumer.next()).await {
                    Ok(Some(message)) => {
                        let message = message.map_err(Error::from)?;
                        last = message.delivery_tag;
                        messages.push(transfer.change(incoming(message)));
                    }
                    Ok(None) => return Err(Error::ConsumerEnded(queue.to_owned()).into()),
                    Err(_) => break,
                }
                // Messages that are ready already are delivered without a pause.
                patience = SILENCE / 5;
            }
            if messages.is_empty() {
                break;
            }
            self.publish_batch(&messages).await?;
            transfer.moved().await?;
            let options = BasicAckOptions { multiple: true };
            channel
                .basic_ack(last, options)
                .await
                .map_err(Error::from)?;
            moved += messages.len() as u64;
            if until == DrainMode::NearlyEmpty && self.queue(queue).await?.0 < together.into() {
                break;
            }
        }
        crate::amqp::consume::acks::let_settle(&channel, together).await?;
        channel
            .close(200, ShortString::default())
            .await
            .map_err(Error::from)?;
        Ok(moved)
    }

    /// Waits until a queue has no consumers, and returns its length. The broker does not count messages
    /// that an interrupted attempt left unacknowledged until it notices the dead client and requeues them
    /// in their place. Before that, the queue may look empty when it is not, and later messages would be
    /// moved first.
    async fn count_without_consumers(&self, queue: &str) -> Result<u32, Error> {
        let begun = Instant::now();
        loop {
            let (messages, consumers) = self.queue(queue).await?;
            if consumers == 0 {
                return Ok(messages);
            }
            if begun.elapsed() > CONSUMERS_END_WITHIN {
                return Err(Error::Occupied(queue.to_owned()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Deletes the holding queues.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn delete_holding_queues(&self, names: &Names) -> Result<(), Error> {
        let channel = self.separate_channel().await?;
        // The queue that marks an unfinished change goes last.
        for queue in [names.collected(), names.held()] {
            let options = QueueDeleteOptions::default();
            channel.queue_delete(short(&queue), options).await?;
        }
        Ok(())
    }

    /// Publishes messages in their order; returns once a queue has confirmed each. Refused messages are
    /// offered again, unless the broker confirmed a later one, since that would change the order.
    async fn publish_batch(&self, messages: &[Outgoing]) -> Result<(), Error> {
        let mut rest = messages;
        for _ in 0..ATTEMPTS {
            let taken = self.offer(rest).await?;
            let in_order = taken.iter().take_while(|taken| **taken).count();
            rest = rest.split_at(in_order).1;
            let a_later_one = taken.iter().skip(in_order).any(|taken| *taken);
            if rest.is_empty() || a_later_one {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let Some(refused) = rest.first() else {
            return Ok(());
        };
        let to = if refused.exchange.is_empty() {
            &refused.routing_key
        } else {
            &refused.exchange
        };
        Err(Error::NotMoved(to.clone()))
    }

    /// Publishes messages in their order, and returns which of them were confirmed.
    async fn offer(&self, messages: &[Outgoing]) -> Result<Vec<bool>, Error> {
        // Not `mandatory`: lapin attributes a returned message to the wrong confirm when several are
        // pending. Unroutable messages go to the orphan queue.
        let publish = messages.iter().map(|message| {
            self.publishing().basic_publish(
                short(&message.exchange),
                short(&message.routing_key),
                BasicPublishOptions::default(),
                &message.body,
                outgoing(message),
            )
        });
        // Polled in order, so that the frames are written in order.
        let mut taken = Vec::with_capacity(messages.len());
        for confirm in join_all(publish).await {
            taken.push(confirm?.await?.is_ack());
        }
        Ok(taken)
    }
}

/// The exchange or the queue of a destination.
fn target(names: &Names, destination: Destination) -> Result<String, String> {
    match destination {
        Destination::Held => Err(names.held()),
        Destination::Shards(1) => Err(names.shard(0)),
        Destination::Shards(_) => Ok(names.shards()),
    }
}

async fn bind(
    channel: &Channel,
    names: &Names,
    source: &str,
    key: &str,
    destination: Destination,
) -> Result<(), Error> {
    let none = FieldTable::default();
    let (source, key) = (short(source), short(key));
    match target(names, destination) {
        Ok(exchange) => {
            let options = ExchangeBindOptions::default();
            channel
                .exchange_bind(short(&exchange), source, key, options, none)
                .await?;
        }
        Err(queue) => {
            let options = QueueBindOptions::default();
            channel
                .queue_bind(short(&queue), source, key, options, none)
                .await?;
        }
    }
    Ok(())
}

async fn unbind(
    channel: &Channel,
    names: &Names,
    source: &str,
    key: &str,
    destination: Destination,
) -> Result<(), Error> {
    let none = FieldTable::default();
    let (source, key) = (short(source), short(key));
    match target(names, destination) {
        Ok(exchange) => {
            let options = ExchangeUnbindOptions::default();
            channel
                .exchange_unbind(short(&exchange), source, key, options, none)
                .await?;
        }
        Err(queue) => {
            channel
                .queue_unbind(short(&queue), source, key, none)
                .await?;
        }
    }
    Ok(())
}
