//! The writers: they publish batches over the channels of one connection until each is confirmed.
//!
//! A confirmed message is never written again, whatever happens to the others of its batch. When the broker
//! closes the connection over a message, the messages in flight are handed to `fate`, and the next
//! connection serves new ones. Used by `publisher`.

use std::future::pending;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{Stream, StreamExt};
use lapin::types::ShortString;
use lapin::{Connection, Event};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::observability::events;

use crate::amqp::channel;
use crate::amqp::error::why_closed;
use crate::amqp::link::supervisor::ConnectionTask;
use crate::amqp::publish::channel::{Pace, PublishChannel};
use crate::amqp::publish::fate::Fate;
use crate::amqp::publish::pipeline::run;
use crate::amqp::publish::probe::keep_probing;
use crate::amqp::{Error, Topology};

/// The interval of counting blocked time.
const TICK: Duration = Duration::from_millis(100);

/// A connection for publishing.
pub(in crate::amqp) struct Writer {
    pub(in crate::amqp) purpose: &'static str,
    pub(in crate::amqp) topology: Topology,
    pub(in crate::amqp) confirm_timeout: Duration,
    /// One channel each.
    pub(in crate::amqp) publish_channels: Vec<PublishChannel>,
    /// Where the state of the connection is shown.
    pub(in crate::amqp) shown: Option<Shown>,
    pub(in crate::amqp) fate: Fate,
}

/// The state of a connection, for others to watch.
#[derive(Debug)]
pub(in crate::amqp) struct Shown {
    pub(in crate::amqp) connected: watch::Sender<bool>,
    pub(in crate::amqp) unblocked: watch::Sender<bool>,
}

impl Shown {
    /// Finds out and shows whether the broker accepts messages over a connection, by probing an exchange;
    /// never ends.
    pub(in crate::amqp) async fn watch(&self, connection: &Connection, exchange: &str) {
        let unblocked = self.unblocked.subscribe();
        keep_probing(connection, exchange, unblocked, &self.connected).await;
    }

    /// The connection is gone. The broker reports anew to the next one whether it is blocked.
    pub(in crate::amqp) fn end(&self) {
        self.connected.send_replace(false);
        if !*self.unblocked.borrow() {
            self.flows(true, "");
        }
    }

    pub(in crate::amqp) fn flows(&self, flows: bool, reason: &str) {
        if flows {
            events::broker_unblocks();
        } else {
            events::broker_blocks(reason);
        }
        self.unblocked.send_replace(flows);
    }
}

impl Writer {
    /// Waits for the first batch; false when there will be none.
    pub(in crate::amqp) async fn has_work(&mut self) -> bool {
        for publish_channel in &mut self.publish_channels {
            if let Some(batch) = publish_channel.queue.recv().await {
                publish_channel.admit(batch);
                return true;
            }
        }
        false
    }

    /// Hands over the messages in flight, so that each is offered alone; false when there are none.
    fn hand_over(&mut self) -> bool {
        let mut any = false;
        for publish_channel in &mut self.publish_channels {
            let careful = publish_channel.careful;
            for batch in publish_channel.take_written() {
                any = true;
                self.fate.settle(batch, careful);
            }
        }
        any
    }
}

impl ConnectionTask for Writer {
    fn purpose(&self) -> &'static str {
        self.purpose
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        self.topology.ensure(connection).await?;
        // The only reader of events, since lapin does not hand an event to a second one. Opened after the
        // topology check, which closes channels: those errors must not be reported here.
        let mut notices = connection.events_listener();
        let opening = self.publish_channels.iter();
        let channels = try_join_all(opening.map(|_| channel::confirming(connection))).await?;
        let (flow, is_flowing) = watch::channel(Some(Instant::now()));
        let pace = Pace {
            timeout: self.confirm_timeout,
            flowing: is_flowing.clone(),
        };
        let shown = self.shown.as_ref();
        let (fate, doubt) = (&self.fate, self.topology.doubt());
        let watch_events = watch_events(&mut notices, &flow, shown);
        let count_blocked = count_blocked(flow.subscribe(), shown.is_some());
        let watch_alarms = async {
            match shown {
                Some(shown) => shown.watch(connection, &self.fate.names.dead()).await,
                None => pending().await,
            }
        };
        let publish_channels = self.publish_channels.iter_mut().zip(&channels);
        let work =
            try_join_all(publish_channels.map(|(publish_channel, channel)| {
                run(publish_channel, channel, &pace, fate, &doubt)
            }));
        // The first to end decides; unconfirmed batches stay pending in their publish channel.
        let ended = tokio::select! {
            worked = work => worked.map(drop),
            broken = watch_events => broken,
            () = count_blocked => Ok(()),
            () = watch_alarms => Ok(()),
        };
        if let Some(shown) = shown {
            shown.end();
        }
        let Err(error) = ended else {
            // If dropped, a channel would close together with its connection, and lapin logs that as an
            // error. Closing is a courtesy and has a short timeout.
            let closed = channels
                .iter()
                .map(|it| it.close(200, ShortString::default()));
            let closed = join_all(closed);
            drop(tokio::time::timeout(Duration::from_secs(1), closed).await);
            return Ok(());
        };
        let error = why_closed(error, &mut notices).await;
        Err(match error.blame() {
            Some(refusal) if self.hand_over() => Error::Provoked(refusal),
            _ => error.while_serving(),
        })
    }
}

/// Records whether the broker accepts messages; ends with the connection.
async fn watch_events(
    notices: &mut (impl Stream<Item = Event> + Unpin),
    flow: &watch::Sender<Option<Instant>>,
    shown: Option<&Shown>,
) -> Result<(), Error> {
    while let Some(notice) = notices.next().await {
        let (flows, reason) = match notice {
            Event::ConnectionBlocked(reason) => (false, reason),
            Event::ConnectionUnblocked => (true, String::new()),
            Event::Error(error) => return Err(error.into()),
            _ => continue,
        };
        flow.send_replace(flows.then(Instant::now));
        if let Some(shown) = shown {
            shown.flows(flows, &reason);
        }
    }
    Ok(())
}

/// Counts the seconds in which the broker blocks publishing, also while that lasts; never ends.
async fn count_blocked(flowing: watch::Receiver<Option<Instant>>, counts: bool) {
    let mut tick = tokio::time::interval(TICK);
    let mut last = Instant::now();
    let mut uncounted = Duration::ZERO;
    loop {
        let now = tick.tick().await;
        if counts && flowing.borrow().is_none() {
            uncounted += now - last;
            // The counter takes whole seconds.
            events::broker_blocked_for(uncounted.as_secs());
            uncounted -= Duration::from_secs(uncounted.as_secs());
        }
        last = now;
    }
}
