//! The writers: batches over the channels of one connection, again until each is confirmed.
//!
//! A message that was confirmed is never written again, whatever becomes of the rest of its batch. What
//! was under way when the broker closed the link over a message is handed to `fate`, and the link goes on
//! with what comes next. Used by `publisher`.

use std::future::{Future, pending};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Connection, Event, PublisherConfirm};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::observability::events;

use crate::amqp::error::why_closed;
use crate::amqp::link::supervisor::Link;
use crate::amqp::message::Outgoing;
use crate::amqp::properties::{outgoing, short};
use crate::amqp::publish::batch::{Entry, left};
use crate::amqp::publish::channel::PublishChannel;
use crate::amqp::publish::fate::Fate;
use crate::amqp::publish::probe::keep_asking;
use crate::amqp::{Error, Topology};

/// How long a message that the broker did not take rests before it is offered again.
pub(in crate::amqp) const NACK_REST: Duration = Duration::from_millis(500);

/// A channel over which messages are still refused so long after the first is given up. RabbitMQ 3.10
/// looks for the leader of a quorum queue once, when a channel first publishes to it; a channel that saw
/// a dead leader refuses for good. A queue that is full refuses on any channel, which costs no more than
/// a new connection now and then.
const REFUSED_FOR: Duration = Duration::from_secs(3);

/// On a channel that is so young, or has just been refused something, the messages of a batch are written
/// one by one. Elsewhere they are written at once; where one is refused and the next is not, an event
/// would come before the one that it follows.
const CAUTION_PERIOD: Duration = Duration::from_secs(3);

/// How often pending confirms are looked at for their age.
const TICK: Duration = Duration::from_secs(1);

/// A connection to write to.
pub(in crate::amqp) struct Writer {
    pub(in crate::amqp) purpose: &'static str,
    pub(in crate::amqp) topology: Topology,
    pub(in crate::amqp) confirm_timeout: Duration,
    /// One channel each.
    pub(in crate::amqp) publish_channels: Vec<PublishChannel>,
    /// Where it is told how the connection stands.
    pub(in crate::amqp) shown: Option<Shown>,
    pub(in crate::amqp) fate: Fate,
}

/// How a connection stands, for others to watch.
#[derive(Debug)]
pub(in crate::amqp) struct Shown {
    pub(in crate::amqp) connected: watch::Sender<bool>,
    pub(in crate::amqp) unblocked: watch::Sender<bool>,
}

impl Shown {
    /// Learns and shows whether the broker takes messages over a connection, where they go to an exchange;
    /// never ends.
    pub(in crate::amqp) async fn watch(&self, connection: &Connection, exchange: &str) {
        let unblocked = self.unblocked.subscribe();
        keep_asking(connection, exchange, unblocked, &self.connected).await;
    }

    /// The connection is gone. The next one is told anew whether it is blocked.
    pub(in crate::amqp) fn end(&self) {
        self.connected.send_replace(false);
        if !*self.unblocked.borrow() {
            self.flows(true, "");
        }
    }

    pub(in crate::amqp) fn flows(&self, flows: bool, reason: &str) {
        if flows {
            events::broker_unblocks();
        } else {
            events::broker_blocks(reason);
        }
        self.unblocked.send_replace(flows);
    }
}

impl Writer {
    /// Waits for the first batch; false when there will be none.
    pub(in crate::amqp) async fn has_work(&mut self) -> bool {
        for publish_channel in &mut self.publish_channels {
            if let Some(batch) = publish_channel.queue.recv().await {
                publish_channel.admit(batch);
                return true;
            }
        }
        false
    }

    /// Hands over what is under way, so that it is offered by itself; false when there is nothing.
    fn hand_over(&mut self) -> bool {
        let mut any = false;
        for publish_channel in &mut self.publish_channels {
            for (_, pending) in mem::take(&mut publish_channel.pending) {
                any = true;
                self.fate.settle(pending.batch, publish_channel.careful);
            }
        }
        any
    }
}

