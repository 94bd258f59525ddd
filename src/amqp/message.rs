//! Messages as the rest of the program sees them, without lapin's types.

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
    /// Tells one message from another; a republication has the same. Left out where it is empty.
    pub message_id: String,
    /// AMQP's `type`; left out where it is empty.
    pub message_type: String,
    /// AMQP's `correlation_id`.
    pub correlation_id: Option<String>,
    /// AMQP's `reply_to`.
    pub reply_to: Option<String>,
    /// AMQP's `content_type`; JSON's where there is none.
    pub content_type: Option<String>,
    /// AMQP's `content_encoding`, of a message that is passed on.
    pub content_encoding: Option<String>,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
    /// The body, JSON in UTF-8 unless it is somebody else's, passed on.
    pub body: Vec<u8>,
    /// Have the broker give it back when no queue takes it.
    pub mandatory: bool,
}

impl Outgoing {
    /// An event, on its way to whoever listens.
    #[must_use]
    pub fn event(event: &Event, names: &Names) -> Self {
        Self {
            exchange: names.events(),
            routing_key: format!("{}.{}", event.session, event.event.as_str()),
            message_id: event.id.to_string(),
            message_type: event.event.as_str().to_owned(),
            // Our own types always can be written.
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
    /// AMQP's `timestamp`: when it was published, as its producer says, in seconds since 1970.
    pub published_at: Option<u64>,
    /// Headers whose values are texts or numbers.
    pub headers: BTreeMap<String, String>,
    /// The broker delivered it before, to somebody who did not finish.
    pub redelivered: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Headers of dead letters and of resting commands; docs/errors.md documents them.
pub mod header {
    /// The error code that made it a dead letter, or let it rest last.
    pub const CODE: &str = "groupmq-fault-code";
    /// The error in words; of a resting command, the last failure.
    pub const REASON: &str = "groupmq-fault-reason";
    /// The exchange that the producer published to; empty for the default exchange.
    pub const EXCHANGE: &str = "groupmq-original-exchange";
    /// The routing key that the producer published with.
    pub const ROUTING_KEY: &str = "groupmq-original-routing-key";
    /// When it was first looked at, RFC 3339.
    pub const FIRST_SEEN: &str = "groupmq-first-seen";
    /// How often the engine failed and the command rested.
    pub const ATTEMPTS: &str = "groupmq-attempts";
    /// How often the command rested.
    pub const RESTS: &str = "groupmq-rests";
    /// A delivery is not to be tried earlier than this, RFC 3339.
    pub const NOT_BEFORE: &str = "groupmq-not-before";
    /// The webhook endpoint that a dead letter was for.
    pub const WEBHOOK: &str = "groupmq-webhook";
    /// The event that it would have told of.
    pub const EVENT: &str = "groupmq-event";
    /// The place of a resting command in its lane.
    pub const TICKET: &str = "groupmq-ticket";
    /// Whether a header is an instruction to the broker, or a note of its own, which is not passed on. A
    /// `CC` or `BCC` that is no list, as a message from another protocol may have it, closes the channel
    /// (406) over which it is published again; one that is a list would send the message elsewhere.
    #[must_use]
    pub fn is_for_the_broker(name: &str) -> bool {
        name.starts_with("x-") || ["CC", "BCC"].contains(&name)
    }

    /// What a command has been through; to be believed only where it is ours.
    pub const TRAVELS: [&str; 6] = [ATTEMPTS, RESTS, TICKET, FIRST_SEEN, CODE, REASON];
}
