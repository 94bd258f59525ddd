//! An endpoint that wants its deliveries one by one, in order: one of all processes sends, and a
//! delivery that fails holds up the others.
//!
//! Which process it is, a lease in the store says. What a delivery has been through is known to that
//! process alone; after it died, the next one begins to count anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::amqp::{Subscription, SubscriptionDelivery};
use crate::contract::Timestamp;
use crate::store::endpoints::Endpoint;

use super::{Ended, Line};
use crate::webhooks::messages::{Past, event_id};
use crate::webhooks::schedule;
use crate::webhooks::verdict::Verdict;

/// For how long one process has the right to send, and how often it renews that.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);

/// A delivery waits here at most so long; beyond that the broker might take it for lost (its
/// `consumer_timeout` is half an hour), so it goes back to the head of its queue meanwhile.
const HOLD: Duration = Duration::from_mins(10);

/// What the delivery that is next has been through.
#[derive(Debug, Default)]
pub(super) struct Held {
    event_id: String,
    past: Past,
}

/// What comes after a delivery.
enum Next {
    /// The next one.
    Delivery,
    /// The same one, after so long.
    Again(Duration),
    /// Nothing more in this phase.
    Ended(Ended),
}

/// Delivers in order until the phase is over.
pub(super) async fn run(
    line: &Arc<Line>,
    changes: &mut watch::Receiver<Endpoint>,
    held: &mut Held,
) -> Ended {
    loop {
        if line.leads().await {
            let ended = tokio::select! {
                ended = deliver_all(line, changes, held) => ended,
                // Somebody else may send by now: what is under way is given up, and comes again.
                () = line.lose_lead() => None,
            };
            if let Some(ended) = ended {
                line.shared.endpoints.follow(&line.endpoint.name).await.ok();
                return ended;
            }
        }
        tokio::select! {
            ended = line.over(changes) => return ended,
            () = line.rest_before_opening(line.shared.settings.refresh) => {}
        }
    }
}

/// None when the subscription has ended, or may end.
async fn deliver_all(
    line: &Arc<Line>,
    changes: &mut watch::Receiver<Endpoint>,
    held: &mut Held,
) -> Option<Ended> {
    loop {
        let Ok(subscription) = line.shared.subscriptions.open(&line.queue, 1).await else {
            line.make_queue_again().await;
            return None;
        };
        let next = deliver_some(line, changes, held, &subscription).await;
        subscription.close().await;
        match next? {
            Next::Delivery => {}
            Next::Ended(ended) => return Some(ended),
            Next::Again(wait) => tokio::select! {
                ended = line.over(changes) => return Some(ended),
                () = tokio::time::sleep(wait) => {}
            },
        }
    }
}

/// None when the subscription has ended, or may end.
async fn deliver_some(
    line: &Arc<Line>,
    changes: &mut watch::Receiver<Endpoint>,
    held: &mut Held,
    subscription: &Subscription,
) -> Option<Next> {
    loop {
        let delivery = tokio::select! {
            ended = line.over(changes) => return Some(Next::Ended(ended)),
            delivery = line.next(subscription) => delivery?,
        };
        match hold(line, changes, held, delivery).await {
            Next::Delivery => {}
            other => return Some(other),
        }
    }
}

/// Holds one delivery until it is settled.
async fn hold(
    line: &Arc<Line>,
    changes: &mut watch::Receiver<Endpoint>,
    held: &mut Held,
    delivery: SubscriptionDelivery,
) -> Next {
    let id = event_id(&delivery.message);
    if held.event_id != id {
        *held = Held {
            event_id: id,
            past: Past::default(),
        };
    }
    loop {
        let Some(wait) = line.deliver_held(&delivery, &mut held.past).await else {
            delivery.ack().await;
            return Next::Delivery;
        };
        if wait > HOLD {
            delivery.give_back().await;
            return Next::Again(wait);
        }
        tokio::select! {
            ended = line.over(changes) => {
                delivery.give_back().await;
                return Next::Ended(ended);
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Line {
    /// Tries a delivery once; how long to wait before the next time, or none once it is settled.
    async fn deliver_held(
        &self,
        delivery: &SubscriptionDelivery,
        past: &mut Past,
    ) -> Option<Duration> {
        let message = &delivery.message;
        let now = self.shared.now();
        if self.answers(message).await || !self.is_wanted(message) {
            return None;
        }
        past.first_seen.get_or_insert(now);
        let attempted = self.attempt(message, past.attempts + 1).await;
        let settings = &self.shared.settings;
        let wait = match attempted.verdict {
            Verdict::Delivered => {
                self.good();
                return None;
            }
            Verdict::OwnFault => {
                schedule::within_max_age(settings, past.age(now), settings.probe_min)
            }
            Verdict::Refused | Verdict::Gone => {
                past.attempts += 1;
                let kept = self.bury(message, past, &attempted.words).await;
                if attempted.verdict == Verdict::Gone {
                    self.disable(&attempted.brief).await;
                }
                // Not kept when the process ends first; what it holds then goes back.
                return (!kept).then_some(HOLD);
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
                let own = self.endpoint.settings.retries.as_ref();
                schedule::wait(own, settings, past.attempts, past.age(now), after)
            }
        };
        if wait.is_none() && !self.bury(message, past, &attempted.words).await {
            return Some(HOLD);
        }
        wait
    }

    /// Claims the right to send, or keeps it.
    async fn leads(&self) -> bool {
        let now = self.shared.now();
        let until = Timestamp(now.0.checked_add(LEASE).unwrap_or(now.0));
        let name = &self.endpoint.name;
        matches!(self.shared.endpoints.lead(name, now, until).await, Ok(true))
    }

    /// Keeps the right to send as long as possible.
    async fn lose_lead(&self) {
        loop {
            tokio::time::sleep(RENEW).await;
            if !self.leads().await {
                return;
            }
        }
    }
}
