//! Consuming a queue: deliveries out, acknowledgements back, over one channel for as long as it lasts.
//!
//! `acks` implements the channel; `worker` decides which queues are consumed and when that ends.

use std::sync::Arc;

use lapin::Channel;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::amqp::Error;
use crate::amqp::channel::{AckMode, consume};
use crate::amqp::consume::acks::{AckHandle, AckingConsumer};
use crate::amqp::message::Incoming;

/// A delivery that is not acknowledged yet.
///
/// If it is dropped without [`Delivery::ack`], the message is requeued when the channel closes.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Incoming,
    ack: AckHandle,
    /// Its place among all deliveries in hand, over all channels.
    _place: Option<OwnedSemaphorePermit>,
}

impl Delivery {
    /// The delivery tag on its channel.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.ack.tag()
    }

    /// Acknowledges the message.
    pub fn ack(self) {
        self.ack.done();
    }
}

/// Limits the deliveries taken from a queue.
#[derive(Debug, Clone)]
pub struct Window {
    /// The prefetch count: the maximum number of unacknowledged messages on one channel.
    pub prefetch: u16,
    /// One permit for each delivery in hand. The broker fills the prefetch window of each new channel;
    /// without a shared count, deliveries in hand from earlier channels would accumulate.
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

    /// Passes deliveries on and acknowledgements back, until the channel ends (an error) or, once `ending`
    /// is cancelled, everything in hand has been settled.
    ///
    /// # Errors
    /// When the channel ended by itself.
    ///
    /// # Cancellation
    /// Dropping the future leaves the other messages to the broker, which requeues them once the connection
    /// closes.
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
