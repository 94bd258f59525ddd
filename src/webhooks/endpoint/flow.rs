//! An endpoint that answers: its queue is consumed, some deliveries at a time, at its pace.
//!
//! After its breaker was closed it begins with one at a time, and with one more for each that goes well.

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

use super::{Ended, Line};
use crate::webhooks::messages::Past;
use crate::webhooks::schedule;
use crate::webhooks::verdict::Verdict;

/// How long to wait before a subscription that ended, or could not be opened, is opened again.
const REOPEN: Duration = Duration::from_millis(500);

/// So many messages for each delivery under way are taken from the broker, and so many at least: the
/// next one is here already when a slot gets free, and acknowledgements can wait for company. What waits
/// here has not been tried, and goes back to the queue when the phase ends.
const AHEAD: u16 = 4;
const AHEAD_MIN: u16 = 32;

/// How many deliveries may be under way.
struct Slots {
    free: Arc<Semaphore>,
    granted: AtomicU16,
    most: u16,
}

impl Slots {
    fn new(most: u16, gently: bool) -> Self {
        let granted = if gently { 1 } else { most };
        Self {
            free: Arc::new(Semaphore::new(granted.into())),
            granted: AtomicU16::new(granted),
            most,
        }
    }

    /// One more at a time, after one that went well.
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

    /// Waits until none is under way.
    async fn all_free(&self) {
        let granted = self.granted.load(Ordering::Relaxed).into();
        // Closed never. What is granted meanwhile is free by then.
        drop(self.free.acquire_many(granted).await);
    }
}

/// Delivers until the phase is over; what was begun is finished, what was not goes back to the queue.
pub(super) async fn run(
    line: &Arc<Line>,
    changes: &mut watch::Receiver<Endpoint>,
    gently: bool,
) -> Ended {
    let most = line
        .endpoint
        .settings
        .concurrency
        .unwrap_or(line.shared.settings.concurrency);
    let slots = Arc::new(Slots::new(most, gently));
    let prefetch = most.saturating_mul(AHEAD).max(AHEAD_MIN);
    loop {
        let opened = tokio::select! {
            opened = line.shared.subscriptions.open(&line.queue, prefetch) => opened,
            ended = line.over(changes) => return ended,
        };
        if let Ok(subscription) = opened {
            let ended = consume(line, changes, &subscription, &slots).await;
            subscription.take_no_more();
            slots.all_free().await;
            subscription.close().await;
            if let Some(ended) = ended {
                return ended;
            }
        } else {
            line.make_queue_again().await;
        }
        // The link itself tells of its outages.
        tokio::select! {
            () = line.rest_before_opening(REOPEN) => {}
            ended = line.over(changes) => return ended,
        }
    }
}

/// None when the subscription has ended, or may end.
async fn consume(
    line: &Arc<Line>,
    changes: &mut watch::Receiver<Endpoint>,
    subscription: &Subscription,
    slots: &Arc<Slots>,
) -> Option<Ended> {
    let pace = Pace::of(line).await;
    loop {
        let next = async {
            // Never closed: it lives as long as the phase.
            let slot = Arc::clone(&slots.free).acquire_owned().await.ok()?;
            let delivery = line.next(subscription).await?;
            pace.wait().await;
            Some((slot, delivery))
        };
        // Dropped, a message that was taken goes back to the queue.
        let (slot, delivery) = tokio::select! {
            ended = line.over(changes) => return Some(ended),
            next = next => next?,
        };
        let (line, slots) = (Arc::clone(line), Arc::clone(slots));
        let waiting = subscription.waiting();
        let is_limited = pace.is_limited();
        line.shared.lifecycle.clone().spawn(async move {
            // Goes on with what is here already: a task for each would cost more than the rest of it.
            // After a failure others decide whether anything goes on.
            let mut next = Some(delivery);
            while let Some(delivery) = next.take() {
                if line.deliver(delivery).await {
                    slots.grow();
                    next = if is_limited { None } else { waiting.next() };
                }
            }
            drop(slot);
        });
    }
}

