//! Publishing: one writer per channel, many messages unconfirmed at once, nothing forgotten.
//!
//! A batch counts as published when the broker has confirmed all of it. What a lost connection or a
//! refusal leaves unconfirmed is written again, in the same order, with the same message ids: at
//! least once, never less. Callers wait as long as that takes; a stop without a broker drops them.
//!
//! Two channels: a pipelined one for replies and events, and a careful one that waits for each
//! confirm. lapin attributes a returned message to the wrong confirm when several are pending, so
//! only the careful one can tell that a mandatory message (a dead letter) had no queue.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Connection, Event};
use lapin::{Confirmation, PublisherConfirm};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::error;

use crate::lifecycle::Lifecycle;
use crate::observability::events;

use super::message::Outgoing;
use super::properties::{outgoing, short};
use super::supervisor::{self, Link};
use super::{Error, Target, Topology};

/// How long a message that the broker did not take rests before it is offered again.
const NACK_REST: Duration = Duration::from_millis(500);

/// A channel over which messages are still refused so long after the first is given up. RabbitMQ 3.10
/// looks for the leader of a quorum queue once, when a channel first publishes to it; a channel that saw
/// a dead leader refuses for good. A queue that is full refuses on any channel, which costs no more than
/// a new connection now and then.
const REFUSED_FOR: Duration = Duration::from_secs(3);

/// On a channel that is so young, or has just been refused something, the messages of a batch are written
/// one by one. Elsewhere they are written at once; where one is refused and the next is not, an event
/// would come before the one that it follows.
const WARY_FOR: Duration = Duration::from_secs(3);

/// How often pending confirms are looked at for their age.
const TICK: Duration = Duration::from_secs(1);

/// The process ends before the broker confirmed; whoever asked must not count on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped before the broker confirmed")]
pub struct Stopped;

/// Hands messages to the writer; clones are cheap.
#[derive(Debug, Clone)]
pub struct Publisher {
    pipelined: mpsc::Sender<Batch>,
    careful: mpsc::Sender<Batch>,
    connected: watch::Receiver<bool>,
    unblocked: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Batch {
    messages: Vec<Outgoing>,
    done: oneshot::Sender<()>,
}

impl Publisher {
    /// Makes a publisher and the task that is its writer.
    pub fn new(
        target: Target,
        topology: Topology,
        lifecycle: Lifecycle,
    ) -> (
        Self,
        impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let window = target.settings().confirm_window;
        let (pipelined, pipelined_queue) = mpsc::channel(window);
        let (careful, careful_queue) = mpsc::channel(16);
        let (connected, is_connected) = watch::channel(false);
        let (unblocked, is_unblocked) = watch::channel(true);
        let mut link = Writer {
            topology,
            window,
            confirm_timeout: target.settings().confirm_timeout,
            pipelined: Lane::new(pipelined_queue),
            careful: Lane::new(careful_queue),
            connected,
            unblocked,
        };
        let task = async move { supervisor::keep(&target, &lifecycle, &mut link).await };
        (
            Self {
                pipelined,
                careful,
                connected: is_connected,
                unblocked: is_unblocked,
            },
            task,
        )
    }

    /// Publishes a batch, in its order; returns once the broker has confirmed all of it.
    ///
    /// # Errors
    /// When the process ends first.
    ///
    /// # Cancellation
    /// Dropping the future does not take the batch back.
    pub async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), Stopped> {
        send(&self.pipelined, messages).await
    }

    /// Publishes a message that must reach a queue; returns once one has it for certain.
    ///
    /// # Errors
    /// When the process ends first.
    pub async fn publish_carefully(&self, message: Outgoing) -> Result<(), Stopped> {
        send(
            &self.careful,
            vec![Outgoing {
                mandatory: true,
                ..message
            }],
        )
        .await
    }

    /// Whether there is a connection to write to, as a value to watch.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Whether the broker takes messages, as far as is known, as a value to watch.
    #[must_use]
    pub fn unblocked(&self) -> watch::Receiver<bool> {
        self.unblocked.clone()
    }
}

async fn send(queue: &mpsc::Sender<Batch>, messages: Vec<Outgoing>) -> Result<(), Stopped> {
    let (done, confirmed) = oneshot::channel();
    queue
        .send(Batch { messages, done })
        .await
        .map_err(|_| Stopped)?;
    confirmed.await.map_err(|_| Stopped)
}

/// Batches on their way over one channel; survives the channel.
#[derive(Debug)]
struct Lane {
    queue: mpsc::Receiver<Batch>,
    /// Written and unconfirmed, or to be written again: in the order of writing.
    pending: BTreeMap<u64, Pending>,
    next: u64,
    open: bool,
}

#[derive(Debug)]
struct Pending {
    batch: Batch,
    written_at: Instant,
}

