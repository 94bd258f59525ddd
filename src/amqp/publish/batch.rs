//! Messages that are published together: which of them the broker has, and who waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::observability::events;

use crate::amqp::message::Outgoing;

/// Messages that are published together, in their order.
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

    /// All of its messages, confirmed or not.
    pub(in crate::amqp) const fn entries(&self) -> &Arc<[Entry]> {
        &self.messages
    }

    /// Nothing is left of it.
    pub(in crate::amqp) fn finish(self) {
        events::messages_confirmed(self.messages.len());
        // Nobody may be waiting any more; the messages are out all the same.
        self.done.send(()).ok();
    }
}

impl Entry {
    /// The broker has it, so that it is not written again.
    pub(in crate::amqp) fn confirm(&self) {
        self.confirmed.store(true, Ordering::Relaxed);
    }
}

/// What is not confirmed yet, in its order.
pub(in crate::amqp) fn left(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    let is_left = |entry: &&Entry| !entry.confirmed.load(Ordering::Relaxed);
    entries.iter().filter(is_left)
}
