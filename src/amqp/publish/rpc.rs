//! Requests and replies over one supervised connection: one reply queue, one writer, any number in
//! flight.
//!
//! The reply queue lives as long as its connection. When that breaks, replies that were under way
//! are lost with it; so every request that somebody still waits for is sent again over the next
//! connection, with the same message id and the new reply queue. That is safe for what is known by
//! its message id, as commands are. It knows no commands, and no deadlines: who asks gives up by
//! dropping the [`Call`]. Used by the gateway.
//!
//! What the broker had not confirmed when it closed the connection over one of the requests goes another
//! way: each alone, over a connection apart (`trial`). The one that the broker will not have is refused.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, Connection, Event};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::lifecycle::Lifecycle;
use crate::observability::events::{self, Lost};

use crate::amqp::error::why_closed;
use crate::amqp::link::supervisor::{self, Link};
use crate::amqp::message::{Incoming, Outgoing};
use crate::amqp::properties::incoming;
use crate::amqp::publish::call::{Call, Progress, Ticket};
use crate::amqp::publish::direct::Unreachable;
use crate::amqp::publish::pipeline::{self, confirming_channel, refusal};
use crate::amqp::publish::trial::{Trials, Verdict};
use crate::amqp::publish::writer::Shown;
use crate::amqp::{Error, Refusal, Target, Topology};

/// Requests handed over and not yet written, at most: whoever comes then waits.
const QUEUE: usize = 1024;

/// How often those that nobody asks for any more are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// Hands requests to the writer; clones are cheap.
#[derive(Debug, Clone)]
pub struct Requests {
    queue: mpsc::Sender<Pending>,
    connected: watch::Receiver<bool>,
    unblocked: watch::Receiver<bool>,
}

impl Requests {
    /// Makes the way for requests and the task that does the work.
    pub fn new(
        target: Target,
        topology: Topology,
        lifecycle: Lifecycle,
    ) -> (
        Self,
        impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let (queue, asked) = mpsc::channel(QUEUE);
        let (connected, is_connected) = watch::channel(false);
        let (unblocked, is_unblocked) = watch::channel(true);
        let (trials, trying) = Trials::new(
            "suspect-requests",
            target.clone(),
            topology.clone(),
            lifecycle.clone(),
            Unreachable::default(),
        );
        let link = Requester {
            topology,
            asked,
            pending: BTreeMap::new(),
            next: 0,
            trials,
        };
        let shown = Shown {
            connected,
            unblocked,
        };
        let task = async move {
            let asking = async {
                // It ends with its work: it has a hand on the trials, which end when nobody has.
                let mut link = Asking { link, shown };
                supervisor::keep(&target, &lifecycle, &mut link).await
            };
            tokio::try_join!(asking, trying).map(drop)
        };
        (
            Self {
                queue,
                connected: is_connected,
                unblocked: is_unblocked,
            },
            task,
        )
    }

    /// Hands a request over; its `reply_to` and `correlation_id` are set here. None when the
    /// process ends.
    ///
    /// # Cancellation
    /// Dropping the future hands nothing over.
    pub async fn send(&self, message: Outgoing) -> Option<Call> {
        let (told, progress) = watch::channel(Progress::Sent);
        let ticket = Arc::new(Ticket::default());
        let pending = Pending {
            message,
            told,
            ticket: Arc::clone(&ticket),
            died: None,
        };
        self.queue.send(pending).await.ok()?;
        Some(Call { progress, ticket })
    }

    /// Whether requests can be written, as a value to watch.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Whether the broker takes requests, as far as is known, as a value to watch.
    #[must_use]
    pub fn unblocked(&self) -> watch::Receiver<bool> {
        self.unblocked.clone()
    }
}

/// A request without an answer.
#[derive(Debug)]
struct Pending {
    message: Outgoing,
    told: watch::Sender<Progress>,
    ticket: Arc<Ticket>,
    /// When the broker closed the connection that it was under way on, for whatever was.
    died: Option<Instant>,
}

impl Pending {
    /// Whether somebody waits, and would not know without us.
    fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.ticket) > 1
    }
}

struct Requester {
    topology: Topology,
    asked: mpsc::Receiver<Pending>,
    /// By correlation id, which counts up: in the order of asking.
    pending: BTreeMap<u64, Pending>,
    next: u64,
    trials: Trials,
}

