//! The commands role: delivery → executor → reply and events confirmed → acknowledgement.
//!
//! A delivery is acknowledged only after all of its results have been confirmed by the broker and recorded.
//! Commands of one group go through their lane one by one, confirms included, so that their events are
//! published in order; other groups run in parallel. A command that cannot be executed now is deferred to a
//! delay queue, and later commands of its group are deferred behind it.

mod defer;
mod deferred_lanes;
mod in_flight;
mod lost_deferrals;
mod lost_search;
pub mod maintenance;
mod messages;
mod owned_shard;
mod pings;
mod quota;
pub mod shards;
mod spans;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::amqp::{self, Delivery, Names, Publisher, Stopped};
use crate::clock::Clock;
use crate::contract::{About, Timestamp, WebhookId, endpoint_name};
use crate::engines::Context;
use crate::executor::lanes::LaneQueue;
use crate::executor::{
    Accepted, CommandOutcome, Executor, Interrupted, RawCommand, RetryState, Verdict,
};
use crate::fanout::{self, Fanout};
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::observability::trace::{Span, Tracer};
use crate::store::lanes::LaneKey;
use crate::store::{self, RetryPermit, Store};

use deferred_lanes::Admission;
use in_flight::{InFlight, InFlightGuard};
use messages::DeferralState;
use owned_shard::OwnedShard;

/// The shortest and the longest wait before the bindings of a webhook endpoint are retried.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The commands role.
#[derive(Debug)]
pub struct Worker {
    executor: Executor,
    publisher: Publisher,
    fanout: Fanout,
    names: Names,
    /// The delay tiers, shortest first; never empty.
    tiers: Vec<Duration>,
    lanes: LaneQueue<Box<Job>>,
    in_flight: InFlight,
    tracer: Tracer,
    store: Store,
    clock: Arc<dyn Clock>,
    lifecycle: Lifecycle,
}

/// The worker's dependencies.
#[derive(Debug)]
pub struct WorkerDeps {
    /// Publishes the results of commands.
    pub publisher: Publisher,
    /// Updates the bindings of webhook endpoints.
    pub fanout: Fanout,
    /// The names on the broker.
    pub names: Names,
    /// Records spans.
    pub tracer: Tracer,
    /// The longest time that a command can spend in the executor: one that takes longer hangs.
    pub longest_execution: Duration,
}

/// A command that waits for its turn.
#[derive(Debug)]
struct Job {
    /// The shard that it came from.
    shard: Arc<OwnedShard>,
    delivery: Delivery,
    accepted: Accepted,
    /// The earlier deferrals, from its headers.
    deferral_state: DeferralState,
    guard: InFlightGuard,
    span: Span,
}

/// The delivery was not acknowledged; it is redelivered.
#[derive(Debug)]
struct NotAcked;

impl From<Stopped> for NotAcked {
    fn from(_: Stopped) -> Self {
        Self
    }
}

impl Worker {
    /// A worker, and whether no command hangs in its executor, as a value to watch.
    #[must_use]
    pub fn new(
        executor: Executor,
        deps: WorkerDeps,
        tiers: Vec<Duration>,
        store: &Store,
        clock: Arc<dyn Clock>,
        lifecycle: Lifecycle,
    ) -> (Arc<Self>, watch::Receiver<bool>) {
        let WorkerDeps {
            publisher,
            fanout,
            names,
            tracer,
            longest_execution,
        } = deps;
        let in_flight = InFlight::default();
        let (moving, is_moving) = watch::channel(true);
        lifecycle.spawn_background(in_flight.clone().watch(longest_execution, moving));
        let worker = Arc::new(Self {
            in_flight,
            executor,
            publisher,
            fanout,
            names,
            tracer,
            tiers,
            lanes: LaneQueue::default(),
            store: store.clone(),
            clock,
            lifecycle,
        });
        (worker, is_moving)
    }

    /// Limits the remembered accounts to those of the queues that this worker owns.
    fn note_queues(&self, queues: impl Fn(&str) -> bool) {
        self.executor.keep_accounts(queues);
    }

