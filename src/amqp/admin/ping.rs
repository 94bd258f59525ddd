//! Pings: messages that show a way on the broker, and are nobody's command or event.
//!
//! AMQP cannot list bindings, so whoever wants to know whether a way is there sends something along it. A
//! ping is taken out by whoever consumes the queue at its end, who says so on the exchange of dead letters,
//! with a key that only the one who pings is bound to: every role may publish there, and nobody else hears
//! it.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;

use crate::amqp::message::{Incoming, Outgoing};
use crate::amqp::properties::short;
use crate::amqp::{Client, Error, Names, Tailed};

/// AMQP's `type` of pings, and of what is said of them. Documented.
const PING: &str = "groupmq.ping";

/// Headers of an answer: the queue that the ping was in, and the exchange by which it came there.
const QUEUE: &str = "groupmq-queue";
const EXCHANGE: &str = "groupmq-original-exchange";

/// Keys of answers begin so; no queue of ours is bound to one.
const ANSWERS: &str = "ping.";

/// A ping that came to a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// What whoever sent it calls it.
    pub id: String,
    /// The queue.
    pub queue: String,
    /// The exchange by which it came there.
    pub exchange: String,
}

/// Pings under way, and a queue for what is said of them.
#[derive(Debug)]
pub struct Pings<'a> {
    client: &'a Client,
    /// The end of the key of answers.
    address: String,
    answers: Tailed,
}

impl Incoming {
    /// Whether it is a ping, to be answered and acknowledged and nothing else.
    #[must_use]
    pub fn is_ping(&self) -> bool {
        self.message_type.as_deref() == Some(PING)
    }

    /// What is to be said of a ping that was in a queue.
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
    /// Opens a queue for what is said of pings.
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
    /// Sends a ping; says whether a queue took it. One that expires at once is gone before anybody sees it,
    /// unless a consumer is ready, or messages are before it.
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

    /// The next ping that came to its queue, and was taken out of it.
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
    fn what_is_said_of_a_ping_reaches_no_queue_of_ours_whatever_its_sender_asks_for() {
        let names = Names::new("groupmq");
        for address in [Names::DEAD_COMMANDS, Names::DEAD_WEBHOOKS, ""] {
            let ping = Incoming {
                message_type: Some(PING.to_owned()),
                correlation_id: Some(address.to_owned()),
                ..Incoming::default()
            };
            assert!(ping.is_ping());
            let said = ping.arrived("groupmq.commands.0", &names);
            assert_eq!(said.exchange, names.dead());
            assert_eq!(said.routing_key, format!("ping.{address}"));
        }
    }
}
