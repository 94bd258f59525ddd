//! Requests and replies over one supervised connection: one reply queue, one writer, any number in flight.
//!
//! The reply queue lives as long as its connection. If the connection breaks, replies in flight are lost
//! with the queue; so every request that still has a waiter is published again over the next connection,
//! with the same message id and the new reply queue. That is safe for requests that are identified by their
//! message id, as commands are. It knows neither commands nor deadlines: a caller gives up by dropping the
//! [`PendingCall`]. Used by the gateway.
//!
//! If the broker closes the connection over one of the requests, the unconfirmed ones are offered one by
//! one over a separate connection (`trial`). The request that the broker rejects is reported as refused.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use lapin::{Channel, Confirmation, Connection, Event};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::lifecycle::Lifecycle;
use crate::observability::events::{self, Lost};

use crate::amqp::channel::{self, AckMode};
use crate::amqp::error::why_closed;
use crate::amqp::link::supervisor::{self, ConnectionTask};
use crate::amqp::message::{Incoming, Outgoing};
use crate::amqp::properties::incoming;
use crate::amqp::publish::call::{PendingCall, Progress, Ticket};
use crate::amqp::publish::direct::Unreachable;
use crate::amqp::publish::nacks::refusal;
use crate::amqp::publish::trial::{Trials, Verdict};
use crate::amqp::publish::writer::Shown;
use crate::amqp::{Error, Refusal, Target, Topology};

/// The maximum number of requests that are handed over and not yet written; further callers wait.
const QUEUE: usize = 1024;

/// The interval of removing requests without a waiter.
const SWEEP: Duration = Duration::from_secs(5);

/// Hands requests to the writer; clones are cheap.
#[derive(Debug, Clone)]
pub struct Requests {
    queue: mpsc::Sender<Pending>,
    connected: watch::Receiver<bool>,
    unblocked: watch::Receiver<bool>,
}

impl Requests {
    /// Makes the handle for requests and the task that publishes them.
    pub fn new(
        target: Target,
        topology: Topology,
        lifecycle: Lifecycle,
    ) -> (
        Self,
        impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        let (queue, requests) = mpsc::channel(QUEUE);
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
            requests,
            pending: BTreeMap::new(),
            next: 0,
            trials,
        };
        let shown = Shown {
            connected,
            unblocked,
        };
        let task = async move {
            let requesting = async {
                // Dropped with its work: it holds a handle to the trials, which end when no handle is left.
                let mut link = ReplyConnection { link, shown };
                supervisor::keep(&target, &lifecycle, &mut link).await
            };
            tokio::try_join!(requesting, trying).map(drop)
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

    /// Hands a request over and sets its `reply_to` and `correlation_id`. None when the process ends.
    ///
    /// # Cancellation
    /// Dropping the future hands nothing over.
    pub async fn send(&self, message: Outgoing) -> Option<PendingCall> {
        let (sender, progress) = watch::channel(Progress::Sent);
        let ticket = Arc::new(Ticket::default());
        let pending = Pending {
            message,
            progress: sender,
            ticket: Arc::clone(&ticket),
            died: None,
        };
        self.queue.send(pending).await.ok()?;
        Some(PendingCall { progress, ticket })
    }

    /// Whether requests can be written, as a value to watch.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Whether the broker accepts requests, as far as is known, as a value to watch.
    #[must_use]
    pub fn unblocked(&self) -> watch::Receiver<bool> {
        self.unblocked.clone()
    }
}

/// A request without a reply.
#[derive(Debug)]
struct Pending {
    message: Outgoing,
    progress: watch::Sender<Progress>,
    ticket: Arc<Ticket>,
    /// When the broker closed the connection on which it was in flight, over any message.
    died: Option<Instant>,
}

impl Pending {
    /// Whether a caller still waits for it.
    fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.ticket) > 1
    }
}

struct Requester {
    topology: Topology,
    requests: mpsc::Receiver<Pending>,
    /// By correlation id, which counts up, and so in order of sending.
    pending: BTreeMap<u64, Pending>,
    next: u64,
    trials: Trials,
}

/// The broker's answer for a request.
enum Answer {
    /// Confirmed.
    Confirmed,
    /// No queue took it; the number is that of the returned request, which lapin may attribute to the
    /// confirm of another one.
    Returned(Option<u64>),
    /// Not taken.
    Nacked,
    /// The broker closes the connection over it.
    GivenUp(Refusal),
}

type AnswerFuture<'a> = Pin<Box<dyn Future<Output = (u64, lapin::Result<Answer>)> + Send + 'a>>;
type Publishing<'a> = FuturesUnordered<AnswerFuture<'a>>;

/// The connection for requests, and where its state is shown.
struct ReplyConnection {
    link: Requester,
    shown: Shown,
}

impl ConnectionTask for ReplyConnection {
    fn purpose(&self) -> &'static str {
        "requests"
    }

    async fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        let Self { link, shown } = self;
        link.topology.ensure(connection).await?;
        // The only reader of events, since lapin does not hand an event to a second one. Opened after the
        // topology check, which closes channels: those errors must not be reported here.
        let mut notices = connection.events_listener();
        let channel = channel::confirming(connection).await?;
        let (reply_to, replies) = own_queue(connection).await?;
        let exchange = link.topology.names().commands();
        // The first to end decides; watching does not end.
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

