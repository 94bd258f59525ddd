//! What has come back to a producer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lapin::message::Delivery;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

/// A reply as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    /// It came to `reply_to`, not over the exchange.
    pub direct: bool,
    /// The routing key it was published with.
    pub routing_key: String,
    /// Its body.
    pub body: Value,
}

/// What has come back so far.
#[derive(Default)]
pub struct Seen {
    // A std mutex: never held across an await.
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    replies: BTreeMap<String, Vec<Reply>>,
    /// Correlation ids of replies on the exchange.
    answered: BTreeSet<String>,
    /// In the order in which each came first.
    events: Vec<Value>,
    event_ids: BTreeSet<String>,
    event_copies: usize,
}

impl Seen {
    /// All replies with a correlation id, repetitions included.
    #[must_use]
    pub fn replies(&self, correlation_id: &str) -> Vec<Reply> {
        let replies = self.inner.lock();
        replies
            .replies
            .get(correlation_id)
            .cloned()
            .unwrap_or_default()
    }

    /// The reply on the exchange that names a command, whatever its correlation id; else null.
    #[must_use]
    pub fn answer_to(&self, command_id: &str) -> Value {
        let seen = self.inner.lock();
        let mut replies = seen.replies.values().flatten();
        replies
            .find(|reply| !reply.direct && reply.body["commandId"] == command_id)
            .map(|reply| reply.body.clone())
            .unwrap_or_default()
    }

    /// How many different commands have a reply on the exchange.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.inner.lock().answered.len()
    }

    /// How many different commands have a reply to `reply_to`.
    #[must_use]
    pub fn answered_directly(&self) -> usize {
        let direct = |replies: &&Vec<Reply>| replies.iter().any(|reply| reply.direct);
        self.inner.lock().replies.values().filter(direct).count()
    }

    /// How many replies came in all, on both ways and with repetitions.
    #[must_use]
    pub fn reply_copies(&self) -> usize {
        self.inner.lock().replies.values().map(Vec::len).sum()
    }

    /// The events that came, each once, in the order in which they came first.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.inner.lock().events.clone()
    }

    /// How many different events came.
    #[must_use]
    pub fn event_count(&self) -> usize {
        self.inner.lock().events.len()
    }

    /// How many events came, with repetitions.
    #[must_use]
    pub fn event_copies(&self) -> usize {
        self.inner.lock().event_copies
    }

    pub(super) fn changed(&self) -> impl Future<Output = ()> {
        self.changed.notified()
    }

    pub(super) fn reply(&self, message: &Delivery, direct: bool) {
        let id = message.properties.correlation_id().as_ref();
        let id = id.map(ToString::to_string).unwrap_or_default();
        let reply = Reply {
            direct,
            routing_key: message.routing_key.to_string(),
            body: serde_json::from_slice(&message.data).unwrap_or_default(),
        };
        let mut seen = self.inner.lock();
        if !direct {
            seen.answered.insert(id.clone());
        }
        seen.replies.entry(id).or_default().push(reply);
        drop(seen);
        self.changed.notify_waiters();
    }

    pub(super) fn event(&self, message: &Delivery) {
        let id = message.properties.message_id().as_ref();
        let id = id.map(ToString::to_string).unwrap_or_default();
        let event = serde_json::from_slice(&message.data).unwrap_or_default();
        let mut seen = self.inner.lock();
        if seen.event_ids.insert(id) {
            seen.events.push(event);
        }
        seen.event_copies += 1;
        drop(seen);
        self.changed.notify_waiters();
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("answered", &self.answered())
            .field("answered_directly", &self.answered_directly())
            .field("reply_copies", &self.reply_copies())
            .field("event_copies", &self.event_copies())
            .finish()
    }
}
