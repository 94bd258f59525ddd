//! Consuming a topic exchange from now on: delivers what is published while there is a connection, and
//! marks each gap in which messages may have been missed.
//!
//! The queue lives as long as the connection, so that a listener that is gone costs the broker nothing.
//! Consumers that must not miss a message use a durable queue instead (`subscriptions`).

use std::future::Future;

use futures_util::stream::StreamExt;
use lapin::options::{BasicAckOptions, QueueBindOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::{mpsc, watch};

use crate::lifecycle::Lifecycle;

use crate::amqp::channel::{AckMode, consume, own_queue};
use crate::amqp::link::supervisor::{self, ConnectionTask};
use crate::amqp::message::Incoming;
use crate::amqp::properties::{incoming, short};
use crate::amqp::{Error, Target, Topology};

/// The maximum number of deliveries in flight to the listener.
const PREFETCH: u16 = 500;

/// An item of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message(Box<Incoming>),
    /// The connection was lost and is back: messages may have been missed in between.
    Gap,
}

/// Consumes an exchange in a task until the process stops. The returned flag shows whether there is a
/// connection.
///
/// The loss of a binding cannot be observed, so the binding is declared again as often as the topology is
/// asserted.
pub fn listen(
    target: Target,
    topology: Topology,
    lifecycle: Lifecycle,
    exchange: String,
) -> (
    mpsc::Receiver<Heard>,
    watch::Receiver<bool>,
    impl Future<Output = Result<(), Error>> + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel(usize::from(PREFETCH));
    let (listening, is_listening) = watch::channel(false);
    let mut link = Listener {
        topology,
        exchange,
        items: sender,
        listening,
        lifecycle: lifecycle.clone(),
        again: false,
    };
    let task = async move { supervisor::keep(&target, &lifecycle, &mut link).await };
    (receiver, is_listening, task)
}

struct Listener {
    topology: Topology,
    exchange: String,
    items: mpsc::Sender<Heard>,
    listening: watch::Sender<bool>,
    lifecycle: Lifecycle,
    /// Whether there was a connection before.
    again: bool,
}

impl ConnectionTask for Listener {
    fn purpose(&self) -> &'static str {
        "events"
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        tokio::select! {
            there = self.topology.ensure(connection) => there?,
            () = self.lifecycle.stopping() => return Ok(()),
        }
        let channel = connection.create_channel().await?;
        let (queue, messages) = self.subscribe(&channel).await?;
        let again = std::mem::replace(&mut self.again, true);
        if again && self.items.send(Heard::Gap).await.is_err() {
            return Ok(());
        }
        self.listening.send_replace(true);
        let served = self.pass_on(&channel, &queue, messages).await;
        self.listening.send_replace(false);
        served.map_err(Error::while_serving)
    }
}

impl Listener {
    async fn subscribe(&self, channel: &Channel) -> Result<(String, lapin::Consumer), Error> {
        let name = own_queue(channel).await?;
        self.bind(channel, &name).await?;
        let mode = AckMode::Manual { prefetch: PREFETCH };
        let messages = consume(channel, &name, "", mode).await?;
        Ok((name, messages))
    }

    async fn bind(&self, channel: &Channel, queue: &str) -> Result<(), Error> {
        let (queue, exchange, key) = (short(queue), short(&self.exchange), short("#"));
        let options = QueueBindOptions::default();
        let bound = channel.queue_bind(queue, exchange, key, options, FieldTable::default());
        Ok(bound.await?)
    }

    async fn pass_on(
        &mut self,
        channel: &Channel,
        queue: &str,
        mut messages: lapin::Consumer,
    ) -> Result<(), Error> {
        let mut again = tokio::time::interval(self.topology.every());
        loop {
            // Both are cancel-safe; unacknowledged messages need not be kept at a stop.
            let message = tokio::select! {
                message = messages.next() => message,
                _ = again.tick() => {
                    self.bind(channel, queue).await?;
                    continue;
                }
                () = self.lifecycle.stopping() => return Ok(()),
            };
            let message = message.ok_or_else(|| Error::ConsumerEnded(self.exchange.clone()))??;
            let tag = message.delivery_tag;
            if self
                .items
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
