//! The commands role: delivery → executor → reply and events confirmed → acknowledgement.
//!
//! A delivery is acknowledged only after everything that came of it has been confirmed by the
//! broker and recorded. Commands of one group go through their lane one by one, confirms included,
//! so that their events leave in order; other groups run beside them. A command that cannot be done
//! now rests in a delay queue, and what follows it in its group rests behind it.

mod messages;
pub mod upkeep;
mod waits;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::amqp::{Deliveries, Delivery, Names, Publisher, Stopped};
use crate::clock::Clock;
use crate::contract::Timestamp;
use crate::executor::lanes::Lanes;
use crate::executor::{Accepted, Deferral, Executor, Incoming, Outcome, Past, Verdict};
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::store::lanes::LaneKey;
use crate::store::{self, Probe, Store};

use messages::Travels;
use waits::{Turn, Waits};

/// What the role works with.
#[derive(Debug)]
pub struct Worker {
    executor: Executor,
    publisher: Publisher,
    names: Names,
    /// How long commands can rest, shortest first; never empty.
    tiers: Vec<Duration>,
    lanes: Lanes<Job>,
    waits: Waits,
    store: Store,
    clock: Arc<dyn Clock>,
    lifecycle: Lifecycle,
    /// The channel that deliveries come over now.
    channel: AtomicU64,
}

/// A command that waits for its turn.
#[derive(Debug)]
struct Job {
    delivery: Delivery,
    accepted: Accepted,
    /// What its earlier rests have left in its headers.
    travels: Travels,
}

/// Why a delivery was not acknowledged; it comes again.
#[derive(Debug)]
struct Unsettled;

impl From<Stopped> for Unsettled {
    fn from(_: Stopped) -> Self {
        Self
    }
}

impl Worker {
    /// A worker that is ready to run.
    #[must_use]
    pub fn new(
        executor: Executor,
        publisher: Publisher,
        names: Names,
        tiers: Vec<Duration>,
        store: &Store,
        clock: Arc<dyn Clock>,
        lifecycle: Lifecycle,
    ) -> Arc<Self> {
        Arc::new(Self {
            executor,
            publisher,
            names,
            tiers,
            lanes: Lanes::default(),
            waits: Waits::new(store.lanes()),
            store: store.clone(),
            clock,
            lifecycle,
            channel: AtomicU64::new(0),
        })
    }

    /// Executes what arrives, until the process stops.
    ///
    /// The broker's prefetch window bounds how much is under way.
    pub async fn run(self: Arc<Self>, mut deliveries: Deliveries) {
        while let Some(delivery) = deliveries.next().await {
            if self.channel.load(Ordering::Relaxed) != delivery.channel {
                self.take_over(delivery.channel).await;
            }
            // What has not been begun goes back to the broker.
            if !self.lifecycle.is_stopping() {
                self.clone().take(delivery);
            }
        }
    }

    /// Begins anew over another channel: what was unacknowledged comes again, and another worker may
    /// have had the queue meanwhile.
    async fn take_over(&self, channel: u64) {
        self.channel.store(channel, Ordering::Relaxed);
        let reloaded = self.until_stored(|| self.waits.reload()).await;
        // Stopping: nothing is begun any more.
        reloaded.unwrap_or_default();
    }

    fn take(self: Arc<Self>, delivery: Delivery) {
        let lifecycle = self.lifecycle.clone();
        let accepted = match self.executor.admit(&incoming(&delivery, &self.names)) {
            Ok(accepted) => accepted,
            Err(outcome) => {
                lifecycle.spawn(async move {
                    let begun = Instant::now();
                    let published = self.publish(&delivery, &outcome, begun).await;
                    if published.is_ok() {
                        delivery.ack();
                    }
                });
                return;
            }
        };
        let travels = Travels::of(&delivery.message, &self.names);
        let job = Job {
            delivery,
            accepted,
            travels,
        };
        match job.accepted.command.lane().cloned() {
            None => {
                lifecycle.spawn(async move { self.work(job, None).await.unwrap_or_default() });
            }
            Some(group) => {
                if let Some(job) = self.lanes.enter(&group, job) {
                    lifecycle.spawn(async move {
                        let mut next = Some(job);
                        while let Some(job) = next {
                            let session = job.accepted.session.clone();
                            let key = LaneKey {
                                session,
                                group: group.clone(),
                            };
                            self.work(job, Some(&key)).await.unwrap_or_default();
                            next = self.lanes.next(&group);
                        }
                    });
                }
            }
        }
    }

    /// Does what can be done about a command now.
    async fn work(&self, job: Job, lane: Option<&LaneKey>) -> Result<(), Unsettled> {
        // What came over an earlier channel, and was not begun, comes again.
        if self.lifecycle.is_stopping() || self.is_stale(&job) {
            return Err(Unsettled);
        }
        let begun = Instant::now();
        if let Some(key) = lane
            && let Turn::Behind { ticket, tier } =
                self.waits.turn(key, job.travels.ticket, self.now())
        {
            return self.rest(job, Some((key, ticket)), tier, None).await;
        }
        match self.run_through_outages(&job).await? {
            Verdict::Answered(outcome) => {
                self.publish(&job.delivery, &outcome, begun).await?;
                // After the confirms, so that the next one's events cannot overtake.
                if let Some(key) = lane {
                    self.leave_lane(&job, key).await?;
                }
                job.delivery.ack();
                Ok(())
            }
            Verdict::Deferred(deferral) => {
                let tier = self.tier(&deferral, &job.travels);
                let now = self.now();
                let ticket = lane.map(|key| (key, self.waits.ticket(key, job.travels.ticket, now)));
                self.rest(job, ticket, tier, Some(&deferral)).await
            }
        }
    }

