//! A consuming channel: hands out deliveries and batches the acknowledgements that come back.
//!
//! A delivery is acknowledged on the channel that it came over and on no other: each channel has its own
//! buffer, so an acknowledgement that comes late has no effect. Acknowledgements are collected for a moment and
//! sent as one where they are contiguous. Used by `consumer` and `subscriptions`, which open the channels.

use std::collections::BTreeSet;
use std::future::Future;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::ShortString;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::amqp::Error;
use crate::amqp::message::Incoming;
use crate::amqp::properties::incoming;

/// The longest time an acknowledgement is held back so that several can be sent as one.
const ACK_PAUSE: Duration = Duration::from_millis(2);
/// The number of acknowledgements that are sent at once; half of the prefetch count where that is less.
const ACK_BATCH: usize = 64;

/// How long an acknowledgement waits for those of older deliveries, so that one frame, and one entry in the log of
/// a quorum queue, covers all of them.
const HOLD: Duration = Duration::from_millis(50);

/// At a stop, how often to ask the broker whether it has processed the acknowledgements.
const SETTLING: usize = 5;
/// The pause between two such questions.
const SETTLING_PAUSE: Duration = Duration::from_millis(20);

/// Acknowledges one delivery. If it is dropped, the message returns to the queue when the channel closes.
#[derive(Debug)]
pub(in crate::amqp) struct AckHandle {
    tag: u64,
    acks: Arc<AckBuffer>,
}

/// The acknowledgements that were not sent yet. The sender is woken for the first one and for a full batch, not
/// for each.
#[derive(Debug)]
struct AckBuffer {
    batch: usize,
    // A std mutex: held for a push and never across an await.
    settled: Mutex<Settled>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Settled {
    done: Vec<u64>,
    given_back: Vec<u64>,
    /// Deliveries that are not settled yet.
    held: usize,
}

impl AckHandle {
    fn new(tag: u64, acks: &Arc<AckBuffer>) -> Self {
        acks.settled.lock().held += 1;
        let acks = Arc::clone(acks);
        Self { tag, acks }
    }

    /// The delivery tag, which is unique on its channel.
    pub(in crate::amqp) const fn tag(&self) -> u64 {
        self.tag
    }

    /// Acknowledges the message.
    pub(in crate::amqp) fn done(self) {
        // If the channel is gone, the broker redelivers the message.
        let mut settled = self.acks.settled.lock();
        settled.done.push(self.tag);
        let count = settled.done.len();
        drop(settled);
        if count == 1 || count == self.acks.batch {
            self.acks.wake.notify_one();
        }
    }