    /// Executes a delivery of a shard; the prefetch window of its consumer bounds the number in flight.
    fn take(self: Arc<Self>, shard: &Arc<OwnedShard>, delivery: Delivery) {
        // Deliveries that were not started are requeued.
        if shard.is_ending() {
            return;
        }
        if delivery.message.is_ping() {
            return self.answer_ping(shard, delivery);
        }
        let lifecycle = self.lifecycle.clone();
        let guard = self.in_flight.track();
        let mut span = spans::process(&self.tracer, &delivery, shard.fence.queue());
        let accepted = match self.executor.admit(&incoming(&delivery, &self.names)) {
            Ok(accepted) => accepted,
            Err(outcome) => {
                lifecycle.spawn(async move {
                    let _guard = guard;
                    let begun = Instant::now();
                    let published = self.publish(&delivery, &outcome, &mut span, begun).await;
                    if published.is_ok() {
                        delivery.ack();
                    }
                });
                return;
            }
        };
        let deferral_state = DeferralState::from_message(&delivery.message, &self.names);
        if deferral_state.since.is_some() {
            shard.lanes.note_returned(&accepted.key());
        }
        self.record_queue_time(&delivery.message);
        // In a box, since the future of each command would hold it twice, and is moved several times.
        let job = Box::new(Job {
            shard: Arc::clone(shard),
            delivery,
            accepted,
            deferral_state,
            guard,
            span,
        });
        let session = job.accepted.session.clone();
        match job.accepted.command.about().lane(&session) {
            None => {
                lifecycle.spawn(async move { self.work(job, None).await.unwrap_or_default() });
            }
            Some(lane) => {
                if let Some(job) = self.lanes.enter(&lane, job) {
                    lifecycle.spawn(async move {
                        let mut next = Some(job);
                        while let Some(job) = next {
                            let key = LaneKey {
                                session: job.accepted.session.clone(),
                                lane: lane.clone(),
                            };
                            self.work(job, Some(&key)).await.unwrap_or_default();
                            next = self.lanes.next(&lane);
                        }
                    });
                }
            }
        }
    }

    /// Records how long a command waited on the broker, at its first delivery.
    fn record_queue_time(&self, message: &amqp::Incoming) {
        if let Some(published) = message.published_at
            && !message.redelivered
            && message.exchange == self.names.commands()
        {
            let now = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
            let waited = Duration::from_secs(now.saturating_sub(published));
            events::stage_passed(events::Stage::Queue, waited);
        }
    }

    /// Processes a command as far as possible now.
    async fn work(
        self: &Arc<Self>,
        mut job: Box<Job>,
        lane: Option<&LaneKey>,
    ) -> Result<(), NotAcked> {
        // A delivery that was not started is redelivered, to the next owner of the shard.
        if job.shard.is_ending() {
            return Err(NotAcked);
        }
        let begun = Instant::now();
        events::stage_passed(events::Stage::Wait, job.guard.age());
        if let Some(key) = lane
            && let Admission::Behind { ticket, tier } =
                job.shard
                    .lanes
                    .admit(key, job.deferral_state.ticket, job.deferral_state.since)
        {
            let place = Some((key, ticket));
            return Box::pin(self.defer(job, place, tier, None)).await;
        }
        let verdict = self.run_through_outages(&job).await;
        if verdict.as_ref().map_or(true, Verdict::is_open) {
            let (worker, command) = (Arc::clone(self), job.accepted.clone());
            // This may take as long as an outage of the store.
            self.lifecycle
                .spawn_background(async move { worker.executor.leave(&command).await });
        }
        match verdict? {
            Verdict::Answered(outcome) => {
                if let About::Webhook(id) = job.accepted.command.about() {
                    Box::pin(self.sync_endpoint(&job, id, &outcome)).await?;
                }
                self.publish(&job.delivery, &outcome, &mut job.span, begun)
                    .await?;
                // After the confirms, so that the events of the next command cannot overtake.
                self.end_deferral(&job, lane).await?;
                events::stage_passed(events::Stage::Total, job.guard.age());
                job.delivery.ack();
                Ok(())
            }
            Verdict::Deferred(deferral) => {
                let tier = self.tier(&deferral, &job.deferral_state);
                let now = self.now();
                let ticket = lane.map(|key| {
                    (
                        key,
                        job.shard.lanes.ticket(key, job.deferral_state.ticket, now),
                    )
                });
                Box::pin(self.defer(job, ticket, tier, Some(&deferral))).await
            }
        }
    }

    /// Runs a command, again and again while the store is down: it keeps its place in its lane and stays
    /// unacknowledged, so the prefetch window bounds the number of such commands.
    async fn run_through_outages(&self, job: &Job) -> Result<Verdict, NotAcked> {
        let mut probe = None;
        let retry_state = self.retry_state(job);
        let context = Context {
            fence: Some(job.shard.fence.clone()),
            trace: job.span.trace().clone(),
        };
        loop {
            let executing = job.guard.execute();
            let verdict = self
                .executor
                .run(&job.accepted, &retry_state, &context)
                .await;
            drop(executing);
            drop(probe.take());
            match verdict {
                Ok(verdict) => return Ok(verdict),
                Err(Interrupted::Outage) => {}
                Err(Interrupted::Fenced) => {
                    fenced(&job.shard);
                    return Err(NotAcked);
                }
            }
            probe = Some(self.outage_over(&job.shard).await?);
            if job.shard.is_lost() {
                return Err(NotAcked);
            }
        }
    }

