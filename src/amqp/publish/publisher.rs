//! Publishing: one writer per channel, many messages unconfirmed at once, nothing forgotten.
//!
//! A batch counts as published when the broker has confirmed all of it. What a lost connection or a
//! refusal leaves unconfirmed is written again, in the same order, with the same message ids: at
//! least once, never less, but for replies whose queue refuses them for long (`refusing`). Callers wait as long
//! as that takes; a stop without a broker drops them.
//!
//! Two channels: a pipelined one for replies and events, and a careful one that waits for each
//! confirm. lapin attributes a returned message to the wrong confirm when several are pending, so
//! only the careful one can tell that a mandatory message (a dead letter, a deferred delivery) had no queue.
//!
//! Direct replies (RabbitMQ's `amq.rabbitmq.reply-to`) have a connection of their own. RabbitMQ 3.10
//! closes the whole connection (541) over an address that it cannot read, or whose node is not running,
//! and such an address is for a producer to choose. Nothing else is lost with that connection, and it is
//! made when the first direct reply is due.
//!
//! Whatever the broker closes a channel or a connection over: `fate` sees to it that the message is found
//! and given up, and that the others get through.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::observability::events;

use crate::amqp::link::supervisor;
use crate::amqp::message::Outgoing;
use crate::amqp::publish::batch::Batch;
use crate::amqp::publish::channel::PublishChannel;
use crate::amqp::publish::direct::{Unreachable, is_direct_reply};
use crate::amqp::publish::fate::Fate;
use crate::amqp::publish::refusing::Refusing;
use crate::amqp::publish::trial::Trials;
use crate::amqp::publish::writer::{Shown, Writer};
use crate::amqp::{Error, Target, Topology};

/// The process ends before the broker confirmed; whoever asked must not count on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped before the broker confirmed")]
pub struct Stopped;

/// Hands messages to the writers; clones are cheap.
#[derive(Debug, Clone)]
pub struct Publisher {
    pipelined: mpsc::Sender<Batch>,
    careful: mpsc::Sender<Batch>,
    direct: mpsc::Sender<Batch>,
    unreachable: Unreachable,
    connected: watch::Receiver<bool>,
    unblocked: watch::Receiver<bool>,
}

impl Publisher {
    /// Makes a publisher and the task that does its work.
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
        let (careful, careful_queue) = mpsc::channel(16);
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
        let first = Writer {
            purpose: "publish",
            topology: topology.clone(),
            confirm_timeout,
            publish_channels: vec![
                PublishChannel::new(pipelined_queue, window),
                PublishChannel::careful(careful_queue),
            ],
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
                // The writer ends with its work: it has a hand on the trials, which end when nobody has.
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
                careful,
                direct,
                unreachable,
                connected: is_connected,
                unblocked: is_unblocked,
            },
            task,
        )
    }

    /// Publishes a batch, in its order; returns once the broker has confirmed all of it. Direct replies
    /// go when it has the rest.
    ///
    /// # Errors
    /// When the process ends first.
    ///
    /// # Cancellation
    /// Dropping the future does not take the batch back.
    pub async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), Stopped> {
        let (direct, others): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_direct_reply);
        let direct = direct.into_iter().filter(|reply| {
            let is_lost = self.unreachable.has(reply);
            if is_lost {
                events::reply_returned(&reply.message_id);
            }
            !is_lost
        });
        send(&self.pipelined, others).await?;
        send(&self.direct, direct.collect()).await
    }

    /// Publishes a message that must reach a queue; returns once one has it for certain.
    ///
    /// # Errors
    /// When the process ends first.
    pub async fn publish_mandatory(&self, message: Outgoing) -> Result<(), Stopped> {
        let message = Outgoing {
            mandatory: true,
            ..message
        };
        send(&self.careful, vec![message]).await
    }

    /// Whether there is a connection to write to, as a value to watch.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Whether the broker takes messages, as far as is known, as a value to watch.
    #[must_use]
    pub fn unblocked(&self) -> watch::Receiver<bool> {
        self.unblocked.clone()
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
