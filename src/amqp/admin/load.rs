//! Many requests at once, for a load generator: one writer, pipelined confirms, one reply queue. It does not
//! reconnect, and knows neither commands nor deadlines. Called by `groupmq bench`.

use std::future::{Future, pending};
use std::pin::Pin;

use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Confirmation;

use super::client::{CallError, Client, Tailed};
use crate::amqp::message::{Incoming, Outgoing};
use crate::amqp::{Error, Target, channel};

/// A separate connection for many requests in flight.
#[derive(Debug)]
pub struct Load {
    client: Client,
    reply_to: String,
    replies: Tailed,
    events: Option<Tailed>,
    unconfirmed: FuturesUnordered<Confirm>,
}

type Confirm = Pin<Box<dyn Future<Output = (u64, lapin::Result<Confirmation>)> + Send>>;

/// What the broker sends back.
#[derive(Debug)]
pub enum Feedback {
    /// It has confirmed the request with this number.
    Confirmed(u64),
    /// It refused the request with this number (basic.nack).
    Refused(u64),
    /// A reply; its correlation id is the request's number.
    Reply(Incoming),
    /// A message of the exchange that is listened to.
    Event(Incoming),
}

impl Load {
    /// Connects, and makes a reply queue that is deleted with the connection.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub async fn connect(target: &Target) -> Result<Self, Error> {
        let client = Client::connect(target).await?;
        let reply_to = client.own_queue().await?;
        let replies = client.consume(&reply_to).await?;
        Ok(Self {
            client,
            reply_to,
            replies,
            events: None,
            unconfirmed: FuturesUnordered::new(),
        })
    }

    /// Listens to what is published to an exchange from now on, with keys that match one of the patterns.
    ///
    /// # Errors
    /// When the broker is lost or refuses.
    pub async fn listen(&mut self, exchange: &str, patterns: &[String]) -> Result<(), Error> {
        let queue = self.client.own_queue().await?;
        for pattern in patterns {
            self.client.bind(&queue, exchange, pattern).await?;
        }
        self.events = Some(self.client.consume(&queue).await?);
        Ok(())
    }

    /// Hands a request over, which [`Load::next`] writes.
    pub fn publish(&mut self, number: u64, mut message: Outgoing) {
        message.mandatory = true;
        message.reply_to = Some(self.reply_to.clone());
        message.correlation_id = Some(number.to_string());
        let channel = self.client.publishing().clone();
        // It is written when it is first polled, so that a broker that accepts nothing does not hold up the caller.
        self.unconfirmed.push(Box::pin(async move {
            let confirmed = async { channel::publish(&channel, &message).await?.await };
            (number, confirmed.await)
        }));
    }

    /// The number of requests that the broker has neither confirmed nor refused.
    #[must_use]
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Writes what was handed over, and returns what comes back next.
    ///
    /// # Errors
    /// When the broker is lost or refuses, or no queue takes a request.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Feedback, CallError> {
        let events = async {
            match &mut self.events {
                Some(events) => events.next().await,
                None => pending().await,
            }
        };
        // All branches are cancel-safe: streams and consumers.
        tokio::select! {
            Some((number, confirmation)) = self.unconfirmed.next(), if !self.unconfirmed.is_empty() => {
                feedback(number, confirmation?)
            }
            reply = self.replies.next() => Ok(Feedback::Reply(reply?)),
            event = events => Ok(Feedback::Event(event?)),
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.client.close().await;
    }
}

fn feedback(number: u64, confirmation: Confirmation) -> Result<Feedback, CallError> {
    match confirmation {
        // lapin may attribute a returned message to the confirm of another one, with another routing key.
        Confirmation::Ack(Some(returned)) => {
            Err(CallError::Unroutable(returned.routing_key.to_string()))
        }
        Confirmation::Ack(None) | Confirmation::NotRequested => Ok(Feedback::Confirmed(number)),
        Confirmation::Nack(_) => Ok(Feedback::Refused(number)),
    }
}
