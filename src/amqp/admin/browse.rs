//! Walking through a queue: look at each message, remove some, leave the rest.
//!
//! What is looked at is held by this channel; what was not removed goes back to the queue when the
//! browse ends, however it ends. Bodies are not kept, so a long queue needs little memory.

use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};

use crate::amqp::message::Incoming;
use crate::amqp::properties::{incoming, short};
use crate::amqp::{Client, Error};

/// A browse through what a queue held when it began.
#[derive(Debug)]
pub struct Browse {
    channel: Channel,
    queue: String,
    left: u32,
}

/// A message that the browse holds.
#[derive(Debug)]
pub struct BrowsedMessage {
    /// The message.
    pub message: Incoming,
    tag: u64,
}

impl Client {
    /// Begins a browse through a queue. What arrives later is not part of it.
    ///
    /// # Errors
    /// When there is no such queue, or it may not be read.
    pub async fn browse(&self, queue: &str) -> Result<Browse, Error> {
        let channel = self.channel_of_its_own().await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let found = channel
            .queue_declare(short(queue), options, FieldTable::default())
            .await?;
        Ok(Browse {
            channel,
            queue: queue.to_owned(),
            left: found.message_count(),
        })
    }
}

impl Browse {
    /// How many messages are still to come, at most.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// The next message, which is held until the browse ends or it is removed.
    ///
    /// # Errors
    /// When the connection is lost; then everything that was not removed goes back.
    pub async fn next(&mut self) -> Result<Option<BrowsedMessage>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let options = BasicGetOptions { no_ack: false };
        let got = self.channel.basic_get(short(&self.queue), options).await?;
        // Somebody else may be taking messages too.
        Ok(got.map(|got| BrowsedMessage {
            tag: got.delivery.delivery_tag,
            message: incoming(got.delivery),
        }))
    }

    /// Removes a message for good.
    ///
    /// # Errors
    /// When the connection is lost; the message then goes back.
    pub async fn remove(&self, held: &BrowsedMessage) -> Result<(), Error> {
        let options = BasicAckOptions { multiple: false };
        Ok(self.channel.basic_ack(held.tag, options).await?)
    }

    /// Ends the browse: what was not removed goes back.
    ///
    /// # Errors
    /// When the connection is lost, with the same effect.
    pub async fn end(self) -> Result<(), Error> {
        Ok(self.channel.close(200, ShortString::default()).await?)
    }
}