impl Lane {
    const fn new(queue: mpsc::Receiver<Batch>) -> Self {
        Self {
            queue,
            pending: BTreeMap::new(),
            next: 0,
            open: true,
        }
    }
}

struct Writer {
    topology: Topology,
    window: usize,
    confirm_timeout: Duration,
    pipelined: Lane,
    careful: Lane,
    connected: watch::Sender<bool>,
    unblocked: watch::Sender<bool>,
}

impl Link for Writer {
    fn purpose(&self) -> &'static str {
        "publish"
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        // The one reader of events: lapin does not hand an event to a second one.
        let notices = connection.events_listener();
        self.topology.ensure(connection).await?;
        let pipelined = confirming_channel(connection).await?;
        let careful = confirming_channel(connection).await?;
        let (flow, is_flowing) = watch::channel(Some(Instant::now()));
        let pace = |window| Pace {
            window,
            timeout: self.confirm_timeout,
            flowing: is_flowing.clone(),
        };
        let watch_events = watch_events(notices, &flow, &self.unblocked);
        let count_blocked = count_blocked(flow.subscribe());
        self.connected.send_replace(true);
        let work = async {
            tokio::try_join!(
                run(&mut self.pipelined, &pipelined, pace(self.window)),
                run(&mut self.careful, &careful, pace(1)),
            )
        };
        // Whichever ends first decides; what was not confirmed stays pending in its lane.
        let ended = tokio::select! {
            worked = work => worked.map(|_| ()),
            broken = watch_events => broken,
            () = count_blocked => Ok(()),
        };
        self.connected.send_replace(false);
        if is_flowing.borrow().is_none() {
            // The next connection is told anew whether it is blocked.
            events::broker_unblocks();
            self.unblocked.send_replace(true);
        }
        if ended.is_ok() {
            // Left to its drop, a channel would close while its connection does, and lapin logs that
            // as an error. A courtesy, so not for long.
            let closed = [&pipelined, &careful].map(|it| it.close(200, ShortString::default()));
            let closed = join_all(closed);
            drop(tokio::time::timeout(Duration::from_secs(1), closed).await);
        }
        ended.map_err(Error::while_serving)
    }
}

