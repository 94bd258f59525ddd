//! An endpoint with ordered delivery: one of all processes sends, one delivery at a time, and a delivery that
//! fails blocks those behind it.
//!
//! A lease in the store decides which process that is. Only this process knows the delivery's state (attempts,
//! age); the process that takes over starts counting from zero.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::amqp::{Subscription, SubscriptionDelivery};
use crate::store::endpoints::Endpoint;

use super::{EndpointWorker, PhaseEnd};
use crate::webhooks::messages::{DeliveryState, event_id};
use crate::webhooks::schedule;
use crate::webhooks::verdict::Verdict;

/// The duration of the lease on sending, and the interval of its renewal.
const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);

/// The longest time a delivery is held unacknowledged, below the broker's `consumer_timeout` of half an hour.
/// For a longer wait it is requeued at the head of its queue.
const MAX_HOLD: Duration = Duration::from_mins(10);

/// The delivery at the head of the queue, and its state.
#[derive(Debug, Default)]
pub(super) struct Head {
    event_id: String,
    state: DeliveryState,
}

/// What follows a delivery.
enum Step {
    /// The next delivery.
    Delivery,
    /// The same delivery, after a wait.
    Again(Duration),
    /// The end of the phase.
    PhaseEnd(PhaseEnd),
}

/// Delivers in order until the phase ends.
pub(super) async fn run(
    worker: &Arc<EndpointWorker>,
    changes: &mut watch::Receiver<Endpoint>,
    head: &mut Head,
) -> PhaseEnd {
    loop {
        if worker.renew_lease().await {
            let ended = tokio::select! {
                ended = deliver_all(worker, changes, head) => ended,
                // Another process may send by now: the attempt in flight is dropped, and the delivery redelivered.
                () = worker.until_lease_lost() => None,
            };
            if let Some(ended) = ended {
                worker
                    .shared
                    .leases
                    .release_sending(&worker.endpoint.name)
                    .await
                    .ok();
                return ended;
            }
        }
        tokio::select! {
            ended = worker.phase_end(changes) => return ended,
            () = worker.wait_before_reopening(worker.shared.settings.refresh) => {}
        }
    }
}

/// None when the subscription has ended or should be closed.
async fn deliver_all(
    worker: &Arc<EndpointWorker>,
    changes: &mut watch::Receiver<Endpoint>,
    head: &mut Head,
) -> Option<PhaseEnd> {
    loop {
        let Ok(subscription) = worker.shared.subscriptions.open(&worker.queue, 1).await else {
            worker.recreate_queue().await;
            return None;
        };
        let next = deliver_some(worker, changes, head, &subscription).await;
        subscription.close().await;
        match next? {
            Step::Delivery => {}
            Step::PhaseEnd(ended) => return Some(ended),
            Step::Again(wait) => tokio::select! {
                ended = worker.phase_end(changes) => return Some(ended),
                () = tokio::time::sleep(wait) => {}
            },
        }
    }
}

/// None when the subscription has ended or should be closed.
async fn deliver_some(
    worker: &Arc<EndpointWorker>,
    changes: &mut watch::Receiver<Endpoint>,
    head: &mut Head,
    subscription: &Subscription,
) -> Option<Step> {
    loop {
        let delivery = tokio::select! {
            ended = worker.phase_end(changes) => return Some(Step::PhaseEnd(ended)),
            delivery = worker.next_delivery(subscription) => delivery?,
        };
        match process_head(worker, changes, head, delivery).await {
            Step::Delivery => {}
            other => return Some(other),
        }
    }
}

/// Holds one delivery until it is settled.
async fn process_head(
    worker: &Arc<EndpointWorker>,
    changes: &mut watch::Receiver<Endpoint>,
    head: &mut Head,
    delivery: SubscriptionDelivery,
) -> Step {
    let id = event_id(&delivery.message);
    if head.event_id != id {
        *head = Head {
            event_id: id,
            state: DeliveryState::default(),
        };
    }
    loop {
        let Some(wait) = worker.deliver_head(&delivery, &mut head.state).await else {
            delivery.ack().await;
            return Step::Delivery;
        };
        if wait > MAX_HOLD {
            delivery.give_back().await;
            return Step::Again(wait);
        }
        tokio::select! {
            ended = worker.phase_end(changes) => {
                delivery.give_back().await;
                return Step::PhaseEnd(ended);
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl EndpointWorker {
    /// Attempts a delivery once. Returns the wait before the next attempt, or none if it is settled.
    async fn deliver_head(
        &self,
        delivery: &SubscriptionDelivery,
        state: &mut DeliveryState,
    ) -> Option<Duration> {
        let message = &delivery.message;
        let now = self.shared.now();
        if self.answer_ping(message).await || !self.is_wanted(message) {
            return None;
        }
        state.first_seen.get_or_insert(now);
        let outcome = self.attempt(message, state.attempts + 1).await;
        let settings = &self.shared.settings;
        let wait = match outcome.verdict {
            Verdict::Delivered => {
                self.record_success();
                return None;
            }
            Verdict::OwnFault => {
                schedule::within_max_age(settings, state.age(now), settings.probe_min)
            }
            Verdict::Refused | Verdict::Gone => {
                state.attempts += 1;
                let kept = self.dead_letter(message, state, &outcome.detail).await;
                if outcome.verdict == Verdict::Gone {
                    self.disable(&outcome.summary).await;
                }
                // Not kept only if the process stops first; then the delivery is requeued.
                return (!kept).then_some(MAX_HOLD);
            }
            Verdict::Retry {
                after,
                endpoint_fails,
            } => {
                self.record_retry(endpoint_fails, &outcome.summary);
                state.attempts += 1;
                let own = self.endpoint.settings.retries.as_ref();
                schedule::wait(own, settings, state.attempts, state.age(now), after)
            }
        };
        if wait.is_none() && !self.dead_letter(message, state, &outcome.detail).await {
            return Some(MAX_HOLD);
        }
        wait
    }

    /// Acquires or renews the lease on sending; true if this process holds it.
    pub(super) async fn renew_lease(&self) -> bool {
        let name = &self.endpoint.name;
        matches!(
            self.shared.leases.acquire_sending(name, LEASE).await,
            Ok(true)
        )
    }

    /// Renews the lease until that fails.
    async fn until_lease_lost(&self) {
        loop {
            tokio::time::sleep(RENEW).await;
            if !self.renew_lease().await {
                return;
            }
        }
    }
}
