//! Messages in the form that other modules use, without lapin's types.

use std::collections::BTreeMap;

use super::Names;
use crate::contract::Event;

/// A message to publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The exchange; empty for the default exchange, whose routing key is a queue.
    pub exchange: String,
    /// The routing key, at most 255 bytes.
    pub routing_key: String,
    /// Identifies the message; a republication has the same id. Omitted if empty.
    pub message_id: String,
    /// AMQP's `type`; omitted if empty.
    pub message_type: String,
    /// AMQP's `correlation_id`.
    pub correlation_id: Option<String>,
    /// AMQP's `reply_to`.
    pub reply_to: Option<String>,
    /// AMQP's `content_type`; JSON's if none.
    pub content_type: Option<String>,
    /// AMQP's `content_encoding`, of a message that is forwarded.
    pub content_encoding: Option<String>,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
    /// The body: JSON in UTF-8, or the unchanged body of a forwarded message.
    pub body: Vec<u8>,
    /// The broker returns it when no queue takes it.
    pub mandatory: bool,
    /// AMQP's `timestamp`, in seconds since 1970; the time when it is written if none.
    pub published_at: Option<u64>,
}

impl Outgoing {
    /// An event, for the events exchange.
    #[must_use]
    pub fn event(event: &Event, names: &Names) -> Self {
        Self {
            exchange: names.events(),
            routing_key: format!("{}.{}", event.session, event.event.as_str()),
            message_id: event.id.to_string(),
            message_type: event.event.as_str().to_owned(),
            // Our own types can always be serialized.
            body: serde_json::to_vec(event).unwrap_or_default(),
            ..Self::default()
        }
    }
}

/// A message that arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The exchange it was published to; empty for the default exchange.
    pub exchange: String,
    /// The routing key it was published with.
    pub routing_key: String,
    /// AMQP's `message_id`.
    pub message_id: Option<String>,
    /// AMQP's `type`.
    pub message_type: Option<String>,
    /// AMQP's `correlation_id`.
    pub correlation_id: Option<String>,
    /// AMQP's `reply_to`.
    pub reply_to: Option<String>,
    /// AMQP's `content_type`.
    pub content_type: Option<String>,
    /// AMQP's `content_encoding`.
    pub content_encoding: Option<String>,
    /// AMQP's `timestamp`: the producer's time of publishing, in seconds since 1970.
    pub published_at: Option<u64>,
    /// Headers whose values are strings or numbers.
    pub headers: BTreeMap<String, String>,
    /// The broker delivered it before, to a consumer that did not acknowledge it.
    pub redelivered: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Headers of dead letters and of deferred commands; docs/errors.md documents them.
pub mod header {
    /// The error code of a dead letter, or of the last deferral.
    pub const CODE: &str = "groupmq-fault-code";
    /// The error in words; for a deferred command, the last failure.
    pub const REASON: &str = "groupmq-fault-reason";
    /// The exchange that the producer published to; empty for the default exchange.
    pub const EXCHANGE: &str = "groupmq-original-exchange";
    /// The routing key that the producer published with.
    pub const ROUTING_KEY: &str = "groupmq-original-routing-key";
    /// When it was first received, RFC 3339.
    pub const FIRST_SEEN: &str = "groupmq-first-seen";
    /// The number of deferrals because the engine failed.
    pub const ATTEMPTS: &str = "groupmq-attempts";
    /// The number of deferrals.
    pub const DEFERRALS: &str = "groupmq-rests";
    /// The earliest time of the next attempt to deliver, RFC 3339.
    pub const NOT_BEFORE: &str = "groupmq-not-before";
    /// The webhook endpoint of a dead letter.
    pub const WEBHOOK: &str = "groupmq-webhook";
    /// The event of a dead letter of webhooks.
    pub const EVENT: &str = "groupmq-event";
    /// The position of a deferred command in its lane.
    pub const TICKET: &str = "groupmq-ticket";
    /// On a dead letter whose picture was replaced by its digest; such a letter cannot be replayed.
    pub const PICTURE: &str = "groupmq-picture";
    /// Whether a header is an instruction to the broker or a record of the broker, neither of which is
    /// forwarded. A `CC` or `BCC` that is not a list, which messages from other protocols may have, makes
    /// the broker close the channel (406) when the message is published again; a list would route the
    /// message elsewhere.
    #[must_use]
    pub fn is_for_the_broker(name: &str) -> bool {
        name.starts_with("x-") || ["CC", "BCC"].contains(&name)
    }

    /// The retry state of a command; trusted only in messages that groupmq published.
    pub const RETRY_STATE: [&str; 6] = [ATTEMPTS, DEFERRALS, TICKET, FIRST_SEEN, CODE, REASON];
}
