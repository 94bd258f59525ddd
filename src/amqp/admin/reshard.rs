//! Changing how many command queues there are: the steps that touch the broker.
//!
//! In which order they are taken, so that nothing is lost and no command overtakes another, is for
//! others to say (`reshard`). Each may be repeated.

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

/// Messages moved together at least: written, confirmed, then acknowledged where they came from.
const TOGETHER_MIN: u16 = 200;

/// After so long without a message it is time to ask whether a queue is empty.
const SILENCE: Duration = Duration::from_millis(500);

/// How long others may go on consuming a queue that is to be moved: longer than the broker needs to
/// notice that a client is dead (two heartbeats; RabbitMQ's own are a minute at most).
const OTHERS_END_WITHIN: Duration = Duration::from_mins(2);
/// How often messages are offered that the broker refuses.
const OFFERS: usize = 50;
/// The broker is asked for that so often.
const LOOKING: Duration = Duration::from_millis(100);

/// Where commands go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Into the queues of so many shards.
    Shards(u16),
    /// Into the queue that holds them meanwhile.
    Held,
}

/// How much of a queue is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainMode {
    /// All of it; nothing comes any more.
    Empty,
    /// All but what has just come; more comes all the time.
    NearlyEmpty,
}

/// Which commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandSource {
    /// Those that producers publish.
    New,
    /// Those that come back from a rest.
    Back,
}

/// What becomes of messages that are moved.
pub trait Transfer {
    /// What may go wrong.
    type Error: From<Error>;

    /// The message as it is to be in its new place.
    fn change(&mut self, message: Incoming) -> Outgoing;

    /// Everything changed so far is in its new place, and not yet gone from the old one.
    fn moved(&mut self) -> impl Future<Output = Result<(), Self::Error>>;
}

impl Client {
    /// How many command queues there are.
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

