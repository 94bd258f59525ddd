//! Consuming many queues over one connection, each on a channel of its own that is opened and closed
//! as needed: the queues of webhook endpoints.
//!
//! A subscription ends when its channel does, for whatever reason, and its owner opens another one. What was
//! taken and not acknowledged then goes back to the queue. Which queues, and when, is the owner's
//! business; what goes over the channels is `acks`'s.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::stream::StreamExt;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::{Channel, Connection, Event};
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

/// How long somebody may wait for a channel; the connection may be down.
const CHANNEL_WITHIN: Duration = Duration::from_secs(5);

/// Opens subscriptions; clones are cheap. The connection is kept as long as there is one.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    channels: mpsc::Sender<oneshot::Sender<Channel>>,
    connected: watch::Receiver<bool>,
    lifecycle: Lifecycle,
}

/// Messages from one queue. Dropped, it closes by itself once nobody holds a message any more.
#[derive(Debug)]
pub struct Subscription {
    queue: String,
    messages: Prefetched,
    /// Dropped, it lets the passing end.
    stop: Option<DropGuard>,
    passing: Option<JoinHandle<()>>,
}

/// What a subscription has here already; clones are cheap, and share it.
#[derive(Debug, Clone)]
pub struct Prefetched(
    // A std mutex: held for a look and never across an await. None once no more is taken.
    Arc<Mutex<Option<mpsc::Receiver<SubscriptionDelivery>>>>,
);

/// A message that is not acknowledged yet. Dropped, it goes back to the queue when its subscription closes.
#[derive(Debug)]
pub struct SubscriptionDelivery {
    /// The message.
    pub message: Incoming,
    ack: AckPath,
}

#[derive(Debug)]
enum AckPath {
    Subscription(AckHandle),
    /// It was taken alone, over a channel of its own.
    Alone {
        tag: u64,
        channel: Channel,
    },
}

impl Subscriptions {
    /// Makes the way to subscriptions, and the task that keeps their connection.
    pub fn new(
        target: Target,
        topology: Topology,
        lifecycle: Lifecycle,
    ) -> (
        Self,
        impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let (channels, asked) = mpsc::channel(64);
        let (connected, is_connected) = watch::channel(false);
        let mut link = ChannelOpener {
            topology,
            asked,
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

    /// Begins to take messages from a queue, at most `prefetch` unacknowledged at a time.
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
        // All of it in the task: should whoever opens give up in between, lapin would keep the consumer,
        // and the broker would go on to send to it.
        let passing = self.lifecycle.spawn(async move {
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
                // Never full: it has room for as many as the broker sends.
                sender.try_send(delivery).is_ok()
            };
            // Whatever ended it, its owner sees that it has ended.
            consumer.run(take, stopping.cancelled()).await.ok();
        });
        let ended = |_| Error::ConsumerEnded(queue.to_owned());
        is_open.await.map_err(ended)??;
        Ok(Subscription {
            queue: queue.to_owned(),
            messages: Prefetched(Arc::new(Mutex::new(Some(receiver)))),
            stop: Some(stop),
            passing: Some(passing),
        })
    }

    /// Takes one message from a queue, if there is one.
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

    /// How many consumers a queue has, over all processes.
    ///
    /// # Errors
    /// When there is no connection, or no such queue.
    pub async fn consumers(&self, queue: &str) -> Result<u32, Error> {
        let channel = self.channel().await?;
        Ok(standing(&channel, queue).await?.consumer_count())
    }

    /// How many messages wait in a queue; it may be told late.
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
            // What is left of a channel that has ended comes again.
            Some(messages) if !messages.is_closed() => messages.poll_recv(context),
            _ => Poll::Ready(None),
        });
        next.await
            .ok_or_else(|| Error::ConsumerEnded(self.queue.clone()))
    }

    /// What is here already, for whoever has just dealt with a message.
    #[must_use]
    pub fn waiting(&self) -> Prefetched {
        self.messages.clone()
    }

    /// Hands out nothing more.
    pub fn take_no_more(&self) {
        self.messages.open().take();
    }

    /// Ends it: what was acknowledged is gone, everything else goes back to the queue. What is in hand
    /// is waited for.
    pub async fn close(mut self) {
        self.take_no_more();
        drop(self.stop.take());
        if let Some(passing) = self.passing.take() {
            // A channel that is gone already has done the same.
            drop(tokio::time::timeout(CHANNEL_WITHIN, passing).await);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.take_no_more();
    }
}

impl Prefetched {
    /// The next message, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<SubscriptionDelivery> {
        let mut messages = self.open();
        let messages = messages.as_mut().filter(|it| !it.is_closed())?;
        messages.try_recv().ok()
    }

    fn open(&self) -> MutexGuard<'_, Option<mpsc::Receiver<SubscriptionDelivery>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SubscriptionDelivery {
    /// Tells the broker that the message is dealt with.
    pub async fn ack(self) {
        match self.ack {
            AckPath::Subscription(ack) => ack.done(),
            // On a channel that is gone, the message has gone back already.
            AckPath::Alone { tag, channel } => {
                drop(channel.basic_ack(tag, BasicAckOptions::default()).await);
            }
        }
    }

    /// Puts the message back to where it was.
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
    asked: mpsc::Receiver<oneshot::Sender<Channel>>,
    connected: watch::Sender<bool>,
}

impl ConnectionTask for ChannelOpener {
    fn purpose(&self) -> &'static str {
        "webhooks"
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        self.topology.ensure(connection).await?;
        // After looking for what is missing, which closes channels: those are no news.
        let mut notices = connection.events_listener();
        self.connected.send_replace(true);
        let ended = self.answer(connection, &mut notices).await;
        self.connected.send_replace(false);
        ended.map_err(Error::while_serving)
    }
}

impl ChannelOpener {
    /// Opens channels for whoever asks, until nobody can ask any more or the connection breaks.
    async fn answer(
        &mut self,
        connection: &Connection,
        notices: &mut (impl StreamExt<Item = Event> + Unpin),
    ) -> Result<(), Error> {
        loop {
            // Both branches only wait.
            tokio::select! {
                asked = self.asked.recv() => {
                    let Some(answer) = asked else { return Ok(()) };
                    // Whoever asked may have given up by now; the channel then closes.
                    answer.send(connection.create_channel().await?).ok();
                }
                notice = notices.next() => match notice {
                    // An error of one channel is its owner's; only that of the connection is ours.
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
