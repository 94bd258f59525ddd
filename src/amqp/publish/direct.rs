//! Direct replies (RabbitMQ's `amq.rabbitmq.reply-to`): recognising them, and remembering unreachable
//! addresses.
//!
//! A requester that is gone may have left thousands of commands, and with RabbitMQ 3.10 each reply to it
//! would cost two connections. So an address over which the broker has closed connections is remembered for
//! a while, and replies to it are not sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::amqp::message::Outgoing;

/// The prefix of the addresses.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to.";

/// The maximum number of unreachable addresses that are remembered, and for how long.
const UNREACHABLE_MAX: usize = 256;
const UNREACHABLE_FOR: Duration = Duration::from_mins(1);

/// Whether a message is a direct reply: to a requester's channel, not to a queue.
pub(in crate::amqp) fn is_direct_reply(message: &Outgoing) -> bool {
    message.exchange.is_empty() && message.routing_key.starts_with(DIRECT_REPLY)
}

/// Addresses of direct replies over which the broker has closed connections.
#[derive(Debug, Clone, Default)]
pub(in crate::amqp) struct Unreachable {
    // A std mutex: held briefly and never across an await.
    addresses: Arc<Mutex<VecDeque<(String, Instant)>>>,
}

impl Unreachable {
    /// Whether a message is a direct reply to one of them.
    pub(in crate::amqp) fn contains(&self, message: &Outgoing) -> bool {
        if !is_direct_reply(message) {
            return false;
        }
        let mut addresses = self.addresses.lock();
        while (addresses.front()).is_some_and(|(_, since)| since.elapsed() > UNREACHABLE_FOR) {
            addresses.pop_front();
        }
        let mut known = addresses.iter().map(|(address, _)| address);
        known.any(|address| *address == message.routing_key)
    }

    /// Records the address of a message, if it is a direct reply.
    pub(in crate::amqp) fn note(&self, message: &Outgoing) {
        if !is_direct_reply(message) {
            return;
        }
        let mut addresses = self.addresses.lock();
        if addresses.len() == UNREACHABLE_MAX {
            addresses.pop_front();
        }
        addresses.push_back((message.routing_key.clone(), Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(queue: impl std::fmt::Display) -> Outgoing {
        Outgoing {
            routing_key: format!("amq.rabbitmq.reply-to.{queue}"),
            ..Outgoing::default()
        }
    }

    #[test]
    fn only_so_many_unreachable_addresses_are_remembered() {
        let unreachable = Unreachable::default();
        for n in 0..=UNREACHABLE_MAX {
            unreachable.note(&to(n));
        }
        assert!(!unreachable.contains(&to(0)) && unreachable.contains(&to(1)));
        assert!(unreachable.contains(&to(UNREACHABLE_MAX)));
    }

    #[test]
    fn a_queue_is_no_address_of_a_direct_reply() {
        let unreachable = Unreachable::default();
        let queue = Outgoing {
            routing_key: "shop".to_owned(),
            ..Outgoing::default()
        };
        let exchange = Outgoing {
            exchange: "groupmq.replies".to_owned(),
            ..to("a")
        };
        for other in [queue, exchange] {
            unreachable.note(&other);
            assert!(!unreachable.contains(&other), "{other:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_address_is_tried_again_after_a_while() {
        let unreachable = Unreachable::default();
        unreachable.note(&to("a"));
        assert!(unreachable.contains(&to("a")));
        tokio::time::advance(UNREACHABLE_FOR + Duration::from_secs(1)).await;
        assert!(!unreachable.contains(&to("a")));
    }
}