/// What the broker said of a request.
enum Said {
    /// It has it.
    Has,
    /// It has this one, or by lapin's account another one, and no queue for it.
    Returned(Option<u64>),
    /// It does not take it.
    Nacked,
    /// It closes the connection over it.
    GivenUp(Refusal),
}

type Saying<'a> = Pin<Box<dyn Future<Output = (u64, lapin::Result<Said>)> + Send + 'a>>;
type Publishing<'a> = FuturesUnordered<Saying<'a>>;

/// The link for requests, and where it is shown how it stands.
struct Asking {
    link: Requester,
    shown: Shown,
}

impl Link for Asking {
    fn purpose(&self) -> &'static str {
        "requests"
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        let Self { link, shown } = self;
        link.topology.ensure(connection).await?;
        // The one reader of events: lapin does not hand an event to a second one.
        // After looking for what is missing, which closes channels: those are no news.
        let mut notices = connection.events_listener();
        let channel = confirming_channel(connection).await?;
        let (reply_to, replies) = own_queue(connection).await?;
        let exchange = link.topology.names().commands();
        // Whichever ends first decides; watching does not end.
        let served = tokio::select! {
            served = link.exchange(&channel, &reply_to, replies, &mut notices, shown) => served,
            () = shown.watch(connection, &exchange) => Ok(()),
        };
        shown.end();
        let Err(error) = served else { return Ok(()) };
        let error = why_closed(error, &mut notices).await;
        Err(match error.blame() {
            Some(refusal) if link.suspect() => Error::Provoked(refusal),
            _ => error.while_serving(),
        })
    }
}

/// A queue for replies that lives as long as the connection, on a channel of its own.
async fn own_queue(connection: &Connection) -> Result<(String, lapin::Consumer), Error> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let queue = channel
        .queue_declare(ShortString::default(), options, FieldTable::default())
        .await?;
    // Replies can be had again, so nothing is gained by acknowledging them.
    let options = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let (tag, none) = (ShortString::default(), FieldTable::default());
    let replies = channel
        .basic_consume(queue.name().clone(), tag, options, none)
        .await?;
    Ok((queue.name().to_string(), replies))
}

impl Requester {
    /// Writes requests and hands out replies until the connection breaks, or nobody asks any more
    /// and everybody who did has an answer.
    async fn exchange(
        &mut self,
        channel: &Channel,
        reply_to: &str,
        mut replies: lapin::Consumer,
        notices: &mut (impl Stream<Item = Event> + Unpin),
        shown: &Shown,
    ) -> Result<(), Error> {
        let mut publishing = Publishing::new();
        self.send_again(channel, reply_to, &mut publishing);
        let mut sweep = tokio::time::interval(SWEEP);
        let (mut open, mut blocked) = (true, false);
        let mut refused_at = None;
        loop {
            if !open && !self.pending.values().any(Pending::is_awaited) {
                return Ok(());
            }
            // Each branch can be dropped: streams, channels and the sweep lose nothing by it.
            tokio::select! {
                reply = replies.next() => {
                    let reply = reply.ok_or_else(|| Error::ConsumerEnded(reply_to.to_owned()))??;
                    self.hand_out(incoming(reply));
                }
                // What a blocked connection has not been given can still be taken back.
                asked = self.asked.recv(), if open && !blocked => match asked {
                    None => open = false,
                    Some(pending) => {
                        let number = self.next;
                        self.next += 1;
                        if pending.ticket.write() {
                            publishing.push(publish(channel, number, reply_to, &pending.message));
                            self.pending.insert(number, pending);
                        }
                    }
                },
                Some((number, said)) = publishing.next(), if !publishing.is_empty() => {
                    let said = said?;
                    let nacked = matches!(said, Said::Nacked);
                    self.hear(number, said);
                    if nacked {
                        refusal(&mut refused_at)?;
                    }
                }
                notice = notices.next() => match notice {
                    Some(Event::ConnectionBlocked(reason)) => {
                        shown.flows(false, &reason);
                        blocked = true;
                    }
                    Some(Event::ConnectionUnblocked) => {
                        shown.flows(true, "");
                        blocked = false;
                    }
                    Some(Event::Error(error)) => return Err(error.into()),
                    _ => {}
                },
                _ = sweep.tick() => self.pending.retain(|_, it| it.told.receiver_count() > 0),
            }
        }
    }