/// Notes whether the broker takes messages; ends with the connection.
async fn watch_events(
    mut notices: impl Stream<Item = Event> + Unpin,
    flow: &watch::Sender<Option<Instant>>,
    unblocked: &watch::Sender<bool>,
) -> Result<(), Error> {
    while let Some(notice) = notices.next().await {
        match notice {
            Event::ConnectionBlocked(reason) => {
                events::broker_blocks(&reason);
                flow.send_replace(None);
                unblocked.send_replace(false);
            }
            Event::ConnectionUnblocked => {
                events::broker_unblocks();
                flow.send_replace(Some(Instant::now()));
                unblocked.send_replace(true);
            }
            Event::Error(error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Counts the seconds in which the broker takes no messages, also while that lasts; never ends.
async fn count_blocked(flowing: watch::Receiver<Option<Instant>>) {
    let mut tick = tokio::time::interval(TICK / 10);
    let mut last = Instant::now();
    let mut uncounted = Duration::ZERO;
    loop {
        let now = tick.tick().await;
        if flowing.borrow().is_none() {
            uncounted += now - last;
            // A counter takes whole ones.
            events::broker_blocked_for(uncounted.as_secs());
            uncounted -= Duration::from_secs(uncounted.as_secs());
        }
        last = now;
    }
}

async fn confirming_channel(connection: &Connection) -> Result<Channel, Error> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

struct Pace {
    window: usize,
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
async fn run(lane: &mut Lane, channel: &Channel, pace: Pace) -> Result<(), Error> {
    let mut waiting = Waiting::new();
    let mut unconfirmed = 0;
    let mut refused_at = None;
    let mut wary_since = Instant::now();
    // What an earlier connection left unconfirmed goes first, in its order.
    for number in lane.pending.keys().copied().collect::<Vec<_>>() {
        unconfirmed += write(lane, number, channel, Manner::OneByOne, &mut waiting).await?;
    }
    let mut tick = tokio::time::interval(TICK);
    loop {
        if !lane.open && lane.pending.is_empty() {
            return Ok(());
        }
        let manner = if wary_since.elapsed() < WARY_FOR {
            Manner::OneByOne
        } else {
            Manner::AtOnce
        };
        // Each branch can be dropped: receiving, the next confirm and the tick lose nothing.
        tokio::select! {
            received = lane.queue.recv(), if lane.open && unconfirmed < pace.window => {
                match received {
                    None => lane.open = false,
                    Some(batch) => {
                        let number = lane.next;
                        lane.next += 1;
                        lane.pending.insert(number, Pending { batch, written_at: Instant::now() });
                        unconfirmed += write(lane, number, channel, manner, &mut waiting).await?;
                    }
                }
            }
            Some((number, taken)) = waiting.next(), if !waiting.is_empty() => match taken? {
                Taken::Confirmed => {
                    if let Some(pending) = lane.pending.remove(&number) {
                        unconfirmed -= pending.batch.messages.len();
                        events::messages_confirmed(pending.batch.messages.len());
                        // Nobody may be waiting any more; the messages are out all the same.
                        pending.batch.done.send(()).ok();
                    }
                }
                Taken::Refused => {
                    refusal(&mut refused_at)?;
                    wary_since = Instant::now();
                    waiting.push(Box::pin(async move {
                        tokio::time::sleep(NACK_REST).await;
                        (number, Ok(Taken::Rested))
                    }));
                }
                Taken::Rested => {
                    unconfirmed -= lane.pending.get(&number).map_or(0, |it| it.batch.messages.len());
                    unconfirmed += write(lane, number, channel, manner, &mut waiting).await?;
                }
            },
            _ = tick.tick() => check_age(lane, &pace)?,
        }
    }
}

/// Notes that a message was refused: said once on each channel, and too much after a while.
pub(super) fn refusal(first: &mut Option<Instant>) -> Result<(), Error> {
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
enum Manner {
    /// Pipelined.
    AtOnce,
    /// Each once the one before it is confirmed.
    OneByOne,
}

/// Writes one batch and begins to wait for its confirms; returns how many messages that are.
async fn write<'a>(
    lane: &mut Lane,
    number: u64,
    channel: &'a Channel,
    manner: Manner,
    waiting: &mut Waiting<'a>,
) -> Result<usize, Error> {
    let Some(pending) = lane.pending.get_mut(&number) else {
        return Ok(0);
    };
    pending.written_at = Instant::now();
    let messages = &pending.batch.messages;
    let single = messages.len() == 1;
    if manner == Manner::OneByOne && !single {
        let messages = messages.clone();
        let count = messages.len();
        waiting.push(Box::pin(async move {
            (number, one_by_one(channel, &messages).await)
        }));
        return Ok(count);
    }
    // Each publish takes its tag and its place among the frames when it is first polled, and
    // `join_all` polls in order: one writer, pipelined, without a wait per message.
    let confirms = join_all(messages.iter().map(|message| publish(channel, message))).await;
    let confirms = confirms.into_iter().collect::<Result<Vec<_>, _>>()?;
    waiting.push(Box::pin(async move {
        (number, confirmed(confirms, single).await)
    }));
    Ok(messages.len())
}

/// Writes messages each after the confirm of the one before; ends with the first that is not taken.
async fn one_by_one(channel: &Channel, messages: &[Outgoing]) -> Result<Taken, Error> {
    for message in messages {
        let confirm = publish(channel, message).await?;
        let taken = confirmed(vec![confirm], false).await?;
        if taken != Taken::Confirmed {
            return Ok(taken);
        }
    }
    Ok(Taken::Confirmed)
}

async fn publish(channel: &Channel, message: &Outgoing) -> Result<PublisherConfirm, lapin::Error> {
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

async fn confirmed(confirms: Vec<PublisherConfirm>, single: bool) -> Result<Taken, Error> {
    let mut taken = Taken::Confirmed;
    for confirm in confirms {
        match confirm.await? {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(returned)) if single => {
                error!(
                    exchange = %returned.exchange,
                    routing_key = %returned.routing_key,
                    "no queue takes a message that must not be lost; is the topology complete?"
                );
                taken = Taken::Refused;
            }
            // Which message it was is for `returned` itself to say, not for this confirm.
            Confirmation::Ack(Some(returned)) => {
                let id = returned.properties.message_id().as_ref();
                events::reply_returned(id.map_or("", ShortString::as_str));
            }
            Confirmation::Nack(_) => {
                events::messages_refused();
                taken = Taken::Refused;
            }
            // Only without confirm_select, which `confirming_channel` has done.
            Confirmation::NotRequested => taken = Taken::Refused,
        }
    }
    Ok(taken)
}

fn check_age(lane: &Lane, limits: &Pace) -> Result<(), Error> {
    // A blocked connection confirms nothing and must not be given up for that, nor for the time
    // that was spent blocked.
    let Some(flowing_since) = *limits.flowing.borrow() else {
        return Ok(());
    };
    let oldest = lane.pending.values().next();
    let waiting_since = oldest.map(|oldest| oldest.written_at.max(flowing_since));
    if waiting_since.is_some_and(|since| since.elapsed() > limits.timeout) {
        return Err(Error::TimedOut(limits.timeout, "confirming a message"));
    }
    Ok(())
}
