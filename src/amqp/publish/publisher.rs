//! Publishing: one writer per channel, many unconfirmed messages, republished until confirmed.
//!
//! A batch counts as published when the broker has confirmed all of it. Messages that a lost connection or
//! a refusal leaves unconfirmed are published again, in the same order, with the same message ids: at least
//! once, except for replies whose queue keeps refusing them (`refusing`). Callers wait as long as that
//! takes; a stop without a broker drops the messages.
//!
//! A pipelined channel serves replies and events; careful ones, which wait for each confirm, serve
//! mandatory messages. lapin attributes a returned message to the wrong confirm when several are pending,
//! so only a careful channel can know that a mandatory message was returned; it publishes that message
//! again until a queue takes it. Deferred messages have several careful channels, since many may be
//! deferred at once, and dead letters have a separate one: a delay queue that is missing for long delays
//! neither.
//!
//! Direct replies (RabbitMQ's `amq.rabbitmq.reply-to`) have a separate connection. RabbitMQ 3.10 closes the
//! whole connection (541) over an address that it cannot read, or whose node is not running, and the
//! producer chooses that address. No other messages are lost with that connection, and it is opened when
//! the first direct reply is due.
//!
//! When the broker closes a channel or a connection over a message, `fate` finds that message and gives it
//! up, and republishes the others.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::observability::events;

use crate::amqp::link::supervisor;
use crate::amqp::message::Outgoing;
use crate::amqp::properties::seconds_since_1970;
use crate::amqp::publish::batch::Batch;
use crate::amqp::publish::channel::PublishChannel;
use crate::amqp::publish::direct::{Unreachable, is_direct_reply};
use crate::amqp::publish::fate::Fate;
use crate::amqp::publish::refusing::Refusing;
use crate::amqp::publish::trial::Trials;
use crate::amqp::publish::writer::{Shown, Writer};
use crate::amqp::{Error, Target, Topology};

/// The number of channels for deferred messages, each of which waits for one confirm at a time: with one channel,
/// commands of an account that is offline would hold up the others for a round trip each.
const DEFERRING: usize = 8;

/// The process ends before the broker confirmed; the caller must not count on the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped before the broker confirmed")]
pub struct Stopped;

/// Hands messages to the writers; clones are cheap.
#[derive(Debug, Clone)]
pub struct Publisher {
    pipelined: mpsc::Sender<Batch>,
    dead: mpsc::Sender<Batch>,
    deferring: Deferring,
    direct: mpsc::Sender<Batch>,
    unreachable: Unreachable,
    connected: watch::Receiver<bool>,
    unblocked: watch::Receiver<bool>,
}

impl Publisher {
    /// Makes a publisher and the task that publishes.
    pub fn new(
        target: Target,
        topology: Topology,
        clock: Arc<dyn Clock>,
        lifecycle: Lifecycle,
    ) -> (
        Self,
        impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let window = target.settings().confirm_window;
        let (pipelined, pipelined_queue) = mpsc::channel(window);
        let (dead, dead_queue) = mpsc::channel(16);
        let (direct, direct_queue) = mpsc::channel(window);
        let (connected, is_connected) = watch::channel(false);
        let (unblocked, is_unblocked) = watch::channel(true);
        let unreachable = Unreachable::default();
        let (trials, trying) = Trials::new(
            "suspects",
            target.clone(),
            topology.clone(),
            lifecycle.clone(),
            unreachable.clone(),
        );
        let fate = Fate {
            trials,
            refusing: Refusing::default(),
            names: topology.names().clone(),
            clock,
            lifecycle: lifecycle.clone(),
        };
        let confirm_timeout = target.settings().confirm_timeout;
        let mut publish_channels = vec![
            PublishChannel::new(pipelined_queue, window),
            PublishChannel::careful(dead_queue, window),
        ];
        let deferring = Deferring::new(window, &mut publish_channels);
        let first = Writer {
            purpose: "publish",
            topology: topology.clone(),
            confirm_timeout,
            publish_channels,
            shown: Some(Shown {
                connected,
                unblocked,
            }),
            fate: fate.clone(),
        };
        let second = Writer {
            purpose: "direct-replies",
            topology,
            confirm_timeout,
            publish_channels: vec![PublishChannel::new(direct_queue, window)],
            shown: None,
            fate,
        };
        let task = async move {
            let first = async {
                // Dropped with its work: it holds a handle to the trials, which end when no handle is left.
                let mut first = first;
                supervisor::keep(&target, &lifecycle, &mut first).await
            };
            let second = async {
                let mut second = second;
                if second.has_work().await {
                    supervisor::keep(&target, &lifecycle, &mut second).await?;
                }
                Ok(())
            };
            tokio::try_join!(first, second, trying).map(drop)
        };
        (
            Self {
                pipelined,
                dead,
                deferring,
                direct,
                unreachable,
                connected: is_connected,
                unblocked: is_unblocked,
            },
            task,
        )
    }