    /// What an earlier connection left without an answer goes first, in its order. What nobody waits
    /// for is forgotten: its reply cannot come any more.
    fn send_again<'a>(
        &mut self,
        channel: &'a Channel,
        reply_to: &str,
        publishing: &mut Publishing<'a>,
    ) {
        self.pending.retain(|_, it| it.is_awaited());
        for (number, pending) in &self.pending {
            let message = &pending.message;
            publishing.push(match pending.died {
                None => publish(channel, *number, reply_to, message),
                died => try_alone(&self.trials, *number, reply_to, message, died),
            });
        }
    }

    /// Marks what is under way, one of which the broker has closed the connection over; false when there
    /// is nothing that was not marked before.
    fn suspect(&mut self) -> bool {
        let mut any = false;
        for pending in self.pending.values_mut() {
            if pending.died.is_none() && *pending.told.borrow() == Progress::Sent {
                pending.died = Some(Instant::now());
                any = true;
            }
        }
        any
    }

    fn hand_out(&mut self, reply: Incoming) {
        let number = reply.correlation_id.as_ref().and_then(|it| it.parse().ok());
        // Another one was sent again, and answered before.
        if let Some(pending) = number.and_then(|number: u64| self.pending.remove(&number)) {
            pending
                .told
                .send_replace(Progress::Replied(Arc::new(reply)));
        }
    }

    fn hear(&mut self, number: u64, said: Said) {
        let refused = match said {
            Said::Has => None,
            Said::Returned(number) => number,
            Said::Nacked => Some(number),
            Said::GivenUp(refusal) => {
                let message = self.pending.get(&number).map(|it| &it.message);
                let id = message.map_or("", |it| &it.message_id);
                events::message_given_up(Lost::Command, id, refusal.code, &refusal.text);
                Some(number)
            }
        };
        if let Some(pending) = refused.and_then(|number| self.pending.remove(&number)) {
            pending.told.send_replace(Progress::Refused);
        }
        // No longer there if its reply overtook the confirm.
        if let Some(pending) = self.pending.get(&number) {
            self.trials.note([&pending.message].into_iter());
            pending.told.send_replace(Progress::Queued);
        }
    }
}

/// The request as it is published: its reply is known by its number.
fn addressed(message: &Outgoing, number: u64, reply_to: &str) -> Outgoing {
    Outgoing {
        reply_to: Some(reply_to.to_owned()),
        correlation_id: Some(number.to_string()),
        mandatory: true,
        ..message.clone()
    }
}

/// Writes a request and waits for its confirm.
///
/// A publish takes its tag and its place among the frames in one go, when it is first polled, and
/// all are polled by one task.
fn publish<'a>(
    channel: &'a Channel,
    number: u64,
    reply_to: &str,
    message: &Outgoing,
) -> Saying<'a> {
    let message = addressed(message, number, reply_to);
    Box::pin(async move {
        let confirmed = async { pipeline::publish(channel, &message).await?.await };
        let said = confirmed.await.map(|confirmation| match confirmation {
            Confirmation::Ack(None) | Confirmation::NotRequested => Said::Has,
            // lapin hands a returned message to the wrong confirm now and then; it says itself
            // which one it is.
            Confirmation::Ack(Some(returned)) => {
                let id = returned.properties.correlation_id().as_ref();
                Said::Returned(id.and_then(|id| id.as_str().parse().ok()))
            }
            Confirmation::Nack(_) => Said::Nacked,
        });
        (number, said)
    })
}

/// Has a request offered alone, which was under way when the broker closed the connection.
fn try_alone<'a>(
    trials: &Trials,
    number: u64,
    reply_to: &str,
    message: &Outgoing,
    died: Option<Instant>,
) -> Saying<'a> {
    let trials = trials.clone();
    let message = addressed(message, number, reply_to);
    Box::pin(async move {
        let said = match trials.offer(message, died).await {
            Some(Verdict::Confirmed) => Said::Has,
            Some(Verdict::Returned) => Said::Returned(Some(number)),
            Some(Verdict::Nacked) => Said::Nacked,
            Some(Verdict::GivenUp(refusal)) => Said::GivenUp(refusal),
            // The process ends.
            None => std::future::pending().await,
        };
        (number, Ok(said))
    })
}
