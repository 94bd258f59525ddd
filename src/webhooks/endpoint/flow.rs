//! A healthy endpoint: its queue is consumed with bounded concurrency and at its rate limit.
//!
//! After its breaker was closed, concurrency starts at one and grows by one with each success.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, watch};

use crate::amqp::{Subscription, SubscriptionDelivery};
use crate::contract::Timestamp;
use crate::fanout;
use crate::store::endpoints::Endpoint;

use super::{EndpointWorker, PhaseEnd};
use crate::webhooks::messages::DeliveryState;
use crate::webhooks::schedule;
use crate::webhooks::verdict::Verdict;

/// The wait before a subscription that has ended or could not be opened is opened again.
const REOPEN: Duration = Duration::from_millis(500);

/// The prefetch count is this multiple of the concurrency, and at least the minimum: the next delivery is
/// already here when a slot becomes free, and several acknowledgements can be sent as one. Prefetched
/// deliveries have not been attempted, and are requeued when the phase ends.
const PREFETCH_FACTOR: u16 = 4;
const PREFETCH_MIN: u16 = 32;

/// Bounds the deliveries in flight.
struct Slots {
    free: Arc<Semaphore>,
    granted: AtomicU16,
    most: u16,
}

impl Slots {
    fn new(most: u16, slow_start: bool) -> Self {
        let granted = if slow_start { 1 } else { most };
        Self {
            free: Arc::new(Semaphore::new(granted.into())),
            granted: AtomicU16::new(granted),
            most,
        }
    }

    /// Allows one more delivery in flight, up to the limit.
    fn grow(&self) {
        let more = self
            .granted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |granted| {
                (granted < self.most).then(|| granted + 1)
            });
        if more.is_ok() {
            self.free.add_permits(1);
        }
    }

    /// Waits until no delivery is in flight.
    async fn all_free(&self) {
        let granted = self.granted.load(Ordering::Relaxed).into();
        // The semaphore is never closed. Slots that are added meanwhile are free.
        drop(self.free.acquire_many(granted).await);
    }
}

/// Delivers until the phase ends. Deliveries in flight are finished; the others are requeued.
pub(super) async fn run(
    worker: &Arc<EndpointWorker>,
    changes: &mut watch::Receiver<Endpoint>,
    slow_start: bool,
) -> PhaseEnd {
    let most = worker
        .endpoint
        .settings
        .concurrency
        .unwrap_or(worker.shared.settings.concurrency);
    let slots = Arc::new(Slots::new(most, slow_start));
    let prefetch = most.saturating_mul(PREFETCH_FACTOR).max(PREFETCH_MIN);
    loop {
        let opened = tokio::select! {
            opened = worker.shared.subscriptions.open(&worker.queue, prefetch) => opened,
            ended = worker.phase_end(changes) => return ended,
        };
        if let Ok(subscription) = opened {
            let ended = consume(worker, changes, &subscription, &slots).await;
            subscription.take_no_more();
            slots.all_free().await;
            subscription.close().await;
            if let Some(ended) = ended {
                return ended;
            }
        } else {
            worker.recreate_queue().await;
        }
        // The connection logs its outages.
        tokio::select! {
            () = worker.wait_before_reopening(REOPEN) => {}
            ended = worker.phase_end(changes) => return ended,
        }
    }
}

/// None when the subscription has ended or should be closed.
async fn consume(
    worker: &Arc<EndpointWorker>,
    changes: &mut watch::Receiver<Endpoint>,
    subscription: &Subscription,
    slots: &Arc<Slots>,
) -> Option<PhaseEnd> {
    let pace = Pace::for_endpoint(worker).await;
    loop {
        let next = async {
            // The semaphore is never closed.
            let slot = Arc::clone(&slots.free).acquire_owned().await.ok()?;
            let delivery = worker.next_delivery(subscription).await?;
            pace.wait().await;
            Some((slot, delivery))
        };
        // If this is dropped, a delivery that it holds is requeued.
        let (slot, delivery) = tokio::select! {
            ended = worker.phase_end(changes) => return Some(ended),
            next = next => next?,
        };
        let (worker, slots) = (Arc::clone(worker), Arc::clone(slots));
        let waiting = subscription.waiting();
        let is_limited = pace.is_limited();
        worker.shared.lifecycle.clone().spawn(async move {
            // Continues with deliveries that are already here: a task for each would cost more than the
            // delivery itself. After a failure it stops, since the breaker may have been tripped.
            let mut next = Some(delivery);
            while let Some(delivery) = next.take() {
                if worker.deliver(delivery).await {
                    slots.grow();
                    next = if is_limited { None } else { waiting.next() };
                }
            }
            drop(slot);
        });
    }
}

/// The rate limit of an endpoint in this process.
struct Pace(Option<DefaultDirectRateLimiter>);