    /// Requeues the message, in its place.
    pub(in crate::amqp) fn give_back(self) {
        // If the channel is gone, the broker has requeued it already.
        self.acks.settled.lock().given_back.push(self.tag);
        self.acks.wake.notify_one();
    }
}

impl Drop for AckHandle {
    fn drop(&mut self) {
        let mut settled = self.acks.settled.lock();
        settled.held -= 1;
        let is_last = settled.held == 0;
        drop(settled);
        if is_last {
            self.acks.wake.notify_one();
        }
    }
}

impl AckBuffer {
    fn new(prefetch: u16) -> Self {
        Self {
            batch: ACK_BATCH.min(usize::from(prefetch) / 2).max(1),
            settled: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Takes the acknowledgements since the last call; none while they may be held back.
    fn take(&self) -> Option<Settled> {
        let settled = self.settled.lock();
        let may_wait =
            settled.done.len() < self.batch && settled.given_back.is_empty() && settled.held > 0;
        drop(settled);
        (!may_wait).then(|| self.take_all())
    }

    fn take_all(&self) -> Settled {
        let mut settled = self.settled.lock();
        Settled {
            done: mem::take(&mut settled.done),
            given_back: mem::take(&mut settled.given_back),
            held: settled.held,
        }
    }
}

/// A channel on which a queue is consumed.
pub(in crate::amqp) struct AckingConsumer<'a> {
    pub(in crate::amqp) channel: &'a Channel,
    pub(in crate::amqp) messages: lapin::Consumer,
    pub(in crate::amqp) queue: &'a str,
    pub(in crate::amqp) prefetch: u16,
    /// Limits the deliveries in hand over all channels that succeed one another.
    pub(in crate::amqp) places: Option<&'a Arc<Semaphore>>,
}

impl AckingConsumer<'_> {
    /// Passes deliveries to `take` and sends acknowledgements, until the channel ends, or until `stop`
    /// resolves and every delivery has been settled. `take` is dropped at `stop`, or when it returns false.
    ///
    /// # Errors
    /// When the channel ends.
    pub(in crate::amqp) async fn run(
        mut self,
        take: impl FnMut(Incoming, AckHandle, Option<OwnedSemaphorePermit>) -> bool,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let acks = Arc::new(AckBuffer::new(self.prefetch));
        let mut take = Some(take);
        let mut unacked = Unacked::new(self.prefetch);
        let mut stop = pin!(stop);
        let mut pause = pin!(tokio::time::sleep(ACK_PAUSE));
        let mut pausing = false;
        let mut hold = pin!(tokio::time::sleep(HOLD));
        let mut waiting = None;
        loop {
            // Every branch is cancel-safe: `waiting` keeps the message; the notification and the sleep hold
            // no state.
            tokio::select! {
                next = next(self.places, &mut self.messages, &mut waiting), if take.is_some() => {
                    let (message, place) = next
                        .ok_or_else(|| Error::ConsumerEnded(self.queue.to_owned()))??;
                    let tag = message.delivery_tag;
                    unacked.delivered(tag);
                    let ack = AckHandle::new(tag, &acks);
                    let message = incoming(message);
                    // The receiver is gone, which is treated as a stop.
                    if !take.as_mut().is_some_and(|take| take(message, ack, place)) {
                        take = None;
                        acks.wake.notify_one();
                    }
                }
                () = acks.wake.notified() => {
                    if let Some(settled) = acks.take() {
                        pausing = false;
                        let is_over = take.is_none() && settled.held == 0;
                        unacked.settle(settled, self.channel).await?;
                        if is_over {
                            unacked.flush(self.channel, u64::MAX).await?;
                            break;
                        }
                    } else if !pausing {
                        pausing = true;
                        pause.as_mut().reset(Instant::now() + ACK_PAUSE);
                    }
                }
                () = &mut pause, if pausing => {
                    pausing = false;
                    unacked.settle(acks.take_all(), self.channel).await?;
                }
                () = &mut hold, if unacked.held.is_some() => {
                    let due = unacked.held.take().unwrap_or_default();
                    unacked.flush(self.channel, due).await?;
                }
                () = &mut stop, if take.is_some() => {
                    // Takes no more. Prefetched deliveries are requeued when the channel closes, which is
                    // after everything in hand has been acknowledged: closing the channel hands the queue
                    // over in order, whereas `basic.cancel` would let the next consumer overtake.
                    take = None;
                    acks.wake.notify_one();
                }
            }
            if unacked.begins_to_hold() {
                hold.as_mut().reset(Instant::now() + HOLD);
            }
        }
        let_settle(self.channel, self.prefetch).await?;
        self.channel.close(200, ShortString::default()).await?;
        Ok(())
    }
}

/// Gives the broker time to process the acknowledgements before a channel closes.
///
/// Acknowledgements have no answer, and a queue that is busy writing accepts only a few at a time (32 with
/// RabbitMQ 3.10): the others wait in the broker's side of the channel and are lost with it. The next
/// worker would only replay the answers, but an orderly stop should leave nothing to redeliver.
pub(in crate::amqp) async fn let_settle(channel: &Channel, prefetch: u16) -> Result<(), Error> {
    for _ in 0..SETTLING {
        // Changes nothing; the broker answers it after it has processed everything sent before.
        channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await?;
        tokio::time::sleep(SETTLING_PAUSE).await;
    }
    Ok(())
}

/// The next message, once there is a place for it; none when the stream has ended.
///
/// It waits for the message first and for the place second, so that a queue without messages does not keep
/// a place from the others. If it is dropped before there is a place, the message stays in `waiting` for
/// the next call.
async fn next<M>(
    places: Option<&Arc<Semaphore>>,
    messages: &mut (impl Stream<Item = lapin::Result<M>> + Unpin),
    waiting: &mut Option<M>,
) -> Option<lapin::Result<(M, Option<OwnedSemaphorePermit>)>> {
    if waiting.is_none() {
        match messages.next().await? {
            Ok(message) => *waiting = Some(message),
            Err(error) => return Some(Err(error)),
        }
    }
    let place = match places {
        // Never closed: it lives as long as the consumer.
        Some(places) => Arc::clone(places).acquire_owned().await.ok(),
        None => None,
    };
    waiting.take().map(|message| Ok((message, place)))
}

/// The delivery tags of a channel that are unacknowledged, and those that are done but not yet acknowledged, since an
/// older one is open.
#[derive(Debug)]
struct Unacked {
    open: BTreeSet<u64>,
    done: BTreeSet<u64>,
    /// The number of tags in `done` from which they are acknowledged one by one: they take places of the prefetch
    /// window.
    most: usize,
    /// The last tag that was in `done` when it began to hold some back.
    held: Option<u64>,
}

impl Unacked {
    fn new(prefetch: u16) -> Self {
        Self {
            open: BTreeSet::new(),
            done: BTreeSet::new(),
            most: usize::from(prefetch) / 4,
            held: None,
        }
    }

    fn delivered(&mut self, tag: u64) {
        self.open.insert(tag);
    }

