//! Works through the batches of one publish channel over one AMQP channel: writes them, waits for their
//! confirms, and offers again what the broker did not take. Used by `writer`.
//!
//! A batch that the broker refuses or returns waits for a moment and does not count against what may be
//! unconfirmed meanwhile: the others go on.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, PublisherConfirm};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::observability::events;

use crate::amqp::channel::publish;
use crate::amqp::publish::batch::{Entry, left};
use crate::amqp::publish::channel::PublishChannel;
use crate::amqp::publish::fate::Fate;
use crate::amqp::{Doubt, Error};

/// How long a message that the broker did not take waits before it is offered again.
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

/// While mandatory messages are returned, this is logged, and the topology looked at, once per period.
const UNROUTABLE_EVERY: Duration = Duration::from_secs(5);

/// How often pending confirms are looked at for their age.
const TICK: Duration = Duration::from_secs(1);

/// How long the broker may take for a confirm.
pub(in crate::amqp) struct Pace {
    pub(in crate::amqp) timeout: Duration,
    /// Since when the broker has taken messages; none while it blocks publishing.
    pub(in crate::amqp) flowing: watch::Receiver<Option<Instant>>,
}

/// How the broker took a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Confirmed,
    /// No queue takes a mandatory message.
    Returned,
    Refused,
    /// It was not taken, and is due to be offered again.
    Due,
}

/// How the messages of a batch are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteMode {
    /// Pipelined.
    AtOnce,
    /// Each once the one before it is confirmed.
    OneByOne,
}

type Waiting<'a> =
    FuturesUnordered<Pin<Box<dyn Future<Output = (u64, Result<Taken, Error>)> + Send + 'a>>>;

/// The work on one publish channel, for as long as the AMQP channel lasts.
struct Pipeline<'a> {
    batches: &'a mut PublishChannel,
    channel: &'a Channel,
    fate: &'a Fate,
    doubt: &'a Doubt,
    waiting: Waiting<'a>,
    /// Batches to be written, in this order.
    ready: VecDeque<u64>,
    /// How many messages were written and are not confirmed.
    unconfirmed: usize,
    refused_at: Option<Instant>,
    unroutable_at: Option<Instant>,
    cautious_since: Instant,
}

/// Writes batches and waits for their confirms, until the queue is closed and all is confirmed.
pub(in crate::amqp) async fn run(
    batches: &mut PublishChannel,
    channel: &Channel,
    pace: &Pace,
    fate: &Fate,
    doubt: &Doubt,
) -> Result<(), Error> {
    // What an earlier connection left unconfirmed goes first, in its order.
    let ready = batches.begin_anew().collect();
    let mut pipeline = Pipeline {
        batches,
        channel,
        fate,
        doubt,
        waiting: Waiting::new(),
        ready,
        unconfirmed: 0,
        refused_at: None,
        unroutable_at: None,
        cautious_since: Instant::now(),
    };
    let mut tick = tokio::time::interval(TICK);
    while pipeline.batches.open || !pipeline.batches.pending.is_empty() {
        pipeline.write_ready().await?;
        let takes_more = pipeline.takes_more();
        // Each branch can be dropped: receiving, the next confirm and the tick lose nothing.
        tokio::select! {
            received = pipeline.batches.queue.recv(), if takes_more => match received {
                Some(batch) => {
                    let number = pipeline.batches.admit(batch);
                    pipeline.ready.push_back(number);
                }
                None => pipeline.batches.open = false,
            },
            Some((number, taken)) = pipeline.waiting.next(), if !pipeline.waiting.is_empty() => {
                pipeline.settle(number, taken?)?;
            }
            _ = tick.tick() => pipeline.batches.check_age(pace)?,
        }
    }
    Ok(())
}