impl Pace {
    /// The endpoint's limit, divided by the number of processes that consume its queue.
    async fn for_endpoint(worker: &EndpointWorker) -> Self {
        let Some(limit) = worker.endpoint.settings.rate_limit else {
            return Self(None);
        };
        let consumers = worker.shared.subscriptions.consumers(&worker.queue).await;
        let share = limit.div_ceil(consumers.unwrap_or(1).max(1));
        let per_second = NonZeroU32::new(share).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(share / 10).unwrap_or(NonZeroU32::MIN);
        Self(Some(RateLimiter::direct(
            Quota::per_second(per_second).allow_burst(burst),
        )))
    }

    const fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    async fn wait(&self) {
        let Some(limiter) = &self.0 else { return };
        while let Err(early) = limiter.check() {
            tokio::time::sleep(early.wait_time_from(DefaultClock::default().now())).await;
        }
    }
}

impl EndpointWorker {
    /// Recreates the endpoint's queue if it was deleted; does nothing without a connection to the broker.
    pub(super) async fn recreate_queue(&self) {
        if *self.shared.subscriptions.connected().borrow() {
            self.shared.fanout.repair(&self.endpoint.name).await.ok();
        }
    }

    /// Handles one delivery until it can be acknowledged; true if it was delivered.
    async fn deliver(&self, delivery: SubscriptionDelivery) -> bool {
        let message = &delivery.message;
        let mut state = DeliveryState::from_message(message, &self.shared.names);
        let now = self.shared.now();
        if self.answer_ping(message).await || !self.is_wanted(message) {
            delivery.ack().await;
            return false;
        }
        if let Some(left) = state.remaining_wait(now) {
            if self.defer(message, &state, left).await {
                delivery.ack().await;
            }
            return false;
        }
        state.first_seen.get_or_insert(now);
        let outcome = self.attempt(message, state.attempts + 1).await;
        let detail = &outcome.detail;
        let settled = match outcome.verdict {
            Verdict::Delivered => {
                self.record_success();
                delivery.ack().await;
                return true;
            }
            Verdict::OwnFault => self.defer_for_own_fault(message, state, detail).await,
            Verdict::Refused => {
                self.record_success();
                state.attempts += 1;
                self.dead_letter(message, &state, detail).await
            }
            Verdict::Gone => {
                state.attempts += 1;
                let kept = self.dead_letter(message, &state, detail).await;
                self.disable(&outcome.summary).await;
                kept
            }
            Verdict::Retry {
                after,
                endpoint_fails,
            } => {
                self.record_retry(endpoint_fails, &outcome.summary);
                state.attempts += 1;
                self.retry(message, state, after, detail).await
            }
        };
        // Not settled only if the process stops first; then the broker redelivers it.
        if settled {
            delivery.ack().await;
        }
        false
    }

    /// Whether the endpoint wants the event's session. Binding keys cannot express session patterns.
    pub(super) fn is_wanted(&self, message: &crate::amqp::Incoming) -> bool {
        if message.exchange != self.shared.names.events() {
            return true;
        }
        let session = message.routing_key.split('.').next().unwrap_or_default();
        fanout::wants_session(&self.endpoint, session)
    }

    async fn retry(
        &self,
        message: &crate::amqp::Incoming,
        mut state: DeliveryState,
        after: Option<Duration>,
        detail: &str,
    ) -> bool {
        let now = self.shared.now();
        let own = self.endpoint.settings.retries.as_ref();
        let settings = &self.shared.settings;
        let wait = schedule::wait(own, settings, state.attempts, state.age(now), after);
        let Some(wait) = wait else {
            return self.dead_letter(message, &state, detail).await;
        };
        state.deferrals = 0;
        state.not_before = later(now, wait);
        self.defer(message, &state, wait).await
    }

    /// The failure is on our side (egress): the delivery is deferred, longer each time, and does not count as an
    /// attempt. It is still given up at its maximum age: a route that only one receiver needs may never be fixed.
    async fn defer_for_own_fault(
        &self,
        message: &crate::amqp::Incoming,
        mut state: DeliveryState,
        detail: &str,
    ) -> bool {
        let settings = &self.shared.settings;
        let doubled = 2_u32.saturating_pow(state.deferrals.min(16));
        let wait = settings
            .probe_min
            .saturating_mul(doubled)
            .min(settings.probe_max);
        let age = state.age(self.shared.now());
        let Some(wait) = schedule::within_max_age(settings, age, wait) else {
            return self.dead_letter(message, &state, detail).await;
        };
        state.deferrals += 1;
        state.not_before = None;
        self.defer(message, &state, wait).await
    }
}

pub(super) fn later(now: Timestamp, wait: Duration) -> Option<Timestamp> {
    now.0.checked_add(wait).ok().map(Timestamp)
}
