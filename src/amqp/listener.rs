//! Listening to a topic exchange from now on: what is published while there is a connection, and a
//! word wherever something may have been missed.
//!
//! The queue lives as long as the connection, so that a listener that is gone costs the broker
//! nothing. Whoever must not miss anything has a durable queue instead ([`super::consume`]).

use std::future::Future;

use futures_util::stream::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::sync::{mpsc, watch};

use crate::lifecycle::Lifecycle;

use super::message::Incoming;
use super::properties::{incoming, short};
use super::supervisor::{self, Link};
use super::{Error, Target};

/// Messages on their way to whoever listens, at most.
const PREFETCH: u16 = 500;

/// Something to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message(Box<Incoming>),
    /// The connection was lost and is back: messages may have been missed in between.
    Gap,
}

/// Listens to an exchange until the process stops; the task does the work. The flag beside the
/// messages tells whether there is a connection.
///
/// It declares nothing: it waits until `there` says that somebody else has.
pub fn listen(
    target: Target,
    lifecycle: Lifecycle,
    exchange: String,
    there: watch::Receiver<bool>,
) -> (
    mpsc::Receiver<Heard>,
    watch::Receiver<bool>,
    impl Future<Output = Result<(), Error>> + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel(usize::from(PREFETCH));
    let (listening, is_listening) = watch::channel(false);
    let mut link = Listener {
        there,
        exchange,
        heard: sender,
        listening,
        lifecycle: lifecycle.clone(),
        again: false,
    };
    let task = async move { supervisor::keep(&target, &lifecycle, &mut link).await };
    (receiver, is_listening, task)
}

struct Listener {
    there: watch::Receiver<bool>,
    exchange: String,
    heard: mpsc::Sender<Heard>,
    listening: watch::Sender<bool>,
    lifecycle: Lifecycle,
    /// There was a connection before.
    again: bool,
}

impl Link for Listener {
    fn purpose(&self) -> &'static str {
        "events"
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        // Broken at the same time, both links come back at the same time.
        let there = tokio::select! {
            there = self.there.wait_for(|there| *there) => there.is_ok(),
            () = self.lifecycle.stopping() => false,
        };
        if !there {
            return Ok(());
        }
        let channel = connection.create_channel().await?;
        let messages = self.subscribe(&channel).await?;
        let again = std::mem::replace(&mut self.again, true);
        if again && self.heard.send(Heard::Gap).await.is_err() {
            return Ok(());
        }
        self.listening.send_replace(true);
        let served = self.pass_on(&channel, messages).await;
        self.listening.send_replace(false);
        served.map_err(Error::while_serving)
    }
}

impl Listener {
    async fn subscribe(&self, channel: &Channel) -> Result<lapin::Consumer, Error> {
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        let none = FieldTable::default;
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..Default::default()
        };
        let queue = channel
            .queue_declare(ShortString::default(), options, none())
            .await?;
        let name = queue.name().clone();
        let options = QueueBindOptions::default();
        channel
            .queue_bind(
                name.clone(),
                short(&self.exchange),
                short("#"),
                options,
                none(),
            )
            .await?;
        let options = BasicConsumeOptions::default();
        let messages = channel
            .basic_consume(name, ShortString::default(), options, none())
            .await?;
        Ok(messages)
    }

    async fn pass_on(
        &mut self,
        channel: &Channel,
        mut messages: lapin::Consumer,
    ) -> Result<(), Error> {
        loop {
            // Both can be dropped: what was not acknowledged is nobody's loss at a stop.
            let message = tokio::select! {
                message = messages.next() => message,
                () = self.lifecycle.stopping() => return Ok(()),
            };
            let message = message.ok_or_else(|| Error::ConsumerEnded(self.exchange.clone()))??;
            let tag = message.delivery_tag;
            if self
                .heard
                .send(Heard::Message(Box::new(incoming(message))))
                .await
                .is_err()
            {
                return Ok(());
            }
            channel.basic_ack(tag, BasicAckOptions::default()).await?;
        }
    }
}