impl Link for Writer {
    fn purpose(&self) -> &'static str {
        self.purpose
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        self.topology.ensure(connection).await?;
        // The one reader of events: lapin does not hand an event to a second one.
        // After looking for what is missing, which closes channels: those are no news.
        let mut notices = connection.events_listener();
        let mut channels = Vec::new();
        for _ in &self.publish_channels {
            channels.push(confirming_channel(connection).await?);
        }
        let (flow, is_flowing) = watch::channel(Some(Instant::now()));
        let pace = Pace {
            timeout: self.confirm_timeout,
            flowing: is_flowing.clone(),
        };
        let shown = self.shown.as_ref();
        let fate = &self.fate;
        let watch_events = watch_events(&mut notices, &flow, shown);
        let count_blocked = count_blocked(flow.subscribe(), shown.is_some());
        let watch_alarms = async {
            match shown {
                Some(shown) => shown.watch(connection, &self.fate.names.dead()).await,
                None => pending().await,
            }
        };
        let publish_channels = self.publish_channels.iter_mut().zip(&channels);
        let work = try_join_all(
            publish_channels
                .map(|(publish_channel, channel)| run(publish_channel, channel, &pace, fate)),
        );
        // Whichever ends first decides; what was not confirmed stays pending in its publish channel.
        let ended = tokio::select! {
            worked = work => worked.map(drop),
            broken = watch_events => broken,
            () = count_blocked => Ok(()),
            () = watch_alarms => Ok(()),
        };
        if let Some(shown) = shown {
            shown.end();
        }
        let Err(error) = ended else {
            // Left to its drop, a channel would close while its connection does, and lapin logs that
            // as an error. A courtesy, so not for long.
            let closed = channels
                .iter()
                .map(|it| it.close(200, ShortString::default()));
            let closed = join_all(closed);
            drop(tokio::time::timeout(Duration::from_secs(1), closed).await);
            return Ok(());
        };
        let error = why_closed(error, &mut notices).await;
        Err(match error.blame() {
            Some(refusal) if self.hand_over() => Error::Provoked(refusal),
            _ => error.while_serving(),
        })
    }
}

/// Notes whether the broker takes messages; ends with the connection.
async fn watch_events(
    notices: &mut (impl Stream<Item = Event> + Unpin),
    flow: &watch::Sender<Option<Instant>>,
    shown: Option<&Shown>,
) -> Result<(), Error> {
    while let Some(notice) = notices.next().await {
        let (flows, reason) = match notice {
            Event::ConnectionBlocked(reason) => (false, reason),
            Event::ConnectionUnblocked => (true, String::new()),
            Event::Error(error) => return Err(error.into()),
            _ => continue,
        };
        flow.send_replace(flows.then(Instant::now));
        if let Some(shown) = shown {
            shown.flows(flows, &reason);
        }
    }
    Ok(())
}

/// Counts the seconds in which the broker takes no messages, also while that lasts; never ends.
async fn count_blocked(flowing: watch::Receiver<Option<Instant>>, counts: bool) {
    let mut tick = tokio::time::interval(TICK / 10);
    let mut last = Instant::now();
    let mut uncounted = Duration::ZERO;
    loop {
        let now = tick.tick().await;
        if counts && flowing.borrow().is_none() {
            uncounted += now - last;
            // A counter takes whole ones.
            events::broker_blocked_for(uncounted.as_secs());
            uncounted -= Duration::from_secs(uncounted.as_secs());
        }
        last = now;
    }
}

pub(in crate::amqp) async fn confirming_channel(connection: &Connection) -> Result<Channel, Error> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

struct Pace {
    timeout: Duration,
    /// Since when the broker has taken messages; none while it blocks publishing.
    flowing: watch::Receiver<Option<Instant>>,
}

/// How the broker took a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Confirmed,
    Refused,
    Rested,
}

