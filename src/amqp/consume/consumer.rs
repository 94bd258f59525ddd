//! Consuming a queue: deliveries out, acknowledgements back, over one channel for as long as it lasts.
//!
//! What goes over the channel is `acks`'s business; which queues are consumed, and when no more, is
//! for others to say.

use std::sync::Arc;

use lapin::Channel;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::amqp::Error;
use crate::amqp::channel::{AckMode, consume};
use crate::amqp::consume::acks::{AckHandle, AckingConsumer};
use crate::amqp::message::Incoming;

/// A message that arrived and is not acknowledged yet.
///
/// Dropped without [`Delivery::ack`], it goes back to the broker when the channel closes.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Incoming,
    ack: AckHandle,
    /// Its place among those that are in hand, whatever channel they came over.
    _place: Option<OwnedSemaphorePermit>,
}

impl Delivery {
    /// The broker's number for it, on the channel that it came over.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.ack.tag()
    }

    /// Tells the broker that the message is dealt with.
    pub fn ack(self) {
        self.ack.done();
    }
}

/// How much is taken from a queue.
#[derive(Debug, Clone)]
pub struct Window {
    /// Unacknowledged messages that the broker sends over one channel at most.
    pub prefetch: u16,
    /// One for each delivery in hand. With each new channel the broker sends everything anew;
    /// without a common count, what is still in hand from earlier ones would pile up.
    pub places: Arc<Semaphore>,
}

/// A queue that is being consumed.
#[derive(Debug)]
pub struct Consumer {
    queue: String,
    channel: Channel,
    messages: lapin::Consumer,
    window: Window,
}

impl Consumer {
    /// Begins to consume over a channel of its own.
    pub(in crate::amqp) async fn begin(
        channel: Channel,
        queue: &str,
        window: Window,
    ) -> Result<Self, Error> {
        let prefetch = window.prefetch;
        let tag = format!("groupmq-{}", std::process::id());
        let messages = consume(&channel, queue, &tag, AckMode::Manual { prefetch }).await?;
        Ok(Self {
            queue: queue.to_owned(),
            channel,
            messages,
            window,
        })
    }

    /// Passes messages on and acknowledgements back, until the channel ends (an error) or, once
    /// `ending`, what is in hand has been dealt with.
    ///
    /// # Errors
    /// When the channel ended by itself.
    ///
    /// # Cancellation
    /// Dropping the future leaves the rest to the broker, once the connection closes.
    pub async fn run(
        self,
        ending: CancellationToken,
        mut take: impl FnMut(Delivery) + Send,
    ) -> Result<(), Error> {
        let consumer = AckingConsumer {
            channel: &self.channel,
            messages: self.messages,
            queue: &self.queue,
            prefetch: self.window.prefetch,
            places: Some(&self.window.places),
        };
        let take = |message, ack, place| {
            take(Delivery {
                message,
                ack,
                _place: place,
            });
            true
        };
        let ended = consumer.run(take, ending.cancelled()).await;
        ended.map_err(|error| match error {
            Error::ConsumerEnded(_) => error,
            error => error.while_serving(),
        })
    }
}
