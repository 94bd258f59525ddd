//! Consuming many queues over one connection, each on a separate channel that is opened and closed as
//! needed: the queues of webhook endpoints.
//!
//! A subscription ends when its channel does, for any reason, and its owner opens another one.
//! Unacknowledged messages are then requeued. The owner decides which queues are consumed, and when; `acks`
//! implements the channels.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::StreamExt;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::{Channel, Connection, Event};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::lifecycle::Lifecycle;

use crate::amqp::channel::{AckMode, consume};
use crate::amqp::consume::acks::{AckHandle, AckingConsumer};
use crate::amqp::link::supervisor::{self, ConnectionTask};
use crate::amqp::message::Incoming;
use crate::amqp::properties::{incoming, short};
use crate::amqp::topology::standing;
use crate::amqp::{Error, Target, Topology};

/// The longest wait for a channel; the connection may be down.
const CHANNEL_WITHIN: Duration = Duration::from_secs(5);

/// Opens subscriptions; clones are cheap. The connection is kept as long as there is one.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    channels: mpsc::Sender<oneshot::Sender<Channel>>,
    connected: watch::Receiver<bool>,
    lifecycle: Lifecycle,
}

/// Deliveries from one queue. Once dropped, it closes by itself when every delivery has been settled.
#[derive(Debug)]
pub struct Subscription {
    queue: String,
    messages: Prefetched,
    /// Dropping it ends the consuming task.
    stop: Option<DropGuard>,
    task: Option<JoinHandle<()>>,
}

/// The deliveries that a subscription has received already; clones are cheap and share them.
#[derive(Debug, Clone)]
pub struct Prefetched(
    // A std mutex: held briefly and never across an await. None once no more are taken.
    Arc<Mutex<Option<mpsc::Receiver<SubscriptionDelivery>>>>,
);

/// A delivery that is not acknowledged yet. If it is dropped, the message is requeued when its subscription
/// closes.
#[derive(Debug)]
pub struct SubscriptionDelivery {
    /// The message.
    pub message: Incoming,
    ack: AckPath,
}

#[derive(Debug)]
enum AckPath {
    Subscription(AckHandle),
    /// It was fetched with `basic.get`, over a separate channel.
    Alone {
        tag: u64,
        channel: Channel,
    },
}

impl Subscriptions {
    /// Makes the handle and the task that keeps the connection.
    pub fn new(
        target: Target,
        topology: Topology,
        lifecycle: Lifecycle,
    ) -> (
        Self,
        impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let (channels, requested) = mpsc::channel(64);
        let (connected, is_connected) = watch::channel(false);
        let mut link = ChannelOpener {
            topology,
            requested,
            connected,
        };
        let subscriptions = Self {
            channels,
            connected: is_connected,
            lifecycle: lifecycle.clone(),
        };
        let task = async move { supervisor::keep(&target, &lifecycle, &mut link).await };
        (subscriptions, task)
    }

    /// Whether there is a connection, as a value to watch.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Begins to consume a queue, with at most `prefetch` unacknowledged messages at a time.
    ///
    /// # Errors
    /// When there is no connection, or the broker refuses.
    pub async fn open(&self, queue: &str, prefetch: u16) -> Result<Subscription, Error> {
        let channel = self.channel().await?;
        let (sender, receiver) = mpsc::channel(prefetch.into());
        let stop = CancellationToken::new();
        let (name, stopping) = (queue.to_owned(), stop.clone());
        let stop = stop.drop_guard();
        let (opened, is_open) = oneshot::channel();
        // All of it runs in the task: if the caller gave up in between, lapin would keep the consumer, and
        // the broker would go on delivering to it.
        let task = self.lifecycle.spawn(async move {
            let messages = match consume(&channel, &name, "", AckMode::Manual { prefetch }).await {
                Ok(messages) => messages,
                Err(error) => return drop(opened.send(Err(error))),
            };
            opened.send(Ok(())).ok();
            let consumer = AckingConsumer {
                channel: &channel,
                messages,
                queue: &name,
                prefetch,
                places: None,
            };
            let take = move |message, ack, _| {
                let delivery = SubscriptionDelivery {
                    message,
                    ack: AckPath::Subscription(ack),
                };
                // Never full: its capacity is the prefetch count.
                sender.try_send(delivery).is_ok()
            };
            // Whatever ended it, the owner sees the closed receiver.
            consumer.run(take, stopping.cancelled()).await.ok();
        });
        let ended = |_| Error::ConsumerEnded(queue.to_owned());
        is_open.await.map_err(ended)??;
        Ok(Subscription {
            queue: queue.to_owned(),
            messages: Prefetched(Arc::new(Mutex::new(Some(receiver)))),
            stop: Some(stop),
            task: Some(task),
        })
    }

    /// Fetches one message from a queue, if there is one.
    ///
    /// # Errors
    /// When there is no connection, or the broker refuses.
    pub async fn take(&self, queue: &str) -> Result<Option<SubscriptionDelivery>, Error> {
        let channel = self.channel().await?;
        let options = BasicGetOptions { no_ack: false };
        let got = channel.basic_get(short(queue), options).await?;
        Ok(got.map(|got| SubscriptionDelivery {
            ack: AckPath::Alone {
                tag: got.delivery.delivery_tag,
                channel,
            },
            message: incoming(got.delivery),
        }))
    }