impl Pipeline<'_> {
    fn takes_more(&self) -> bool {
        let has_room = self.batches.pending.len() < self.batches.window;
        self.batches.open && self.ready.is_empty() && has_room
    }

    async fn write_ready(&mut self) -> Result<(), Error> {
        while self.unconfirmed < self.batches.in_flight {
            let Some(number) = self.ready.pop_front() else {
                break;
            };
            self.write(number).await?;
        }
        Ok(())
    }

    /// Writes what is left of a batch and begins to wait for the confirms.
    async fn write(&mut self, number: u64) -> Result<(), Error> {
        let (channel, careful) = (self.channel, self.batches.careful);
        let Some(messages) = self.batches.note_written(number) else {
            return Ok(());
        };
        let count = left(&messages).count();
        self.unconfirmed += count;
        if self.mode() == WriteMode::OneByOne && count > 1 {
            self.waiting.push(Box::pin(async move {
                (number, one_by_one(channel, &messages, careful).await)
            }));
            return Ok(());
        }
        // Each publish takes its tag and its place among the frames when it is first polled, and
        // `join_all` polls in order: one writer, pipelined, without a wait per message.
        let written = left(&messages).map(|entry| publish(channel, &entry.message));
        let confirms = join_all(written).await;
        let confirms = confirms.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.waiting.push(Box::pin(async move {
            (number, confirmed(&messages, confirms, careful).await)
        }));
        Ok(())
    }

    fn mode(&self) -> WriteMode {
        if self.cautious_since.elapsed() < CAUTION_PERIOD {
            WriteMode::OneByOne
        } else {
            WriteMode::AtOnce
        }
    }

    /// Sees to a batch for which the broker has answered.
    fn settle(&mut self, number: u64, taken: Taken) -> Result<(), Error> {
        if taken == Taken::Due {
            self.ready.push_back(number);
            return Ok(());
        }
        self.unconfirmed -= self.batches.note_answered(number);
        match taken {
            Taken::Confirmed => {
                if let Some(pending) = self.batches.pending.get(&number) {
                    self.fate.note(&pending.batch);
                }
                self.batches.finish(number);
                return Ok(());
            }
            Taken::Returned => self.doubt_topology(number),
            Taken::Refused => {
                let replies = self.batches.replies_refused_for(number, self.fate);
                if replies.is_some_and(|it| self.batches.gives_up(number, it, self.fate)) {
                    self.batches.finish(number);
                    return Ok(());
                }
                // Replies that a second channel refuses too: it is their queue, not the channel.
                if replies.is_none_or(|refused_for| refused_for < 2 * REFUSED_FOR) {
                    refusal(&mut self.refused_at)?;
                    self.cautious_since = Instant::now();
                }
            }
            Taken::Due => {}
        }
        self.waiting.push(Box::pin(async move {
            tokio::time::sleep(NACK_REST).await;
            (number, Ok(Taken::Due))
        }));
        Ok(())
    }

    /// A queue or a binding is missing. The channel is well, so that nothing else has to wait for it.
    fn doubt_topology(&mut self, number: u64) {
        let is_known = |at: Instant| at.elapsed() < UNROUTABLE_EVERY;
        if self.unroutable_at.is_some_and(is_known) {
            return;
        }
        self.unroutable_at = Some(Instant::now());
        self.doubt.raise();
        let pending = self.batches.pending.get(&number);
        let returned = pending.and_then(|it| left(it.batch.entries()).next());
        if let Some(Entry { message, .. }) = returned {
            events::message_unroutable(&message.exchange, &message.routing_key);
        }
    }
}

/// Notes that a message was refused: logged once on each channel, and an error after a while.
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

/// Writes messages each after the confirm of the one before; ends with the first that is not taken.
async fn one_by_one(channel: &Channel, messages: &[Entry], careful: bool) -> Result<Taken, Error> {
    for entry in left(messages) {
        let confirm = publish(channel, &entry.message).await?;
        let taken = taken(confirm.await?, careful);
        if taken != Taken::Confirmed {
            return Ok(taken);
        }
        entry.confirm();
    }
    Ok(Taken::Confirmed)
}

/// Waits for the confirms of what is left of a batch.
async fn confirmed(
    messages: &[Entry],
    confirms: Vec<PublisherConfirm>,
    careful: bool,
) -> Result<Taken, Error> {
    let mut all = Taken::Confirmed;
    // Collected first: what is confirmed is no longer left.
    let written: Vec<_> = left(messages).collect();
    for (entry, confirm) in written.into_iter().zip(confirms) {
        match taken(confirm.await?, careful) {
            Taken::Confirmed => entry.confirm(),
            other => all = other,
        }
    }
    Ok(all)
}

/// Whether the broker has a message, which it does not if one that must reach a queue comes back.
fn taken(confirmation: Confirmation, careful: bool) -> Taken {
    match confirmation {
        Confirmation::Ack(None) => Taken::Confirmed,
        Confirmation::Ack(Some(_)) if careful => Taken::Returned,
        // Which message it was is for `returned` itself to say, not for this confirm.
        Confirmation::Ack(Some(returned)) => {
            let id = returned.properties.message_id().as_ref();
            events::reply_returned(id.map_or("", ShortString::as_str));
            Taken::Confirmed
        }
        Confirmation::Nack(_) => {
            events::messages_refused();
            Taken::Refused
        }
        // Only without confirm_select, which `confirming_channel` has done.
        Confirmation::NotRequested => Taken::Refused,
    }
}