/// A reply queue that lives as long as the connection, on a separate channel.
async fn own_queue(connection: &Connection) -> Result<(String, lapin::Consumer), Error> {
    let channel = connection.create_channel().await?;
    let queue = channel::own_queue(&channel).await?;
    // Replies are replayed on request, so acknowledging them gains nothing.
    let replies = channel::consume(&channel, &queue, "", AckMode::Automatic).await?;
    Ok((queue, replies))
}

impl Requester {
    /// Writes requests and hands out replies until the connection breaks, or until every handle is dropped
    /// and every request is settled.
    async fn exchange(
        &mut self,
        channel: &Channel,
        reply_to: &str,
        mut replies: lapin::Consumer,
        notices: &mut (impl Stream<Item = Event> + Unpin),
        shown: &Shown,
    ) -> Result<(), Error> {
        let mut publishing = Publishing::new();
        self.republish(channel, reply_to, &mut publishing);
        let mut sweep = tokio::time::interval(SWEEP);
        let (mut open, mut blocked) = (true, false);
        let mut refused_at = None;
        loop {
            if !open && !self.pending.values().any(Pending::is_awaited) {
                return Ok(());
            }
            // Every branch is cancel-safe: streams, channels and the sweep.
            tokio::select! {
                reply = replies.next() => {
                    let reply = reply.ok_or_else(|| Error::ConsumerEnded(reply_to.to_owned()))??;
                    self.hand_out(incoming(reply));
                }
                // While the connection is blocked, requests stay in the queue, where they can be withdrawn.
                request = self.requests.recv(), if open && !blocked => match request {
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
                Some((number, answer)) = publishing.next(), if !publishing.is_empty() => {
                    let answer = answer?;
                    let nacked = matches!(answer, Answer::Nacked);
                    self.settle(number, answer);
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
                _ = sweep.tick() => self.pending.retain(|_, it| it.progress.receiver_count() > 0),
            }
        }
    }

    /// Publishes the requests that an earlier connection left without a reply first, in order. Requests
    /// without a waiter are forgotten: their reply cannot arrive any more.
    fn republish<'a>(
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
                died => offer_alone(&self.trials, *number, reply_to, message, died),
            });
        }
    }

    /// Marks the requests in flight, over one of which the broker has closed the connection; false if all
    /// were marked before.
    fn suspect(&mut self) -> bool {
        let mut any = false;
        for pending in self.pending.values_mut() {
            if pending.died.is_none() && *pending.progress.borrow() == Progress::Sent {
                pending.died = Some(Instant::now());
                any = true;
            }
        }
        any
    }

    fn hand_out(&mut self, reply: Incoming) {
        let number = reply.correlation_id.as_ref().and_then(|it| it.parse().ok());
        // Another reply belongs to a request that was published again and answered before.
        if let Some(pending) = number.and_then(|number: u64| self.pending.remove(&number)) {
            pending
                .progress
                .send_replace(Progress::Replied(Arc::new(reply)));
        }
    }

    fn settle(&mut self, number: u64, answer: Answer) {
        let refused = match answer {
            Answer::Confirmed => None,
            Answer::Returned(number) => number,
            Answer::Nacked => Some(number),
            Answer::GivenUp(refusal) => {
                let message = self.pending.get(&number).map(|it| &it.message);
                let id = message.map_or("", |it| &it.message_id);
                events::message_given_up(Lost::Command, id, refusal.code, &refusal.text);
                Some(number)
            }
        };
        if let Some(pending) = refused.and_then(|number| self.pending.remove(&number)) {
            pending.progress.send_replace(Progress::Refused);
        }
        // The request is gone if its reply overtook the confirm.
        if let Some(pending) = self.pending.get(&number) {
            self.trials.note([&pending.message].into_iter());
            pending.progress.send_replace(Progress::Queued);
        }
    }
}

/// The request as it is published; its number is the correlation id of the reply.
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
/// A publish takes its delivery tag and its place among the frames when it is first polled, and one task
/// polls them all.
fn publish<'a>(
    channel: &'a Channel,
    number: u64,
    reply_to: &str,
    message: &Outgoing,
) -> AnswerFuture<'a> {
    let message = addressed(message, number, reply_to);
    Box::pin(async move {
        let confirmed = async { channel::publish(channel, &message).await?.await };
        let answer = confirmed.await.map(|confirmation| match confirmation {
            Confirmation::Ack(None) | Confirmation::NotRequested => Answer::Confirmed,
            // lapin may attribute a returned message to the wrong confirm; its own correlation id
            // identifies it.
            Confirmation::Ack(Some(returned)) => {
                let id = returned.properties.correlation_id().as_ref();
                Answer::Returned(id.and_then(|id| id.as_str().parse().ok()))
            }
            Confirmation::Nack(_) => Answer::Nacked,
        });
        (number, answer)
    })
}

/// Offers a request alone that was in flight when the broker closed the connection.
fn offer_alone<'a>(
    trials: &Trials,
    number: u64,
    reply_to: &str,
    message: &Outgoing,
    died: Option<Instant>,
) -> AnswerFuture<'a> {
    let trials = trials.clone();
    let message = addressed(message, number, reply_to);
    Box::pin(async move {
        let answer = match trials.offer(message, died).await {
            Some(Verdict::Confirmed) => Answer::Confirmed,
            Some(Verdict::Returned) => Answer::Returned(Some(number)),
            Some(Verdict::Nacked) => Answer::Nacked,
            Some(Verdict::GivenUp(refusal)) => Answer::GivenUp(refusal),
            // The process ends.
            None => std::future::pending().await,
        };
        (number, Ok(answer))
    })
}