/// How fast an endpoint may be sent to.
struct Pace(Option<DefaultDirectRateLimiter>);

impl Pace {
    /// Its limit, shared out among the processes that consume its queue.
    async fn of(line: &Line) -> Self {
        let Some(limit) = line.endpoint.settings.rate_limit else {
            return Self(None);
        };
        let consumers = line.shared.subscriptions.consumers(&line.queue).await;
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

impl Line {
    /// Makes the endpoint's queue anew, should somebody have deleted it: the broker is there.
    pub(super) async fn make_queue_again(&self) {
        if *self.shared.subscriptions.connected().borrow() {
            self.shared.fanout.mend(&self.endpoint.name).await.ok();
        }
    }

    /// Deals with one delivery, to the point where it may be acknowledged; true when it was delivered.
    async fn deliver(&self, delivery: SubscriptionDelivery) -> bool {
        let message = &delivery.message;
        let mut past = Past::of(message, &self.shared.names);
        let now = self.shared.now();
        if self.answers(message).await || !self.is_wanted(message) {
            delivery.ack().await;
            return false;
        }
        if let Some(left) = past.left(now) {
            if self.lay_to_rest(message, &past, left).await {
                delivery.ack().await;
            }
            return false;
        }
        past.first_seen.get_or_insert(now);
        let attempted = self.attempt(message, past.attempts + 1).await;
        let words = &attempted.words;
        let settled = match attempted.verdict {
            Verdict::Delivered => {
                self.good();
                delivery.ack().await;
                return true;
            }
            Verdict::OwnFault => self.wait_for_our_way_out(message, past, words).await,
            Verdict::Refused => {
                self.good();
                past.attempts += 1;
                self.bury(message, &past, words).await
            }
            Verdict::Gone => {
                past.attempts += 1;
                let kept = self.bury(message, &past, words).await;
                self.disable(&attempted.brief).await;
                kept
            }
            Verdict::Retry {
                after,
                endpoint_fails,
            } => {
                if endpoint_fails {
                    self.bad(&attempted.brief);
                } else {
                    self.good();
                }
                past.attempts += 1;
                self.retry(message, past, after, words).await
            }
        };
        // Not settled when the process ends first: then it comes again.
        if settled {
            delivery.ack().await;
        }
        false
    }

    /// Whether the event is of a session that the endpoint wants; the broker cannot tell of patterns.
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
        mut past: Past,
        after: Option<Duration>,
        words: &str,
    ) -> bool {
        let now = self.shared.now();
        let own = self.endpoint.settings.retries.as_ref();
        let settings = &self.shared.settings;
        let wait = schedule::wait(own, settings, past.attempts, past.age(now), after);
        let Some(wait) = wait else {
            return self.bury(message, &past, words).await;
        };
        past.rests = 0;
        past.not_before = later(now, wait);
        self.lay_to_rest(message, &past, wait).await
    }

    /// Our own way out is broken: the delivery rests, longer each time, and nothing is charged. What is
    /// too old is given up all the same: nobody may ever mend a way that only one receiver needs.
    async fn wait_for_our_way_out(
        &self,
        message: &crate::amqp::Incoming,
        mut past: Past,
        words: &str,
    ) -> bool {
        let settings = &self.shared.settings;
        let doubled = 2_u32.saturating_pow(past.rests.min(16));
        let wait = settings
            .probe_min
            .saturating_mul(doubled)
            .min(settings.probe_max);
        let age = past.age(self.shared.now());
        let Some(wait) = schedule::within_max_age(settings, age, wait) else {
            return self.bury(message, &past, words).await;
        };
        past.rests += 1;
        past.not_before = None;
        self.lay_to_rest(message, &past, wait).await
    }
}

pub(super) fn later(now: Timestamp, wait: Duration) -> Option<Timestamp> {
    now.0.checked_add(wait).ok().map(Timestamp)
}
