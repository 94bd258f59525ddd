//! Browsing a queue: reads each message, removes some, and leaves the others in place.
//!
//! The channel holds every message it has read. Messages that were not removed are requeued when the browse
//! ends, however it ends. Bodies are not kept, so browsing a long queue needs little memory.

use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};

use crate::amqp::message::Incoming;
use crate::amqp::properties::{incoming, short};
use crate::amqp::{Client, Error};

/// A browse of the messages that a queue held when the browse began.
#[derive(Debug)]
pub struct Browse {
    channel: Channel,
    queue: String,
    left: u32,
}

/// A message held by the browse.
#[derive(Debug)]
pub struct BrowsedMessage {
    /// The message.
    pub message: Incoming,
    tag: u64,
}

impl Client {
    /// Begins to browse a queue. Messages that arrive later are not included.
    ///
    /// # Errors
    /// When the queue does not exist, or this user may not read it.
    pub async fn browse(&self, queue: &str) -> Result<Browse, Error> {
        let channel = self.separate_channel().await?;
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
    /// The maximum number of messages still to come.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// The next message. It is held until it is removed or the browse ends.
    ///
    /// # Errors
    /// When the connection is lost; everything that was not removed is then requeued.
    pub async fn next(&mut self) -> Result<Option<BrowsedMessage>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let options = BasicGetOptions { no_ack: false };
        let got = self.channel.basic_get(short(&self.queue), options).await?;
        // None if another consumer took the remaining messages.
        Ok(got.map(|got| BrowsedMessage {
            tag: got.delivery.delivery_tag,
            message: incoming(got.delivery),
        }))
    }

    /// Removes a message permanently.
    ///
    /// # Errors
    /// When the connection is lost; the message is then requeued.
    pub async fn remove(&self, held: &BrowsedMessage) -> Result<(), Error> {
        let options = BasicAckOptions { multiple: false };
        Ok(self.channel.basic_ack(held.tag, options).await?)
    }

    /// Ends the browse and requeues what was not removed.
    ///
    /// # Errors
    /// When the connection is lost, with the same effect.
    pub async fn end(self) -> Result<(), Error> {
        Ok(self.channel.close(200, ShortString::default()).await?)
    }
}
