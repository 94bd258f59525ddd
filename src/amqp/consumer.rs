//! Consuming a queue: deliveries out, acknowledgements back, the consumer rebuilt whenever it ends.
//!
//! Acknowledgements go to the channel that the delivery came over and to no other: each channel has
//! its own way back, so a late one ends nowhere. They are collected for a moment and sent as one
//! where they are contiguous.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tracing::info;

use crate::lifecycle::Lifecycle;

use super::message::Incoming;
use super::properties::{incoming, short};
use super::supervisor::{self, Link};
use super::{Error, Target, Topology};

/// Acknowledgements wait for company at most so long …
const ACK_PAUSE: Duration = Duration::from_millis(2);
/// … or until there are so many.
const ACK_BATCH: usize = 64;

/// At a stop, the broker is asked so often whether it has come so far …
const SETTLING: usize = 5;
/// … with so long in between.
const SETTLING_PAUSE: Duration = Duration::from_millis(20);

/// A message that arrived and is not acknowledged yet.
///
/// Dropped without [`Delivery::ack`], it goes back to the broker when the channel closes.
#[derive(Debug)]
pub struct Delivery {
    /// The message.
    pub message: Incoming,
    /// Counts the channels that this process has consumed over: with another one, everything that
    /// was not acknowledged comes again.
    pub channel: u64,
    tag: u64,
    acks: mpsc::UnboundedSender<u64>,
    /// Its place among those that are in hand, whatever channel they came over.
    _place: Option<OwnedSemaphorePermit>,
}

impl Delivery {
    /// Tells the broker that the message is dealt with.
    pub fn ack(self) {
        // The channel it came over may be gone; the broker delivers it again then.
        self.acks.send(self.tag).ok();
    }
}

/// Messages from a queue.
#[derive(Debug)]
pub struct Deliveries {
    queue: mpsc::Receiver<Delivery>,
    consuming: watch::Receiver<bool>,
}

impl Deliveries {
    /// The next message; none once the process stops.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.queue.recv().await
    }

    /// Whether the broker sends messages at the moment, as a value to watch.
    #[must_use]
    pub fn consuming(&self) -> watch::Receiver<bool> {
        self.consuming.clone()
    }
}

/// Consumes a queue until the process stops; the task does the work.
pub fn consume(
    target: Target,
    topology: Topology,
    lifecycle: Lifecycle,
    queue: String,
) -> (
    Deliveries,
    impl Future<Output = Result<(), Error>> + Send + 'static,
) {
    let prefetch = target.settings().prefetch;
    // Never full: the broker holds back what exceeds the prefetch window.
    let (sender, receiver) = mpsc::channel(usize::from(prefetch));
    let (consuming, is_consuming) = watch::channel(false);
    let mut link = Consumer {
        topology,
        queue,
        prefetch,
        deliveries: Some(sender),
        consuming,
        lifecycle: lifecycle.clone(),
        channels: 0,
        places: Arc::new(Semaphore::new(usize::from(prefetch))),
    };
    let task = async move { supervisor::keep(&target, &lifecycle, &mut link).await };
    (
        Deliveries {
            queue: receiver,
            consuming: is_consuming,
        },
        task,
    )
}

struct Consumer {
    topology: Topology,
    queue: String,
    prefetch: u16,
    /// Gone once no more is taken.
    deliveries: Option<mpsc::Sender<Delivery>>,
    consuming: watch::Sender<bool>,
    lifecycle: Lifecycle,
    channels: u64,
    /// One for each delivery in hand. With each new connection the broker sends everything anew;
    /// without a common count, what is still in hand from earlier ones would pile up.
    places: Arc<Semaphore>,
}

impl Link for Consumer {
    fn purpose(&self) -> &'static str {
        "consume"
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        self.topology.ensure(connection).await?;
        let served = self.consume(connection).await;
        self.consuming.send_replace(false);
        served
    }
}

impl Consumer {
    async fn consume(&mut self, connection: &Connection) -> Result<(), Error> {
        let channel = connection.create_channel().await?;
        self.channels += 1;
        channel
            .basic_qos(self.prefetch, BasicQosOptions::default())
            .await?;
        let options = BasicConsumeOptions::default();
        let none = FieldTable::default();
        let tag = short(&format!("groupmq-{}", std::process::id()));
        let messages = channel
            .basic_consume(short(&self.queue), tag, options, none)
            .await?;
        info!(queue = self.queue, "consuming");
        self.consuming.send_replace(true);
        self.pass_on(&channel, messages)
            .await
            .map_err(Error::while_serving)
    }

