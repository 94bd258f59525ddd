//! Publishes the batches of one publish channel over one AMQP channel: writes them, waits for their
//! confirms, and offers refused messages again. Used by `writer`.
//!
//! A batch that the broker refuses or returns pauses for a moment and does not count as unconfirmed
//! meanwhile, so the others continue.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, PublisherConfirm};
use tokio::time::Instant;

use crate::observability::events;

use crate::amqp::channel::publish;
use crate::amqp::publish::batch::{Batch, Entry, unconfirmed};
use crate::amqp::publish::channel::{Pace, PublishChannel};
use crate::amqp::publish::fate::Fate;
use crate::amqp::publish::nacks::{NACK_PAUSE, REFUSED_FOR, refusal};
use crate::amqp::{Doubt, Error};

/// On a channel that is younger than this, or was refused a message within this time, the messages of a
/// batch are written one by one. Otherwise they are pipelined; if one were refused and the next confirmed,
/// an event would be published before its predecessor.
const CAUTION_PERIOD: Duration = Duration::from_secs(3);

/// While mandatory messages are returned, this is logged and the topology checked once per period.
const UNROUTABLE_EVERY: Duration = Duration::from_secs(5);

/// The interval of checking the age of pending confirms.
const TICK: Duration = Duration::from_secs(1);

/// The broker's answer for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Confirmed,
    /// No queue took a mandatory message.
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
    /// Each after the confirm of its predecessor.
    OneByOne,
}

type Waiting<'a> =
    FuturesUnordered<Pin<Box<dyn Future<Output = (u64, Result<Taken, Error>)> + Send + 'a>>>;

/// The publishing over one publish channel, for as long as the AMQP channel lasts.
struct Pipeline<'a> {
    batches: &'a mut PublishChannel,
    channel: &'a Channel,
    fate: &'a Fate,
    doubt: &'a Doubt,
    waiting: Waiting<'a>,
    /// Batches to be written, in this order.
    ready: VecDeque<u64>,
    /// The number of messages that are written and not confirmed.
    unconfirmed: usize,
    refused_at: Option<Instant>,
    unroutable_at: Option<Instant>,
    cautious_since: Instant,
}

/// Writes batches and waits for their confirms, until the queue is closed and everything is confirmed.
pub(in crate::amqp) async fn run(
    batches: &mut PublishChannel,
    channel: &Channel,
    pace: &Pace,
    fate: &Fate,
    doubt: &Doubt,
) -> Result<(), Error> {
    // Batches that an earlier connection left unconfirmed go first, in order.
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
        // Every branch is cancel-safe: receiving, the next confirm and the tick.
        tokio::select! {
            received = pipeline.batches.queue.recv(), if takes_more => match received {
                Some(batch) => {
                    pipeline.admit(batch);
                    // Others finish at the same moment, since they were stored together. One wake-up of the
                    // connection's thread then serves them all.
                    tokio::task::yield_now().await;
                    pipeline.admit_waiting();
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

    fn admit(&mut self, batch: Batch) {
        let number = self.batches.admit(batch);
        self.ready.push_back(number);
    }

    /// Takes the batches that wait in the queue, as far as there is room.
    fn admit_waiting(&mut self) {
        while self.batches.pending.len() < self.batches.window
            && let Ok(batch) = self.batches.queue.try_recv()
        {
            self.admit(batch);
        }
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

    /// Writes the unconfirmed messages of a batch and begins to wait for the confirms.
    async fn write(&mut self, number: u64) -> Result<(), Error> {
        let (channel, careful) = (self.channel, self.batches.careful);
        let Some(messages) = self.batches.note_written(number) else {
            return Ok(());
        };
        let count = unconfirmed(&messages).count();
        self.unconfirmed += count;
        if self.mode() == WriteMode::OneByOne && count > 1 {
            self.waiting.push(Box::pin(async move {
                (number, one_by_one(channel, &messages, careful).await)
            }));
            return Ok(());
        }
        // Each publish takes its delivery tag and its place among the frames when it is first polled, and
        // `join_all` polls in order: one writer, pipelined, without a wait per message.
        let written = unconfirmed(&messages).map(|entry| publish(channel, &entry.message));
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

    /// Handles the broker's answer for a batch.
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
                // If a second channel refuses the replies too, the cause is their queue and not the
                // channel.
                if replies.is_none_or(|refused_for| refused_for < 2 * REFUSED_FOR) {
                    refusal(&mut self.refused_at)?;
                    self.cautious_since = Instant::now();
                }
            }
            Taken::Due => {}
        }
        self.waiting.push(Box::pin(async move {
            tokio::time::sleep(NACK_PAUSE).await;
            (number, Ok(Taken::Due))
        }));
        Ok(())
    }

    /// A queue or a binding is missing. The channel is healthy, so the other batches continue.
    fn doubt_topology(&mut self, number: u64) {
        let is_known = |at: Instant| at.elapsed() < UNROUTABLE_EVERY;
        if self.unroutable_at.is_some_and(is_known) {
            return;
        }
        self.unroutable_at = Some(Instant::now());
        self.doubt.raise();
        let pending = self.batches.pending.get(&number);
        let returned = pending.and_then(|it| unconfirmed(it.batch.entries()).next());
        if let Some(Entry { message, .. }) = returned {
            events::message_unroutable(&message.exchange, &message.routing_key);
        }
    }
}

/// Writes each message after the confirm of its predecessor; ends with the first that is not taken.
async fn one_by_one(channel: &Channel, messages: &[Entry], careful: bool) -> Result<Taken, Error> {
    for entry in unconfirmed(messages) {
        let confirm = publish(channel, &entry.message).await?;
        let taken = taken(confirm.await?, careful);
        if taken != Taken::Confirmed {
            return Ok(taken);
        }
        entry.confirm();
    }
    Ok(Taken::Confirmed)
}

/// Waits for the confirms of the unconfirmed messages of a batch.
async fn confirmed(
    messages: &[Entry],
    confirms: Vec<PublisherConfirm>,
    careful: bool,
) -> Result<Taken, Error> {
    let mut all = Taken::Confirmed;
    // Collected first, since confirming an entry removes it from `unconfirmed`.
    let written: Vec<_> = unconfirmed(messages).collect();
    for (entry, confirm) in written.into_iter().zip(confirms) {
        match taken(confirm.await?, careful) {
            Taken::Confirmed => entry.confirm(),
            other => all = other,
        }
    }
    Ok(all)
}

/// Whether the broker took a message; a mandatory message that is returned was not taken.
fn taken(confirmation: Confirmation, careful: bool) -> Taken {
    match confirmation {
        Confirmation::Ack(None) => Taken::Confirmed,
        Confirmation::Ack(Some(_)) if careful => Taken::Returned,
        // The returned message itself identifies it, not this confirm.
        Confirmation::Ack(Some(returned)) => {
            let id = returned.properties.message_id().as_ref();
            events::reply_returned(id.map_or("", ShortString::as_str));
            Taken::Confirmed
        }
        Confirmation::Nack(_) => {
            events::messages_refused();
            Taken::Refused
        }
        // Only without confirm_select, which `channel::confirming` has done.
        Confirmation::NotRequested => Taken::Refused,
    }
}