type Waiting<'a> =
    FuturesUnordered<Pin<Box<dyn Future<Output = (u64, Result<Taken, Error>)> + Send + 'a>>>;

/// Writes batches and waits for their confirms, until the queue is closed and all is confirmed.
async fn run(
    publish_channel: &mut PublishChannel,
    channel: &Channel,
    pace: &Pace,
    fate: &Fate,
) -> Result<(), Error> {
    let mut waiting = Waiting::new();
    let mut unconfirmed = 0;
    let mut refused_at = None;
    let mut wary_since = Instant::now();
    // What an earlier connection left unconfirmed goes first, in its order.
    for number in publish_channel.pending.keys().copied().collect::<Vec<_>>() {
        unconfirmed += write(
            publish_channel,
            number,
            channel,
            WriteMode::OneByOne,
            &mut waiting,
        )
        .await?;
    }
    let mut tick = tokio::time::interval(TICK);
    loop {
        if !publish_channel.open && publish_channel.pending.is_empty() {
            return Ok(());
        }
        let mode = if wary_since.elapsed() < CAUTION_PERIOD {
            WriteMode::OneByOne
        } else {
            WriteMode::AtOnce
        };
        // Each branch can be dropped: receiving, the next confirm and the tick lose nothing.
        tokio::select! {
            received = publish_channel.queue.recv(), if publish_channel.open && unconfirmed < publish_channel.window => {
                match received {
                    None => publish_channel.open = false,
                    Some(batch) => {
                        let number = publish_channel.admit(batch);
                        unconfirmed += write(publish_channel, number, channel, mode, &mut waiting).await?;
                    }
                }
            }
            Some((number, taken)) = waiting.next(), if !waiting.is_empty() => match taken? {
                Taken::Confirmed => {
                    if let Some(pending) = publish_channel.pending.get(&number) {
                        fate.note(&pending.batch);
                    }
                    unconfirmed -= publish_channel.finish(number);
                }
                Taken::Refused => {
                    let replies = publish_channel.replies_refused_for(number, fate);
                    if replies.is_some_and(|it| publish_channel.gives_up(number, it, fate)) {
                        unconfirmed -= publish_channel.finish(number);
                        continue;
                    }
                    // Replies that a second channel refuses too: it is their queue, not the channel.
                    if replies.is_none_or(|refused_for| refused_for < 2 * REFUSED_FOR) {
                        refusal(&mut refused_at)?;
                        wary_since = Instant::now();
                    }
                    waiting.push(Box::pin(async move {
                        tokio::time::sleep(NACK_REST).await;
                        (number, Ok(Taken::Rested))
                    }));
                }
                Taken::Rested => {
                    unconfirmed -= publish_channel.pending.get(&number).map_or(0, |it| it.written);
                    unconfirmed += write(publish_channel, number, channel, mode, &mut waiting).await?;
                }
            },
            _ = tick.tick() => check_age(publish_channel, pace)?,
        }
    }
}

/// Notes that a message was refused: said once on each channel, and too much after a while.
pub(in crate::amqp) fn refusal(first: &mut Option<Instant>) -> Result<(), Error> {
    let at = *first.get_or_insert_with(|| {
        events::broker_refuses();
        Instant::now()
    });
    if at.elapsed() > REFUSED_FOR {
        return Err(Error::NotTaken(REFUSED_FOR));
    }
    Ok(())
}

/// How the messages of a batch are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteMode {
    /// Pipelined.
    AtOnce,
    /// Each once the one before it is confirmed.
    OneByOne,
}

