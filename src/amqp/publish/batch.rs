//! A batch: messages that are published together, which of them are confirmed, and the notification of the
//! caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::observability::events;

use crate::amqp::message::Outgoing;

/// Messages that are published together, in order.
#[derive(Debug)]
pub(in crate::amqp) struct Batch {
    messages: Arc<[Entry]>,
    done: oneshot::Sender<()>,
}

/// A message of a batch.
#[derive(Debug)]
pub(in crate::amqp) struct Entry {
    pub(in crate::amqp) message: Outgoing,
    confirmed: AtomicBool,
}

impl Batch {
    pub(in crate::amqp) fn new(messages: Vec<Outgoing>, done: oneshot::Sender<()>) -> Self {
        let entry = |message| Entry {
            message,
            confirmed: AtomicBool::new(false),
        };
        Self {
            messages: messages.into_iter().map(entry).collect(),
            done,
        }
    }

    /// All its messages, confirmed or not.
    pub(in crate::amqp) const fn entries(&self) -> &Arc<[Entry]> {
        &self.messages
    }

    /// Completes the batch: every message is settled.
    pub(in crate::amqp) fn finish(self) {
        events::messages_confirmed(self.messages.len());
        // The caller may have stopped waiting; the messages are published all the same.
        self.done.send(()).ok();
    }
}

impl Entry {
    /// Records the confirm, so that the message is not published again.
    pub(in crate::amqp) fn confirm(&self) {
        self.confirmed.store(true, Ordering::Relaxed);
    }
}

/// The messages that are not confirmed yet, in order.
pub(in crate::amqp) fn unconfirmed(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let is_unconfirmed = |entry: &&Entry| !entry.confirmed.load(Ordering::Relaxed);
    entries.iter().filter(is_unconfirmed)
}
