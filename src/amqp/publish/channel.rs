//! A publish channel: batches on their way over one AMQP channel, which is replaced when it fails. Used by `writer`.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::observability::events;

use crate::amqp::publish::batch::{Batch, Entry, left};
use crate::amqp::publish::fate::Fate;
use crate::amqp::publish::refusing::is_replies;

/// Batches on their way over one channel; survives the channel.
#[derive(Debug)]
pub(in crate::amqp) struct PublishChannel {
    pub(in crate::amqp) queue: mpsc::Receiver<Batch>,
    /// So many messages may be unconfirmed.
    pub(in crate::amqp) window: usize,
    /// Each message must reach a queue.
    pub(in crate::amqp) careful: bool,
    /// Written and unconfirmed, or to be written again: in the order of writing.
    pub(in crate::amqp) pending: BTreeMap<u64, Pending>,
    next: u64,
    pub(in crate::amqp) open: bool,
}

#[derive(Debug)]
pub(in crate::amqp) struct Pending {
    pub(in crate::amqp) batch: Batch,
    pub(in crate::amqp) written_at: Instant,
    /// How many messages were written then.
    pub(in crate::amqp) written: usize,
    /// Since when the broker refuses one of them.
    refused_since: Option<Instant>,
}

impl PublishChannel {
    pub(in crate::amqp) const fn new(queue: mpsc::Receiver<Batch>, window: usize) -> Self {
        Self {
            queue,
            window,
            careful: false,
            pending: BTreeMap::new(),
            next: 0,
            open: true,
        }
    }

    /// A publish channel for messages that must reach a queue: one at a time, since lapin attributes a returned
    /// message to the wrong confirm when several are pending.
    pub(in crate::amqp) const fn careful(queue: mpsc::Receiver<Batch>) -> Self {
        let mut publish_channel = Self::new(queue, 1);
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

    /// Nothing is left of a batch; returns how many of its messages were written last.
    pub(in crate::amqp) fn finish(&mut self, number: u64) -> usize {
        let Some(pending) = self.pending.remove(&number) else {
            return 0;
        };
        pending.batch.finish();
        pending.written
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
}
