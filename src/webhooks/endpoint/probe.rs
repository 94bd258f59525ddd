//! A failing endpoint: nothing is sent to it except one probe from time to time, by one of all processes.
//!
//! A probe is a delivery taken from the endpoint's queue. A failed probe does not count as an attempt at that
//! delivery.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::amqp::SubscriptionDelivery;
use crate::store::endpoints::Endpoint;

use super::{EndpointWorker, PhaseEnd};
use crate::webhooks::messages::DeliveryState;
use crate::webhooks::verdict::Verdict;

/// The claim on a probe outlasts the attempt's timeout by this much.
const MARGIN: Duration = Duration::from_secs(10);

/// Sends probes until one succeeds, in this process or another one.
pub(super) async fn run(
    worker: &Arc<EndpointWorker>,
    changes: &mut watch::Receiver<Endpoint>,
) -> PhaseEnd {
    loop {
        let now = worker.shared.now();
        let breaker = &worker.endpoint.breaker;
        // By the store's clock, from which this one may differ: it cannot be further away than that.
        let until_due = Duration::try_from(breaker.probe_at.0.duration_since(now.0));
        let until_due = until_due.unwrap_or_default().min(breaker.probe_wait);
        tokio::select! {
            ended = worker.phase_end(changes) => return ended,
            () = tokio::time::sleep(until_due) => {}
        }
        worker.probe().await;
        worker.shared.reload(&worker.endpoint.name).await;
        // A change made by the probe ends this phase. Without a change, another process has claimed the
        // probe or the store is away: check again soon.
        tokio::select! {
            ended = worker.phase_end(changes) => return ended,
            () = tokio::time::sleep(worker.shared.settings.refresh) => {}
        }
    }
}

impl EndpointWorker {
    /// Sends the probe that is due, if this process can claim it.
    async fn probe(&self) {
        let (shared, endpoint) = (&self.shared, &self.endpoint);
        // A process that has not noticed yet that the breaker is open may have the first delivery in flight: the
        // next one must not be sent before it.
        if endpoint.settings.ordered && !self.renew_lease().await {
            return;
        }
        let timeout = endpoint
            .settings
            .timeout_seconds
            .map_or(shared.settings.timeout, |seconds| {
                Duration::from_secs(seconds.into())
            });
        let claimed = shared.leases.acquire_probe(endpoint, timeout + MARGIN);
        if !matches!(claimed.await, Ok(true)) {
            return;
        }
        match shared.subscriptions.take(&self.queue).await {
            Ok(Some(delivery)) => self.send_probe(delivery).await,
            // The queue is empty or the broker is away: try again soon.
            Ok(None) | Err(_) => self.postpone_probe(shared.settings.probe_min).await,
        }
    }

    async fn send_probe(&self, delivery: SubscriptionDelivery) {
        if self.answer_ping(&delivery.message).await {
            delivery.ack().await;
            return self.postpone_probe(self.shared.settings.refresh).await;
        }
        let state = DeliveryState::from_message(&delivery.message, &self.shared.names);
        if let Some(left) = state.remaining_wait(self.shared.now()) {
            if self.defer(&delivery.message, &state, left).await {
                delivery.ack().await;
            }
            return self.postpone_probe(self.shared.settings.refresh).await;
        }
        let outcome = self.attempt(&delivery.message, state.attempts + 1).await;
        let longer = self
            .endpoint
            .breaker
            .probe_wait
            .saturating_mul(2)
            .min(self.shared.settings.probe_max);
        match outcome.verdict {
            Verdict::Delivered => {
                delivery.ack().await;
                self.close_breaker().await;
            }
            Verdict::Gone => {
                if self
                    .dead_letter(&delivery.message, &state, &outcome.detail)
                    .await
                {
                    delivery.ack().await;
                }
                self.disable(&outcome.summary).await;
            }
            // The endpoint answers again; it only refuses this delivery.
            Verdict::Refused => {
                if self
                    .dead_letter(&delivery.message, &state, &outcome.detail)
                    .await
                {
                    delivery.ack().await;
                }
                self.close_breaker().await;
            }
            Verdict::OwnFault => {
                delivery.give_back().await;
                self.postpone_probe(self.endpoint.breaker.probe_wait).await;
            }
            Verdict::Retry { after, .. } => {
                let asked = after.unwrap_or_default();
                let wait = longer.max(asked.min(self.shared.settings.retry_after_max));
                self.defer_or_requeue(delivery, state, wait).await;
                self.postpone_probe(wait).await;
                self.disable_if_failing_too_long().await;
            }
        }
    }

    /// Defers the delivery, so that the next probe uses another one: this one may be the reason of the failure.
    /// With ordered delivery it is requeued at the head.
    async fn defer_or_requeue(
        &self,
        delivery: SubscriptionDelivery,
        state: DeliveryState,
        wait: Duration,
    ) {
        let ordered = self.endpoint.settings.ordered;
        if !ordered && self.defer(&delivery.message, &state, wait).await {
            delivery.ack().await;
        } else {
            delivery.give_back().await;
        }
    }

    async fn postpone_probe(&self, wait: Duration) {
        // If the store is away, the lease expires.
        let leases = &self.shared.leases;
        leases.release_probe(&self.endpoint, wait).await.ok();
    }

    /// Called only after a failed probe: an empty queue or a failure on our side says nothing about the
    /// endpoint.
    async fn disable_if_failing_too_long(&self) {
        let (limit, now) = (self.shared.settings.disable_after, self.shared.now());
        let has_failed_too_long = self.endpoint.breaker.failing_since.is_some_and(|since| {
            Duration::try_from(now.0.duration_since(since.0)).is_ok_and(|failing| failing > limit)
        });
        if has_failed_too_long {
            self.disable(&format!("it has been failing for longer than {limit:?}"))
                .await;
        }
    }
}