    /// Whether there is such a queue.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn is_there(&self, queue: &str) -> Result<bool, Error> {
        is_there(self.connection(), queue).await
    }

    /// Sees to it that nobody else changes the shards, for as long as this connection lives: the broker
    /// keeps an exclusive queue for it, and deletes that when the connection ends.
    ///
    /// # Errors
    /// When somebody else goes on changing them, or the broker is lost or refuses.
    pub async fn change_alone(&self, names: &Names) -> Result<(), Error> {
        const LOCKED: u16 = 405;
        let begun = Instant::now();
        let queue = names.resharding();
        loop {
            // A channel apart: the broker closes it when somebody else has the queue.
            let channel = self.channel_of_its_own().await?;
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
            if begun.elapsed() > OTHERS_END_WITHIN {
                return Err(Error::Occupied(queue));
            }
            tokio::time::sleep(LOOKING).await;
        }
    }

    /// Makes the queues in which commands are held while the shards change.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn make_holding_queues(&self, names: &Names) -> Result<(), Error> {
        let channel = self.channel_of_its_own().await?;
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

    /// Binds commands to another destination. The new binding is there before the old one ends, so that none is
    /// lost; some go both.
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
        let channel = self.channel_of_its_own().await?;
        let (source, key) = match source {
            CommandSource::New => (names.commands(), ANY),
            CommandSource::Back => (names.back(), ANY_SESSION),
        };
        bind(&channel, names, &source, key, to).await?;
        unbind(&channel, names, &source, key, from).await
    }

    /// Makes the queues of a topology's shards, and nothing leads to them but what comes back from rests;
    /// those beyond are deleted, empty as they are.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn declare_shards(&self, topology: &Topology, before: u16) -> Result<(), Error> {
        let names = topology.names();
        let channel = self.channel_of_its_own().await?;
        // An earlier attempt may have led it to the shards already, and what finds no binding is orphaned.
        bind(
            &channel,
            names,
            &names.back(),
            ANY_SESSION,
            Destination::Held,
        )
        .await?;
        // All of its bindings with it, whatever they were.
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

    /// Moves what is in a queue, in its order; says how much that was. What is moved is confirmed in its
    /// new place before it is acknowledged in the old one.
    ///
    /// `prefetch` is what a worker takes from a queue, at most. RabbitMQ 3 puts what a consumer gives
    /// back behind what earlier ones gave back: if less were taken here, and then given back when this is
    /// cut off, the rest of what a worker gave back would come before it.
    ///
    /// # Errors
    /// When the broker is lost or refuses, somebody else goes on consuming the queue, or `transfer` fails.
    pub async fn transfer<P: Transfer>(
        &self,
        queue: &str,
        until: DrainMode,
        prefetch: u16,
        transfer: &mut P,
    ) -> Result<u64, P::Error> {
        let together = prefetch.max(TOGETHER_MIN);
        let mut moved = 0;
        self.count_alone(queue).await?;
        loop {
            moved += self.transfer_once(queue, until, together, transfer).await?;
            // The broker counts as ready neither what we had in hand nor what was on its way to us; once
            // nobody consumes the queue, all of that is back.
            let left = self.count_alone(queue).await?;
            if left == 0 || until == DrainMode::NearlyEmpty && left < together.into() {
                return Ok(moved);
            }
        }
    }

    /// Moves what comes, until nothing does for a while or, if that is enough, little is left.
    async fn transfer_once<P: Transfer>(
        &self,
        queue: &str,
        until: DrainMode,
        together: u16,
        transfer: &mut P,
    ) -> Result<u64, P::Error> {
        let channel = self.channel_of_its_own().await?;
        let mut consumer =
            consume(&channel, queue, "", AckMode::Manual { prefetch: together }).await?;
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
                // What is there already is sent without a pause.
                patience = SILENCE / 5;
            }
            if messages.is_empty() {
                break;
            }
            self.publish_together(&messages).await?;
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

    /// Waits until nobody consumes a queue, and says how much is in it. What an attempt that was cut off
    /// had in hand is neither among the messages that the broker counts nor gone: until the broker has
    /// noticed, and has put it back in its place, the queue may seem empty and is not, and what comes
    /// later would come first.
    async fn count_alone(&self, queue: &str) -> Result<u32, Error> {
        let begun = Instant::now();
        loop {
            let (messages, consumers) = self.queue(queue).await?;
            if consumers == 0 {
                return Ok(messages);
            }
            if begun.elapsed() > OTHERS_END_WITHIN {
                return Err(Error::Occupied(queue.to_owned()));
            }
            tokio::time::sleep(LOOKING).await;
        }
    }

    /// Deletes the queues in which commands were held.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn delete_holding_queues(&self, names: &Names) -> Result<(), Error> {
        let channel = self.channel_of_its_own().await?;
        // The one that tells of all this goes last.
        for queue in [names.collected(), names.held()] {
            let options = QueueDeleteOptions::default();
            channel.queue_delete(short(&queue), options).await?;
        }
        Ok(())
    }

    /// Publishes messages in their order; returns once a queue has each. What the broker refuses is offered
    /// again, unless it took a later one: that would come first then.
    async fn publish_together(&self, messages: &[Outgoing]) -> Result<(), Error> {
        let mut rest = messages;
        for _ in 0..OFFERS {
            let taken = self.offer(rest).await?;
            let in_order = taken.iter().take_while(|taken| **taken).count();
            rest = rest.split_at(in_order).1;
            let a_later_one = taken.iter().skip(in_order).any(|taken| *taken);
            if rest.is_empty() || a_later_one {
                break;
            }
            tokio::time::sleep(LOOKING).await;
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

    /// Publishes messages in their order, and says which of them a queue took.
    async fn offer(&self, messages: &[Outgoing]) -> Result<Vec<bool>, Error> {
        // Not `mandatory`: lapin gives a returned message to the wrong confirm when several are pending.
        // What fits nowhere goes to the orphans.
        let publish = messages.iter().map(|message| {
            self.publishing().basic_publish(
                short(&message.exchange),
                short(&message.routing_key),
                BasicPublishOptions::default(),
                &message.body,
                outgoing(message),
            )
        });
        // Polled in order, each takes its place among the frames.
        let mut taken = Vec::with_capacity(messages.len());
        for confirm in join_all(publish).await {
            taken.push(confirm?.await?.is_ack());
        }
        Ok(taken)
    }
}

/// The exchange or the queue that a destination stands for.
fn end(names: &Names, destination: Destination) -> Result<String, String> {
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
    match end(names, destination) {
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
    match end(names, destination) {
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