    /// Passes messages on and acknowledgements back, until the channel ends or the process stops.
    async fn pass_on(
        &mut self,
        channel: &Channel,
        mut messages: lapin::Consumer,
    ) -> Result<(), Error> {
        let (acks, mut acked) = mpsc::unbounded_channel();
        let mut unacked = Unacked::default();
        let lifecycle = self.lifecycle.clone();
        let mut acks = Some(acks);
        loop {
            // Each branch can be dropped: a stream, a channel and a sleep lose nothing by it.
            tokio::select! {
                (place, message) = next(&self.places, &mut messages), if acks.is_some() => {
                    let message = message
                        .ok_or_else(|| Error::ConsumerEnded(self.queue.clone()))??;
                    unacked.delivered(message.delivery_tag);
                    let Some(acks) = acks.clone() else { continue };
                    let tag = message.delivery_tag;
                    let delivery = Delivery {
                        message: incoming(message),
                        channel: self.channels,
                        tag,
                        acks,
                        _place: place,
                    };
                    match &self.deliveries {
                        // Nobody takes deliveries any more: the process stops.
                        Some(sender) if sender.send(delivery).await.is_ok() => {}
                        _ => return Ok(()),
                    }
                }
                tag = acked.recv() => {
                    let Some(tag) = tag else {
                        // Stopping, and nobody holds a delivery any more.
                        unacked.flush(channel).await?;
                        self.let_settle(channel).await?;
                        channel.close(200, ShortString::default()).await?;
                        return Ok(());
                    };
                    unacked.done(tag);
                    if unacked.waiting() >= ACK_BATCH {
                        unacked.flush(channel).await?;
                    }
                }
                () = tokio::time::sleep(ACK_PAUSE), if unacked.waiting() > 0 => {
                    unacked.flush(channel).await?;
                }
                () = lifecycle.stopping(), if acks.is_some() => {
                    // Take no more. What lies prefetched goes back when the channel closes, which
                    // is after what was begun has been acknowledged: closing hands the queue over
                    // in order, where cancelling would let the next consumer overtake.
                    acks = None;
                    self.deliveries = None;
                    self.consuming.send_replace(false);
                }
            }
        }
    }

    /// Gives the broker time for the acknowledgements before the channel closes.
    ///
    /// They have no answer, and a queue that is busy writing takes only so many at a time (32, with
    /// RabbitMQ 3.10): the rest waits in the broker's half of the channel and is lost with it. The
    /// next worker would only repeat the answers; but an orderly stop should leave nothing to repeat.
    async fn let_settle(&self, channel: &Channel) -> Result<(), Error> {
        for _ in 0..SETTLING {
            // Changes nothing, and is answered after everything that was sent before it.
            channel
                .basic_qos(self.prefetch, BasicQosOptions::default())
                .await?;
            tokio::time::sleep(SETTLING_PAUSE).await;
        }
        Ok(())
    }
}

/// The next message, once there is a place for it.
async fn next(
    places: &Arc<Semaphore>,
    messages: &mut lapin::Consumer,
) -> (
    Option<OwnedSemaphorePermit>,
    Option<lapin::Result<lapin::message::Delivery>>,
) {
    // Never closed: it lives as long as the consumer.
    let place = Arc::clone(places).acquire_owned().await.ok();
    (place, messages.next().await)
}

/// Which deliveries of a channel are open, done, and already acknowledged.
#[derive(Debug, Default)]
struct Unacked {
    open: BTreeSet<u64>,
    done: BTreeSet<u64>,
}

impl Unacked {
    fn delivered(&mut self, tag: u64) {
        self.open.insert(tag);
    }

    fn done(&mut self, tag: u64) {
        if self.open.remove(&tag) {
            self.done.insert(tag);
        }
    }

    fn waiting(&self) -> usize {
        self.done.len()
    }

    /// One acknowledgement for everything before the oldest open delivery, one each for the rest:
    /// a slow command must not keep the window from moving.
    fn take(&mut self) -> (Option<u64>, BTreeSet<u64>) {
        let oldest_open = self.open.first().copied().unwrap_or(u64::MAX);
        let single = self.done.split_off(&oldest_open);
        let contiguous = std::mem::take(&mut self.done);
        (contiguous.last().copied(), single)
    }

    async fn flush(&mut self, channel: &Channel) -> Result<(), Error> {
        let (contiguous, single) = self.take();
        if let Some(tag) = contiguous {
            channel
                .basic_ack(tag, BasicAckOptions { multiple: true })
                .await?;
        }
        for tag in single {
            channel
                .basic_ack(tag, BasicAckOptions { multiple: false })
                .await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_precedes_the_oldest_open_delivery_is_acknowledged_as_one() {
        let mut unacked = Unacked::default();
        for tag in 1..=6 {
            unacked.delivered(tag);
        }
        for tag in [2, 1, 5, 3] {
            unacked.done(tag);
        }
        assert_eq!(unacked.take(), (Some(3), BTreeSet::from([5])));
        unacked.done(4);
        assert_eq!(unacked.take(), (Some(4), BTreeSet::new()));
        unacked.done(6);
        assert_eq!(unacked.take(), (Some(6), BTreeSet::new()));
        assert_eq!(unacked.waiting(), 0);
    }

    #[test]
    fn a_tag_that_was_never_delivered_is_not_acknowledged() {
        let mut unacked = Unacked::default();
        unacked.delivered(1);
        unacked.done(7);
        assert_eq!(unacked.take(), (None, BTreeSet::new()));
    }
}
