//! Pings: messages that test a route on the broker and are neither commands nor events.
//!
//! AMQP cannot list bindings, so the only way to check a route is to send a message along it. The consumer
//! of the queue at its end acknowledges the ping and publishes an answer to the dead-letter exchange, with
//! a routing key that only the sender of the ping has bound: every role may publish to that exchange, and
//! the answer reaches no other queue.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;

use crate::amqp::message::{Incoming, Outgoing};
use crate::amqp::properties::short;
use crate::amqp::{Client, Error, Names, Tailed};

/// AMQP's `type` of pings and of their answers. Documented.
const PING: &str = "groupmq.ping";

/// Headers of an answer: the queue that received the ping, and the exchange that routed it there.
const QUEUE: &str = "groupmq-queue";
const EXCHANGE: &str = "groupmq-original-exchange";

/// The prefix of the routing keys of answers; none of our own queues is bound to one.
const ANSWERS: &str = "ping.";

/// A ping that reached a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// The sender's id of the ping.
    pub id: String,
    /// The queue.
    pub queue: String,
    /// The exchange that routed it there.
    pub exchange: String,
}

/// Pings in flight, and the queue for their answers.
#[derive(Debug)]
pub struct Pings<'a> {
    client: &'a Client,
    /// The last part of the routing key of answers.
    address: String,
    answers: Tailed,
}

impl Incoming {
    /// Whether it is a ping, which is only answered and acknowledged.
    #[must_use]
    pub fn is_ping(&self) -> bool {
        self.message_type.as_deref() == Some(PING)
    }

    /// The answer to a ping that was received from a queue.
    #[must_use]
    pub fn arrived(&self, queue: &str, names: &Names) -> Outgoing {
        let address = self.correlation_id.as_deref().unwrap_or_default();
        Outgoing {
            exchange: names.dead(),
            routing_key: format!("{ANSWERS}{address}"),
            message_id: self.message_id.clone().unwrap_or_default(),
            message_type: PING.to_owned(),
            headers: BTreeMap::from([
                (QUEUE.to_owned(), queue.to_owned()),
                (EXCHANGE.to_owned(), self.exchange.clone()),
            ]),
            ..Outgoing::default()
        }
    }
}

impl Client {
    /// Opens a queue for the answers to pings.
    ///
    /// # Errors
    /// When the broker is lost or refuses; the client cannot be used after that.
    pub async fn pings(&self, names: &Names) -> Result<Pings<'_>, Error> {
        let queue = self.own_queue().await?;
        let (address, key) = (queue.clone(), format!("{ANSWERS}{queue}"));
        self.bind(&queue, &names.dead(), &key).await?;
        Ok(Pings {
            client: self,
            address,
            answers: self.consume(&queue).await?,
        })
    }
}

impl Pings<'_> {
    /// Sends a ping; returns whether a queue took it. A ping with a TTL of zero expires before it is
    /// delivered unless a consumer is ready; behind other messages it stays in the queue.
    ///
    /// # Errors
    /// When the broker is lost or refuses; the client cannot be used after that.
    pub async fn send(
        &self,
        exchange: &str,
        key: &str,
        id: &str,
        expires: Option<Duration>,
    ) -> Result<bool, Error> {
        let mut properties = BasicProperties::default()
            .with_type(short(PING))
            .with_message_id(short(id))
            .with_correlation_id(short(&self.address))
            .with_app_id(short("groupmq"));
        if let Some(expires) = expires {
            properties = properties.with_expiration(short(&expires.as_millis().to_string()));
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let (exchange, key) = (short(exchange), short(key));
        let channel = self.client.publishing();
        let confirm = channel.basic_publish(exchange, key, options, b"{}", properties);
        let confirm = confirm.await?.await?;
        Ok(confirm.is_ack() && confirm.take_message().is_none())
    }

    /// The next answer: a ping reached its queue and was consumed.
    ///
    /// # Errors
    /// When the connection is lost.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Arrived, Error> {
        let answer = self.answers.next().await?;
        let header = |name: &str| answer.headers.get(name).cloned().unwrap_or_default();
        Ok(Arrived {
            id: answer.message_id.clone().unwrap_or_default(),
            queue: header(QUEUE),
            exchange: header(EXCHANGE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_ping_reaches_none_of_our_queues_whatever_its_sender_asks_for() {
        let names = Names::new("groupmq");
        for address in [Names::DEAD_COMMANDS, Names::DEAD_WEBHOOKS, ""] {
            let ping = Incoming {
                message_type: Some(PING.to_owned()),
                correlation_id: Some(address.to_owned()),
                ..Incoming::default()
            };
            assert!(ping.is_ping());
            let answer = ping.arrived("groupmq.commands.0", &names);
            assert_eq!(answer.exchange, names.dead());
            assert_eq!(answer.routing_key, format!("ping.{address}"));
        }
    }
}