    /// Runs a command, again and again while the store is down: it keeps its place in its lane and
    /// the broker keeps it unacknowledged, so the worker takes no more than it could hold anyway.
    async fn run_through_outages(&self, job: &Job) -> Result<Verdict, Unsettled> {
        let mut probe = None;
        loop {
            let verdict = self.executor.run(&job.accepted, &self.past(job)).await;
            drop(probe.take());
            if let Ok(verdict) = verdict {
                return Ok(verdict);
            }
            probe = Some(self.outage_over().await?);
            if self.is_stale(job) {
                return Err(Unsettled);
            }
        }
    }

    /// Lets a command rest: confirmed first, then recorded, then acknowledged.
    async fn rest(
        &self,
        job: Job,
        place: Option<(&LaneKey, u64)>,
        tier: Duration,
        deferral: Option<&Deferral>,
    ) -> Result<(), Unsettled> {
        if self.is_stale(&job) {
            return Err(Unsettled);
        }
        let ticket = place.map(|(_, ticket)| ticket);
        let travels = job.travels.further(deferral, ticket, self.now());
        let message = messages::resting(
            &job.accepted,
            &job.delivery.message,
            &travels,
            &self.names,
            tier,
        );
        self.publisher.publish(vec![message]).await?;
        if let Some((key, ticket)) = place {
            let now = self.now();
            self.until_stored(|| self.waits.rests(key, ticket, tier, now))
                .await?;
        }
        if let Some(deferral) = deferral {
            events::command_deferred(
                job.accepted.id.as_str(),
                job.accepted.command.command_type().as_str(),
                deferral.cause.code.as_str(),
                tier,
            );
        }
        job.delivery.ack();
        Ok(())
    }

    /// Lets the next resting command of the lane go, if this one was resting.
    async fn leave_lane(&self, job: &Job, key: &LaneKey) -> Result<(), Unsettled> {
        if self.is_stale(job) {
            return Ok(());
        }
        let shortest = self.tiers.first().copied().unwrap_or_default();
        let now = self.now();
        let ticket = job.travels.ticket;
        self.until_stored(|| self.waits.done(key, ticket, shortest, now))
            .await
    }

    /// Publishes what came of a message and waits for the confirms.
    async fn publish(
        &self,
        delivery: &Delivery,
        outcome: &Outcome,
        begun: Instant,
    ) -> Result<(), Unsettled> {
        let reply = &outcome.reply;
        let command_id = reply.command_id.as_ref().map_or("", |id| id.as_str());
        // Kept before it is answered: whoever reads the reply finds the dead letter.
        if let Some(error) = outcome.dead() {
            let dead = messages::dead(error, &delivery.message, reply, &self.names);
            self.publisher.publish_carefully(dead).await?;
            events::dead_lettered(command_id, error.code.as_str());
        }
        self.publisher
            .publish(messages::of(outcome, &delivery.message, &self.names))
            .await?;
        let session = reply.session.as_ref();
        let error = reply.error.as_ref();
        events::command_answered(events::Answer {
            command_id,
            command_type: messages::known_type(reply).unwrap_or("unknown"),
            session: session.map_or("", |session| session.as_str()),
            outcome: error.map_or("ok", |error| error.code.as_str()),
            replayed: reply.replayed,
            took: begun.elapsed(),
        });
        Ok(())
    }

    /// Asks the store until it answers, or the process stops.
    async fn until_stored<F>(&self, mut ask: impl FnMut() -> F) -> Result<(), Unsettled>
    where
        F: Future<Output = Result<(), store::Error>>,
    {
        let mut probe = None;
        while let Err(error) = ask().await {
            drop(probe.take());
            if !error.is_outage() {
                events::store_refused(&error);
            }
            probe = Some(self.outage_over().await?);
        }
        Ok(())
    }

    /// Waits until the store is back or it is our turn to try, unless the process stops.
    async fn outage_over(&self) -> Result<Probe<'_>, Unsettled> {
        tokio::select! {
            probe = self.store.over() => Ok(probe),
            () = self.lifecycle.stopping() => Err(Unsettled),
        }
    }

    /// The shortest tier that is long enough; longer with each rest that changed nothing.
    fn tier(&self, deferral: &Deferral, travels: &Travels) -> Duration {
        // Waiting for a session grows less: it should be noticed soon that it is back.
        let most = if deferral.counts { usize::MAX } else { 2 };
        let step = usize::try_from(travels.rests)
            .unwrap_or(usize::MAX)
            .min(most);
        let wish = deferral.after.unwrap_or_default();
        let longest = self.tiers.last().copied().unwrap_or_default();
        let from = step.min(self.tiers.len().saturating_sub(1));
        let fits = |tier: &Duration| *tier >= wish;
        self.tiers
            .iter()
            .skip(from)
            .copied()
            .find(fits)
            .unwrap_or(longest)
    }

    fn past(&self, job: &Job) -> Past {
        Past {
            attempts: job.travels.attempts,
            first_seen: job.travels.first_seen.unwrap_or_else(|| self.now()),
            cause: job.travels.cause,
        }
    }

    fn is_stale(&self, job: &Job) -> bool {
        job.delivery.channel != self.channel.load(Ordering::Relaxed)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }
}

fn incoming<'a>(delivery: &'a Delivery, names: &Names) -> Incoming<'a> {
    let message = &delivery.message;
    Incoming {
        body: &message.body,
        message_id: message.message_id.as_deref(),
        message_type: message.message_type.as_deref(),
        // On its way through the default exchange the routing key is the queue's name.
        session: (message.exchange == names.commands()).then_some(message.routing_key.as_str()),
    }
}