    /// Sends the acknowledgements that are due to the broker.
    async fn settle(&mut self, settled: Settled, channel: &Channel) -> Result<(), Error> {
        // Before any acknowledgement, since one may cover all tags up to its own.
        for tag in settled.given_back {
            if self.open.remove(&tag) {
                let options = BasicNackOptions {
                    requeue: true,
                    ..Default::default()
                };
                channel.basic_nack(tag, options).await?;
            }
        }
        for tag in settled.done {
            self.done(tag);
        }
        self.flush(channel, 0).await
    }

    fn done(&mut self, tag: u64) {
        if self.open.remove(&tag) {
            self.done.insert(tag);
        }
    }

    /// Whether tags are held back from now on.
    fn begins_to_hold(&mut self) -> bool {
        let begins = self.held.is_none() && !self.done.is_empty();
        if begins {
            self.held = self.done.last().copied();
        }
        begins
    }

    /// One multiple acknowledgement for everything before the oldest open delivery; and single ones for the others
    /// up to `due`, or for all if there are many: a slow delivery must not block the prefetch window.
    fn take(&mut self, due: u64) -> (Option<u64>, BTreeSet<u64>) {
        let oldest_open = self.open.first().copied().unwrap_or(u64::MAX);
        let mut single = self.done.split_off(&oldest_open);
        let contiguous = std::mem::take(&mut self.done);
        if single.len() <= self.most {
            self.done = single.split_off(&due.saturating_add(1));
        }
        if self.done.is_empty() {
            self.held = None;
        }
        (contiguous.last().copied(), single)
    }

    async fn flush(&mut self, channel: &Channel, due: u64) -> Result<(), Error> {
        let (contiguous, single) = self.take(due);
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
    use futures_util::FutureExt as _;
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn a_queue_without_messages_keeps_no_place_from_another() {
        let places = Arc::new(Semaphore::new(1));
        let (mut quiet, mut none) = (stream::pending::<lapin::Result<u8>>(), None);
        let mut waits = Box::pin(next(Some(&places), &mut quiet, &mut none));
        assert!(waits.as_mut().now_or_never().is_none());
        let (mut busy, mut waiting) = (stream::iter([Ok(1)]), None);
        let taken = next(Some(&places), &mut busy, &mut waiting).now_or_never();
        let (message, place) = taken.unwrap().unwrap().unwrap();
        assert!(message == 1 && place.is_some());
    }

    #[tokio::test]
    async fn a_message_that_waits_for_a_place_is_kept_and_comes_first() {
        let places = Arc::new(Semaphore::new(1));
        let taken = Arc::clone(&places).try_acquire_owned().unwrap();
        let (mut messages, mut waiting) = (stream::iter([Ok(1), Ok(2)]), None);
        for _ in 0..2 {
            let cut_off = next(Some(&places), &mut messages, &mut waiting).now_or_never();
            assert!(cut_off.is_none());
            assert_eq!(waiting, Some(1));
        }
        drop(taken);
        for expected in [1, 2] {
            let came = next(Some(&places), &mut messages, &mut waiting).await;
            assert_eq!(came.unwrap().unwrap().0, expected);
        }
        assert!(
            next(Some(&places), &mut messages, &mut waiting)
                .await
                .is_none()
        );
    }

    fn unacked(prefetch: u16, delivered: u64, done: &[u64]) -> Unacked {
        let mut unacked = Unacked::new(prefetch);
        for tag in 1..=delivered {
            unacked.delivered(tag);
        }
        for tag in done {
            unacked.done(*tag);
        }
        unacked
    }

    #[test]
    fn what_precedes_the_oldest_open_delivery_is_acknowledged_as_one_and_the_rest_waits_for_it() {
        let mut unacked = unacked(8, 6, &[2, 1, 5, 3]);
        assert_eq!(unacked.take(0), (Some(3), BTreeSet::new()));
        assert!(unacked.begins_to_hold() && !unacked.begins_to_hold());
        unacked.done(4);
        assert_eq!(unacked.take(0), (Some(5), BTreeSet::new()));
        assert_eq!(unacked.held, None);
        unacked.done(6);
        assert_eq!(unacked.take(0), (Some(6), BTreeSet::new()));
        assert!(unacked.done.is_empty());
    }

    #[test]
    fn what_has_waited_long_enough_or_is_too_much_is_acknowledged_alone() {
        let mut unacked = unacked(8, 8, &[3, 4]);
        assert_eq!(unacked.take(0), (None, BTreeSet::new()));
        assert!(unacked.begins_to_hold());
        unacked.done(6);
        let due = unacked.held.unwrap();
        assert_eq!(unacked.take(due), (None, BTreeSet::from([3, 4, 6])));
        unacked.done(7);
        assert_eq!(unacked.take(4), (None, BTreeSet::new()));
        assert_eq!(unacked.take(u64::MAX), (None, BTreeSet::from([7])));
    }

    #[test]
    fn a_tag_that_was_never_delivered_is_not_acknowledged() {
        let mut unacked = unacked(8, 0, &[7]);
        assert_eq!(unacked.take(u64::MAX), (None, BTreeSet::new()));
    }
}
