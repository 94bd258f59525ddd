//! A publish channel: batches in flight over one AMQP channel, which is replaced when it fails. Used by
//! `writer`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::observability::events;

use crate::amqp::Error;
use crate::amqp::publish::batch::{Batch, Entry, unconfirmed};
use crate::amqp::publish::fate::Fate;
use crate::amqp::publish::refusing::is_replies;

/// The time limit for a confirm.
pub(in crate::amqp) struct Pace {
    pub(in crate::amqp) timeout: Duration,
    /// Since when the broker has accepted messages; none while it blocks publishing.
    pub(in crate::amqp) flowing: watch::Receiver<Option<Instant>>,
}

/// Batches in flight over one channel; outlives the AMQP channel.
#[derive(Debug)]
pub(in crate::amqp) struct PublishChannel {
    pub(in crate::amqp) queue: mpsc::Receiver<Batch>,
    /// The maximum number of pending batches.
    pub(in crate::amqp) window: usize,
    /// The maximum number of unconfirmed messages.
    pub(in crate::amqp) in_flight: usize,
    /// A returned message is published again.
    pub(in crate::amqp) careful: bool,
    /// Unconfirmed batches and those to be written, in order of arrival.
    pub(in crate::amqp) pending: BTreeMap<u64, Pending>,
    next: u64,
    pub(in crate::amqp) open: bool,
}

#[derive(Debug)]
pub(in crate::amqp) struct Pending {
    pub(in crate::amqp) batch: Batch,
    written_at: Instant,
    /// The number of messages of the last write that are neither confirmed nor refused yet.
    written: usize,
    /// Since when the broker has refused one of them.
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

    /// How long a batch has been refused, on this channel and earlier ones; none unless only replies are
    /// left of it.
    pub(in crate::amqp) fn replies_refused_for(
        &mut self,
        number: u64,
        fate: &Fate,
    ) -> Option<Duration> {
        let pending = self.pending.get_mut(&number)?;
        let since = *pending.refused_since.get_or_insert_with(Instant::now);
        is_replies(&pending.batch, &fate.names).then(|| since.elapsed())
    }

    /// Whether a batch of replies that has been refused for this long is given up.
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
        let is_over = unconfirmed(pending.batch.entries()).all(gives_up);
        if is_over {
            for entry in unconfirmed(pending.batch.entries()) {
                events::reply_refused(&entry.message.message_id);
            }
        }
        is_over
    }

    /// Adds a batch that is not written yet; returns its number.
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

    /// Marks everything as unwritten, for a new AMQP channel; returns all numbers, in order.
    pub(in crate::amqp) fn begin_anew(&mut self) -> impl Iterator<Item = u64> {
        self.pending.iter_mut().map(|(number, pending)| {
            pending.written = 0;
            *number
        })
    }

    /// Records that the unconfirmed messages of a batch are written now; returns all its messages.
    pub(in crate::amqp) fn note_written(&mut self, number: u64) -> Option<Arc<[Entry]>> {
        let pending = self.pending.get_mut(&number)?;
        pending.written_at = Instant::now();
        pending.written = unconfirmed(pending.batch.entries()).count();
        Some(Arc::clone(pending.batch.entries()))
    }

    /// Records that the broker has answered for the written messages of a batch; returns their number.
    pub(in crate::amqp) fn note_answered(&mut self, number: u64) -> usize {
        let pending = self.pending.get_mut(&number);
        pending.map_or(0, |it| std::mem::take(&mut it.written))
    }

    /// Completes a batch.
    pub(in crate::amqp) fn finish(&mut self, number: u64) {
        if let Some(pending) = self.pending.remove(&number) {
            pending.batch.finish();
        }
    }

    /// Takes out the batches that were written and not answered for.
    pub(in crate::amqp) fn take_written(&mut self) -> impl Iterator<Item = Batch> {
        let written = self
            .pending
            .extract_if(.., |_, pending| pending.written > 0);
        written.map(|(_, pending)| pending.batch)
    }

    /// Fails when a confirm takes too long.
    pub(in crate::amqp) fn check_age(&self, pace: &Pace) -> Result<(), Error> {
        // A blocked connection confirms nothing. It is not given up for that, and blocked time does not
        // count.
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
