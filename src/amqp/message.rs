//! Messages as the rest of the program sees them, without lapin's types.

use std::collections::BTreeMap;

/// A message to publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The exchange; empty for the default exchange, whose routing key is a queue.
    pub exchange: String,
    /// The routing key, at most 255 bytes.
    pub routing_key: String,
    /// Tells one message from another; a republication has the same.
    pub message_id: String,
    /// AMQP's `type`; left out where it is empty.
    pub message_type: String,
    /// AMQP's `correlation_id`.
    pub correlation_id: Option<String>,
    /// AMQP's `reply_to`.
    pub reply_to: Option<String>,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
    /// The body, JSON in UTF-8 unless it is somebody else's, passed on.
    pub body: Vec<u8>,
    /// Have the broker give it back when no queue takes it.
    pub mandatory: bool,
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
    /// Headers whose values are texts or numbers.
    pub headers: BTreeMap<String, String>,
    /// The broker delivered it before, to somebody who did not finish.
    pub redelivered: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// Headers of dead letters and of resting commands; README documents them.
pub mod header {
    /// The error code that made it a dead letter, or let it rest last.
    pub const CODE: &str = "groupmq-fault-code";
    /// The error in words.
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
    /// The place of a resting command in its lane.
    pub const TICKET: &str = "groupmq-ticket";
}
