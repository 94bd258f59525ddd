//! A publish channel: batches on their way over one AMQP channel, which is replaced when it fails. Used by `writer`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::observability::events;

use crate::amqp::Error;
use crate::amqp::publish::batch::{Batch, Entry, left};
use crate::amqp::publish::fate::Fate;
use crate::amqp::publish::pipeline::Pace;
use crate::amqp::publish::refusing::is_replies;

/// Batches on their way over one channel; survives the channel.
#[derive(Debug)]
pub(in crate::amqp) struct PublishChannel {
    pub(in crate::amqp) queue: mpsc::Receiver<Batch>,
    /// So many batches may be pending.
    pub(in crate::amqp) window: usize,
    /// So many messages may be unconfirmed.
    pub(in crate::amqp) in_flight: usize,
    /// A message that has no queue is offered again.
    pub(in crate::amqp) careful: bool,
    /// Unconfirmed, or to be written: in the order in which they came.
    pub(in crate::amqp) pending: BTreeMap<u64, Pending>,
    next: u64,
    pub(in crate::amqp) open: bool,
}

#[derive(Debug)]
pub(in crate::amqp) struct Pending {
    pub(in crate::amqp) batch: Batch,
    written_at: Instant,
    /// How many messages were written then and are not answered for.
    written: usize,
    /// Since when the broker refuses one of them.
    refused_since: Option<Instant>,
}

impl PublishChannel {
    pub(in crate::amqp) const fn new(queue: mpsc::Receiver<Batch>, window: usize) -> Self {
        Self {
            queue,
            window,
            in_flight: window,
            careful: false,
            pending: BTreeMap::new(),
            next: 0,
            open: true,
        }
    }

    /// A publish channel for messages that must reach a queue: one at a time, since lapin attributes a returned
    /// message to the wrong confirm when several are pending.
    pub(in crate::amqp) const fn careful(queue: mpsc::Receiver<Batch>, window: usize) -> Self {
        let mut publish_channel = Self::new(queue, window);
        publish_channel.in_flight = 1;
        publish_channel.careful = true;
        publish_channel
    }

    /// How long a batch has been refused, on this channel and on earlier ones, if it is replies alone.
    pub(in crate::amqp) fn replies_refused_for(
        &mut self,
        number: u64,
        fate: &Fate,
    ) -> Option<Duration> {
        let pending = self.pending.get_mut(&number)?;
        let since = *pending.refused_since.get_or_insert_with(Instant::now);
        is_replies(&pending.batch, &fate.names).then(|| since.elapsed())
    }

    /// Whether a batch of replies is given up, which have been refused for so long.
    pub(in crate::amqp) fn gives_up(
        &self,
        number: u64,
        refused_for: Duration,
        fate: &Fate,
    ) -> bool {
        let Some(pending) = self.pending.get(&number) else {
            return false;
        };
        let gives_up = |entry: &Entry| fate.refusing.gives_up(&entry.message, refused_for);
        let is_over = left(pending.batch.entries()).all(gives_up);
        if is_over {
            for entry in left(pending.batch.entries()) {
                events::reply_refused(&entry.message.message_id);
            }
        }
        is_over
    }

    /// Takes a batch in, which is not written yet; returns its number.
    pub(in crate::amqp) fn admit(&mut self, batch: Batch) -> u64 {
        let number = self.next;
        self.next += 1;
        let pending = Pending {
            batch,
            written_at: Instant::now(),
            written: 0,
            refused_since: None,
        };
        self.pending.insert(number, pending);
        number
    }

    /// Over a new AMQP channel nothing is written yet; returns all numbers, in their order.
    pub(in crate::amqp) fn begin_anew(&mut self) -> impl Iterator<Item = u64> {
        self.pending.iter_mut().map(|(number, pending)| {
            pending.written = 0;
            *number
        })
    }

    /// Notes that what is left of a batch is written now; returns all its messages.
    pub(in crate::amqp) fn note_written(&mut self, number: u64) -> Option<Arc<[Entry]>> {
        let pending = self.pending.get_mut(&number)?;
        pending.written_at = Instant::now();
        pending.written = left(pending.batch.entries()).count();
        Some(Arc::clone(pending.batch.entries()))
    }

    /// Notes that the broker has answered for what was written of a batch; returns how many messages that were.
    pub(in crate::amqp) fn note_answered(&mut self, number: u64) -> usize {
        let pending = self.pending.get_mut(&number);
        pending.map_or(0, |it| std::mem::take(&mut it.written))
    }

    /// Nothing is left of a batch.
    pub(in crate::amqp) fn finish(&mut self, number: u64) {
        if let Some(pending) = self.pending.remove(&number) {
            pending.batch.finish();
        }
    }

    /// Takes out what the broker has not answered for.
    pub(in crate::amqp) fn take_written(&mut self) -> impl Iterator<Item = Batch> {
        let written = self
            .pending
            .extract_if(.., |_, pending| pending.written > 0);
        written.map(|(_, pending)| pending.batch)
    }

    /// Fails when the broker takes too long to confirm something.
    pub(in crate::amqp) fn check_age(&self, pace: &Pace) -> Result<(), Error> {
        // A blocked connection confirms nothing and must not be given up for that, nor for the time
        // that was spent blocked.
        let Some(flowing_since) = *pace.flowing.borrow() else {
            return Ok(());
        };
        let written = self.pending.values().filter(|it| it.written > 0);
        let oldest = written.map(|it| it.written_at.max(flowing_since)).min();
        if oldest.is_some_and(|since| since.elapsed() > pace.timeout) {
            return Err(Error::TimedOut(pace.timeout, "confirming a message"));
        }
        Ok(())
    }
}