    /// The number of consumers of a queue, over all processes.
    ///
    /// # Errors
    /// When there is no connection, or no such queue.
    pub async fn consumers(&self, queue: &str) -> Result<u32, Error> {
        let channel = self.channel().await?;
        Ok(standing(&channel, queue).await?.consumer_count())
    }

    /// The number of ready messages in a queue; the broker may report it late.
    ///
    /// # Errors
    /// When there is no connection, or no such queue.
    pub async fn count(&self, queue: &str) -> Result<u32, Error> {
        let channel = self.channel().await?;
        Ok(standing(&channel, queue).await?.message_count())
    }

    async fn channel(&self) -> Result<Channel, Error> {
        let ask = async {
            let (answer, channel) = oneshot::channel();
            self.channels.send(answer).await.ok()?;
            channel.await.ok()
        };
        match tokio::time::timeout(CHANNEL_WITHIN, ask).await {
            Ok(Some(channel)) => Ok(channel),
            _ => Err(Error::TimedOut(CHANNEL_WITHIN, "opening a channel")),
        }
    }
}

impl Subscription {
    /// The next message.
    ///
    /// # Errors
    /// When the subscription has ended.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&self) -> Result<SubscriptionDelivery, Error> {
        let next = poll_fn(|context| match self.messages.open().as_mut() {
            // Deliveries left from a channel that has ended are redelivered.
            Some(messages) if !messages.is_closed() => messages.poll_recv(context),
            _ => Poll::Ready(None),
        });
        next.await
            .ok_or_else(|| Error::ConsumerEnded(self.queue.clone()))
    }

    /// The deliveries received already, for a caller that has just settled one.
    #[must_use]
    pub fn waiting(&self) -> Prefetched {
        self.messages.clone()
    }

    /// Ends the handing out of deliveries.
    pub fn take_no_more(&self) {
        self.messages.open().take();
    }

    /// Ends the subscription: acknowledged messages are gone, all others are requeued. Waits for the
    /// deliveries in hand.
    pub async fn close(mut self) {
        self.take_no_more();
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            // If the channel is gone, the broker has requeued the messages already.
            drop(tokio::time::timeout(CHANNEL_WITHIN, task).await);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.take_no_more();
    }
}

impl Prefetched {
    /// The next delivery that was received already.
    #[must_use]
    pub fn next(&self) -> Option<SubscriptionDelivery> {
        let mut messages = self.open();
        let messages = messages.as_mut().filter(|it| !it.is_closed())?;
        messages.try_recv().ok()
    }

    fn open(&self) -> MutexGuard<'_, Option<mpsc::Receiver<SubscriptionDelivery>>> {
        self.0.lock()
    }
}

impl SubscriptionDelivery {
    /// Acknowledges the message.
    pub async fn ack(self) {
        match self.ack {
            AckPath::Subscription(ack) => ack.done(),
            // If the channel is gone, the message was requeued already.
            AckPath::Alone { tag, channel } => {
                drop(channel.basic_ack(tag, BasicAckOptions::default()).await);
            }
        }
    }

    /// Requeues the message, in its place.
    pub async fn give_back(self) {
        let options = BasicNackOptions {
            requeue: true,
            ..Default::default()
        };
        match self.ack {
            AckPath::Subscription(ack) => ack.give_back(),
            AckPath::Alone { tag, channel } => drop(channel.basic_nack(tag, options).await),
        }
    }
}

struct ChannelOpener {
    topology: Topology,
    requested: mpsc::Receiver<oneshot::Sender<Channel>>,
    connected: watch::Sender<bool>,
}

impl ConnectionTask for ChannelOpener {
    fn purpose(&self) -> &'static str {
        "webhooks"
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        self.topology.ensure(connection).await?;
        // After the topology check, which closes channels: those errors must not be reported here.
        let mut notices = connection.events_listener();
        self.connected.send_replace(true);
        let ended = self.answer(connection, &mut notices).await;
        self.connected.send_replace(false);
        ended.map_err(Error::while_serving)
    }
}

impl ChannelOpener {
    /// Opens channels on request, until every handle is dropped or the connection breaks.
    async fn answer(
        &mut self,
        connection: &Connection,
        notices: &mut (impl StreamExt<Item = Event> + Unpin),
    ) -> Result<(), Error> {
        loop {
            // Both branches are cancel-safe.
            tokio::select! {
                requested = self.requested.recv() => {
                    let Some(answer) = requested else { return Ok(()) };
                    // If the requester has given up, the channel closes.
                    answer.send(connection.create_channel().await?).ok();
                }
                notice = notices.next() => match notice {
                    // An error of one channel belongs to its owner; only a connection error ends this loop.
                    Some(Event::Error(error)) if !connection.status().connected() => {
                        return Err(error.into());
                    }
                    Some(_) => {}
                    None => return Err(Error::ConsumerEnded("the connection".to_owned())),
                },
            }
        }
    }
}
