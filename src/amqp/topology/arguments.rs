//! The arguments of queues and exchanges, among them all that prevent loss.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use crate::amqp::Names;
use crate::amqp::properties::short;

/// A delivery that failed this often is dead-lettered: it crashes its consumer. Explicit, since the default
/// differs (none on 3.10, 20 on 4.x), and without a limit 3.10 requeues to the back.
const DELIVERY_LIMIT: i64 = 200;

/// Dead letters are browsed repeatedly and must never be dropped: effectively no limit. (-1 is "unlimited"
/// on 4.x, but 3.10 drops the message at its first return.)
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The argument with the routing key with which a queue dead-letters.
pub(in crate::amqp) const DEAD_LETTER_KEY: &str = "x-dead-letter-routing-key";

fn quorum(delivery_limit: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        short("x-queue-type"),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert(
        short("x-delivery-limit"),
        AMQPValue::LongLongInt(delivery_limit),
    );
    arguments
}

pub(super) fn shard(names: &Names) -> FieldTable {
    let mut arguments = quorum(DELIVERY_LIMIT);
    arguments.insert(short("x-single-active-consumer"), AMQPValue::Boolean(true));
    // At-least-once dead-lettering needs all three; without one it silently becomes at-most-once.
    arguments.insert(short("x-dead-letter-exchange"), text(&names.dead()));
    arguments.insert(short(DEAD_LETTER_KEY), text(Names::DEAD_COMMANDS));
    arguments.insert(short("x-dead-letter-strategy"), text("at-least-once"));
    arguments.insert(short("x-overflow"), text("reject-publish"));
    arguments
}

/// A delay queue. It has one TTL for the whole queue, since only the head of a queue expires.
pub(super) fn delay(names: &Names, tier: Duration) -> FieldTable {
    let mut arguments = quorum(NO_DELIVERY_LIMIT);
    let ttl = i64::try_from(tier.as_millis()).unwrap_or(i64::MAX);
    arguments.insert(short("x-message-ttl"), AMQPValue::LongLongInt(ttl));
    // The routing key stays the message's own, which is the session or the endpoint it returns to.
    arguments.insert(short("x-dead-letter-exchange"), text(&names.back()));
    arguments.insert(short("x-dead-letter-strategy"), text("at-least-once"));
    arguments.insert(short("x-overflow"), text("reject-publish"));
    arguments
}

/// A webhook endpoint's deliveries. They are requeued whenever the endpoint's breaker opens, so the number
/// of deliveries means nothing.
pub(in crate::amqp) fn webhook_queue() -> FieldTable {
    quorum(NO_DELIVERY_LIMIT)
}

/// Commands that wait while the number of shards changes.
pub(in crate::amqp) fn holding_queue() -> FieldTable {
    quorum(NO_DELIVERY_LIMIT)
}

/// The queue that holds the id of a store: see `installation`.
pub(in crate::amqp) fn installation(names: &Names, store: &str) -> FieldTable {
    let mut arguments = kept();
    // RabbitMQ allows a dead-letter routing key only with an exchange.
    arguments.insert(short("x-dead-letter-exchange"), text(&names.dead()));
    arguments.insert(short(DEAD_LETTER_KEY), text(store));
    arguments
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A queue whose messages wait for a person, or one that only counts its consumers.
pub(super) fn kept() -> FieldTable {
    quorum(NO_DELIVERY_LIMIT)
}

/// Messages without a destination go to the alternate exchange: a few dozen unroutable messages would stall
/// an at-least-once delay queue permanently.
pub(super) fn back(names: &Names) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(short("alternate-exchange"), text(&names.orphan()));
    arguments
}
