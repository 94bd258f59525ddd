//! Events of the connections to the broker, and of messages on their way to it.

use ::metrics::{counter, gauge};
use tracing::{debug, error, info, warn};

use crate::observability::metrics as name;

/// The broker has confirmed messages.
pub fn messages_confirmed(count: usize) {
    counter!(name::CONFIRMED).increment(count as u64);
}

/// The broker refuses messages on a channel; logged when that begins.
pub fn broker_refuses() {
    warn!("the broker rejected a message (basic.nack); publishing it again");
}

/// The broker refused messages; they are published again.
pub fn messages_refused() {
    counter!(name::REFUSED).increment(1);
}

/// A reply's queue does not exist, or is not for replies.
pub fn reply_returned(message_id: &str) {
    debug!(
        message_id,
        "no such reply queue, or one of groupmq's own; the reply is on the replies exchange only"
    );
    counter!(name::RETURNED).increment(1);
}

/// A reply's queue has refused replies for long; the reply is given up.
pub fn reply_refused(message_id: &str) {
    debug!(
        message_id,
        "a reply queue rejects replies (basic.nack); the reply is on the replies exchange only"
    );
    let labels = [("kind", "reply"), ("code", "nack")];
    counter!(name::GIVEN_UP, &labels).increment(1);
}

/// The kind of a message over which the broker closed the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// A command, to a command queue or a delay queue.
    Command,
    /// A reply, to `reply_to`.
    Reply,
    /// A reply, to the replies exchange.
    ReplyCopy,
    /// An event.
    Event,
    /// A delivery to a webhook endpoint.
    Webhook,
    /// A dead letter.
    DeadLetter,
}

/// The broker closes the connection over a message, which is given up. Its text contains exchanges, routing
/// keys and sizes.
pub fn message_given_up(lost: Lost, message_id: &str, code: u16, text: &str) {
    let kind = match lost {
        Lost::Command => "command",
        Lost::Reply => "reply",
        Lost::ReplyCopy => "reply-copy",
        Lost::Event => "event",
        Lost::Webhook => "webhook",
        Lost::DeadLetter => "dead-letter",
    };
    error!(
        message_id,
        kind,
        code,
        text,
        "the broker closed the connection because of a message; the message is given up"
    );
    let labels = [("kind", kind.to_owned()), ("code", code.to_string())];
    counter!(name::GIVEN_UP, &labels).increment(1);
}

/// A message that was given up is kept as a dead letter with this code; `message_given_up` has logged it.
pub fn lost_message_kept(lost: Lost, code: &'static str) {
    match lost {
        Lost::Webhook => counter!(name::WEBHOOK_DEAD).increment(1),
        Lost::Command | Lost::Event | Lost::ReplyCopy => {
            counter!(name::DEAD_LETTERS, "reason" => code).increment(1);
        }
        // A dead letter was counted when it became one; a reply is not kept.
        Lost::DeadLetter | Lost::Reply => {}
    }
}

/// No queue takes a mandatory message; it is published again.
pub fn message_unroutable(exchange: &str, routing_key: &str) {
    error!(
        exchange,
        routing_key,
        "a mandatory message was returned, because no queue is bound for it; publishing it again. Is the topology complete?"
    );
}

/// The broker has blocked publishing for this many more seconds.
pub fn broker_blocked_for(seconds: u64) {
    counter!(name::BLOCKED_SECONDS).increment(seconds);
}

/// The broker began to block publishing.
pub fn broker_blocks(reason: &str) {
    warn!(
        reason,
        "the broker blocks publishing (connection.blocked); waiting"
    );
    gauge!(name::BLOCKED).set(1.0);
}

/// The broker accepts messages again, or the blocked connection is gone.
pub fn broker_unblocks() {
    info!("the broker accepts messages again");
    gauge!(name::BLOCKED).set(0.0);
}

/// A connection to the broker was opened.
pub fn broker_connected(purpose: &'static str) {
    counter!(name::CONNECTIONS, "purpose" => purpose).increment(1);
}

/// A connection to the broker failed, or broke.
pub fn broker_lost(purpose: &'static str) {
    counter!(name::DISCONNECTIONS, "purpose" => purpose).increment(1);
}