/// Writes what is left of a batch and begins to wait for the confirms; returns how many messages that
/// are.
async fn write<'a>(
    publish_channel: &mut PublishChannel,
    number: u64,
    channel: &'a Channel,
    mode: WriteMode,
    waiting: &mut Waiting<'a>,
) -> Result<usize, Error> {
    let careful = publish_channel.careful;
    let Some(pending) = publish_channel.pending.get_mut(&number) else {
        return Ok(0);
    };
    let messages = Arc::clone(pending.batch.entries());
    pending.written_at = Instant::now();
    pending.written = left(&messages).count();
    let count = pending.written;
    if mode == WriteMode::OneByOne && count > 1 {
        waiting.push(Box::pin(async move {
            (number, one_by_one(channel, &messages, careful).await)
        }));
        return Ok(count);
    }
    // Each publish takes its tag and its place among the frames when it is first polled, and
    // `join_all` polls in order: one writer, pipelined, without a wait per message.
    let written = left(&messages).map(|entry| publish(channel, &entry.message));
    let confirms = join_all(written).await;
    let confirms = confirms.into_iter().collect::<Result<Vec<_>, _>>()?;
    waiting.push(Box::pin(async move {
        (number, confirmed(&messages, confirms, careful).await)
    }));
    Ok(count)
}

/// Writes messages each after the confirm of the one before; ends with the first that is not taken.
async fn one_by_one(channel: &Channel, messages: &[Entry], careful: bool) -> Result<Taken, Error> {
    for entry in left(messages) {
        let confirm = publish(channel, &entry.message).await?;
        if !is_taken(confirm.await?, careful) {
            return Ok(Taken::Refused);
        }
        entry.confirm();
    }
    Ok(Taken::Confirmed)
}

pub(in crate::amqp) async fn publish(
    channel: &Channel,
    message: &Outgoing,
) -> Result<PublisherConfirm, lapin::Error> {
    let options = BasicPublishOptions {
        mandatory: message.mandatory,
        ..Default::default()
    };
    let exchange = short(&message.exchange);
    let key = short(&message.routing_key);
    channel
        .basic_publish(exchange, key, options, &message.body, outgoing(message))
        .await
}

/// Waits for the confirms of what is left of a batch.
async fn confirmed(
    messages: &[Entry],
    confirms: Vec<PublisherConfirm>,
    careful: bool,
) -> Result<Taken, Error> {
    let mut taken = Taken::Confirmed;
    // Collected first: what is confirmed is no longer left.
    let written: Vec<_> = left(messages).collect();
    for (entry, confirm) in written.into_iter().zip(confirms) {
        if is_taken(confirm.await?, careful) {
            entry.confirm();
        } else {
            taken = Taken::Refused;
        }
    }
    Ok(taken)
}

/// Whether the broker has a message, which it does not if one that must reach a queue comes back.
fn is_taken(confirmation: Confirmation, careful: bool) -> bool {
    match confirmation {
        Confirmation::Ack(None) => true,
        Confirmation::Ack(Some(returned)) if careful => {
            events::message_unroutable(returned.exchange.as_str(), returned.routing_key.as_str());
            false
        }
        // Which message it was is for `returned` itself to say, not for this confirm.
        Confirmation::Ack(Some(returned)) => {
            let id = returned.properties.message_id().as_ref();
            events::reply_returned(id.map_or("", ShortString::as_str));
            true
        }
        Confirmation::Nack(_) => {
            events::messages_refused();
            false
        }
        // Only without confirm_select, which `confirming_channel` has done.
        Confirmation::NotRequested => false,
    }
}

fn check_age(publish_channel: &PublishChannel, limits: &Pace) -> Result<(), Error> {
    // A blocked connection confirms nothing and must not be given up for that, nor for the time
    // that was spent blocked.
    let Some(flowing_since) = *limits.flowing.borrow() else {
        return Ok(());
    };
    let oldest = publish_channel.pending.values().next();
    let waiting_since = oldest.map(|oldest| oldest.written_at.max(flowing_since));
    if waiting_since.is_some_and(|since| since.elapsed() > limits.timeout) {
        return Err(Error::TimedOut(limits.timeout, "confirming a message"));
    }
    Ok(())
}