    /// Updates the bindings of a webhook endpoint as the command has set them, before the reply is
    /// published: its producer can rely on them.
    async fn sync_endpoint(
        &self,
        job: &Job,
        id: &WebhookId,
        outcome: &CommandOutcome,
    ) -> Result<(), NotAcked> {
        if outcome.reply.error.is_some() {
            return Ok(());
        }
        let name = endpoint_name(Some(&job.accepted.session), id);
        let mut pause = SHORTEST_PAUSE;
        while let Err(error) = self.fanout.sync(&name).await {
            if matches!(&error, fanout::Error::Store(error) if error.is_outage()) {
                drop(self.outage_over(&job.shard).await?);
            } else {
                events::bindings_failed(&error);
            }
            let ending = job.shard.ending();
            // Both branches are cancel-safe.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ending.cancelled() => return Err(NotAcked),
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        Ok(())
    }

    /// Publishes the results of a message and waits for the confirms.
    async fn publish(
        &self,
        delivery: &Delivery,
        outcome: &CommandOutcome,
        span: &mut Span,
        begun: Instant,
    ) -> Result<(), NotAcked> {
        let reply = &outcome.reply;
        let command_id = reply.command_id.as_ref().map_or("", |id| id.as_str());
        // Kept before it is answered: a producer that reads the reply finds the dead letter.
        if let Some(error) = outcome.dead() {
            let dead = messages::dead(error, &delivery.message, reply, &self.names);
            Box::pin(self.publisher.publish_mandatory(dead)).await?;
            events::dead_lettered(command_id, error.code.as_str(), messages::words_of(error));
        }
        let written = Instant::now();
        let mut messages = messages::of_outcome(outcome, &delivery.message, &self.names);
        let sending = spans::send(span.trace(), &mut messages);
        self.publisher.publish(messages).await?;
        drop(sending);
        let command = &delivery.message;
        if command.reply_to.is_some() && messages::reply_queue(command, &self.names).is_none() {
            events::reply_returned(&reply.id.to_string());
        }
        events::stage_passed(events::Stage::Confirm, written.elapsed());
        let session = reply.session.as_ref();
        let error = reply.error.as_ref();
        if let Some(error) = error {
            span.fail(error.code.as_str());
        }
        events::command_answered(events::AnsweredCommand {
            command_id,
            command_type: messages::known_type(reply).unwrap_or("unknown"),
            session: session.map_or("", |session| session.as_str()),
            outcome: error.map_or("ok", |error| error.code.as_str()),
            replayed: reply.replayed,
            took: begun.elapsed(),
        });
        Ok(())
    }

    /// Repeats a request to the store until it succeeds, or the shard is lost.
    async fn until_stored<F>(
        &self,
        shard: &OwnedShard,
        mut ask: impl FnMut() -> F,
    ) -> Result<(), NotAcked>
    where
        F: Future<Output = Result<(), store::Error>>,
    {
        let mut probe = None;
        while let Err(error) = ask().await {
            drop(probe.take());
            if error.is_fenced() {
                fenced(shard);
                return Err(NotAcked);
            }
            if !error.is_outage() {
                events::store_refused(&error);
            }
            probe = Some(self.outage_over(shard).await?);
        }
        Ok(())
    }

    /// Waits until the outage of the store is over or it is our turn to retry, unless the shard is to be
    /// handed back.
    async fn outage_over(&self, shard: &OwnedShard) -> Result<RetryPermit<'_>, NotAcked> {
        let ending = shard.ending();
        tokio::select! {
            probe = self.store.wait_for_recovery() => Ok(probe),
            () = ending.cancelled() => Err(NotAcked),
        }
    }

    fn retry_state(&self, job: &Job) -> RetryState {
        RetryState {
            attempts: job.deferral_state.attempts,
            first_seen: job.deferral_state.first_seen.unwrap_or_else(|| self.now()),
            cause: job.deferral_state.cause.clone(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }
}

/// Another worker owns the shard now, and gets everything that is in flight here.
fn fenced(shard: &OwnedShard) {
    if !shard.is_lost() {
        events::shard_fenced(shard.number);
    }
    shard.mark_lost();
}

fn incoming<'a>(delivery: &'a Delivery, names: &Names) -> RawCommand<'a> {
    let message = &delivery.message;
    // The routing key of a deferred command is its session, which leads it to its shard. A message from the
    // default exchange has the queue's name as its routing key.
    let by_session = [names.commands(), names.back()].contains(&message.exchange);
    RawCommand {
        body: &message.body,
        message_id: message.message_id.as_deref(),
        message_type: message.message_type.as_deref(),
        session: by_session.then_some(message.routing_key.as_str()),
        content_encoding: message.content_encoding.as_deref(),
    }
}