    /// Publishes a batch in order; returns once the broker has confirmed all of it. Direct replies are
    /// published after the confirms of the other messages.
    ///
    /// # Errors
    /// When the process ends first.
    ///
    /// # Cancellation
    /// Dropping the future does not withdraw the batch.
    pub async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), Stopped> {
        // One for all: both messages of a reply are the same, however long the first takes to be confirmed.
        let published_at = Some(seconds_since_1970());
        let messages = messages.into_iter().map(|message| Outgoing {
            published_at,
            ..message
        });
        let (direct, others): (Vec<_>, Vec<_>) = messages.partition(is_direct_reply);
        let direct = direct.into_iter().filter(|reply| {
            let is_lost = self.unreachable.contains(reply);
            if is_lost {
                events::reply_returned(&reply.message_id);
            }
            !is_lost
        });
        send(&self.pipelined, others).await?;
        send(&self.direct, direct.collect()).await
    }

    /// Publishes a dead letter, or another mandatory message; returns once a queue has certainly taken it.
    ///
    /// # Errors
    /// When the process ends first.
    pub async fn publish_mandatory(&self, message: Outgoing) -> Result<(), Stopped> {
        send(&self.dead, vec![mandatory(message)]).await
    }

    /// Publishes a message to a delay exchange; returns once its queue has certainly taken it. Several in
    /// flight at the same time may arrive in any order.
    ///
    /// # Errors
    /// When the process ends first.
    pub async fn defer(&self, message: Outgoing) -> Result<(), Stopped> {
        let queue = self.deferring.next().ok_or(Stopped)?;
        send(queue, vec![mandatory(message)]).await
    }

    /// Whether there is a connection, as a value to watch.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Whether the broker accepts messages, as far as is known, as a value to watch.
    #[must_use]
    pub fn unblocked(&self) -> watch::Receiver<bool> {
        self.unblocked.clone()
    }
}

/// The channels for deferred messages, used in turn.
#[derive(Debug, Clone)]
struct Deferring {
    queues: Arc<[mpsc::Sender<Batch>]>,
    turn: Arc<AtomicUsize>,
}

impl Deferring {
    fn new(window: usize, publish_channels: &mut Vec<PublishChannel>) -> Self {
        let queues = (0..DEFERRING).map(|_| {
            let (batches, queue) = mpsc::channel(16);
            publish_channels.push(PublishChannel::careful(queue, window));
            batches
        });
        Self {
            queues: queues.collect(),
            turn: Arc::default(),
        }
    }

    fn next(&self) -> Option<&mpsc::Sender<Batch>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.queues.get(turn % DEFERRING)
    }
}

fn mandatory(message: Outgoing) -> Outgoing {
    Outgoing {
        mandatory: true,
        ..message
    }
}

async fn send(queue: &mpsc::Sender<Batch>, messages: Vec<Outgoing>) -> Result<(), Stopped> {
    if messages.is_empty() {
        return Ok(());
    }
    let (done, confirmed) = oneshot::channel();
    let batch = Batch::new(messages, done);
    queue.send(batch).await.map_err(|_| Stopped)?;
    confirmed.await.map_err(|_| Stopped)
}
