//! An endpoint that fails: nothing is sent to it but one probe now and then, by one of all processes.
//!
//! A probe is a delivery that waits anyway. Whatever comes of it, it is charged nothing, unless it is
//! delivered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::amqp::SubscriptionDelivery;
use crate::contract::Timestamp;
use crate::store::endpoints::Endpoint;

use super::{EndpointWorker, PhaseEnd};
use crate::webhooks::messages::DeliveryState;
use crate::webhooks::verdict::Verdict;

/// What a claim is longer than the attempt it is for.
const MARGIN: Duration = Duration::from_secs(10);

/// Probes until the endpoint answers well, here or in another process.
pub(super) async fn run(
    worker: &Arc<EndpointWorker>,
    changes: &mut watch::Receiver<Endpoint>,
) -> PhaseEnd {
    loop {
        let now = worker.shared.now();
        let due = worker.endpoint.breaker.probe_at;
        let until_due = Duration::try_from(due.0.duration_since(now.0)).unwrap_or_default();
        tokio::select! {
            ended = worker.phase_end(changes) => return ended,
            () = tokio::time::sleep(until_due) => {}
        }
        worker.probe().await;
        worker.shared.reload(&worker.endpoint.name).await;
        // What the probe has changed ends this phase. Without a change another process has the probe that
        // is due, or the store is away: seen again soon.
        tokio::select! {
            ended = worker.phase_end(changes) => return ended,
            () = tokio::time::sleep(worker.shared.settings.refresh) => {}
        }
    }
}

impl EndpointWorker {
    /// Sends the probe that is due, if it is ours to send.
    async fn probe(&self) {
        let (shared, endpoint) = (&self.shared, &self.endpoint);
        let now = shared.now();
        let timeout = endpoint
            .settings
            .timeout_seconds
            .map_or(shared.settings.timeout, |seconds| {
                Duration::from_secs(seconds.into())
            });
        let until = now.0.checked_add(timeout + MARGIN).unwrap_or(now.0);
        let claimed = shared
            .endpoints
            .claim_probe(endpoint, now, Timestamp(until));
        if !matches!(claimed.await, Ok(true)) {
            return;
        }
        match shared.subscriptions.take(&self.queue).await {
            Ok(Some(delivery)) => self.send_probe(delivery).await,
            // Nothing to try it with, or no broker: soon again.
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
            // It speaks again, though not well of this one.
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

    /// Makes room for another delivery to be the next probe: this one may be what the endpoint cannot
    /// take. Where order counts, it stays in front.
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
        let (endpoint, now) = (&self.endpoint, self.shared.now());
        // Without the store the claim ends by itself.
        self.shared
            .endpoints
            .probe_later(endpoint, now, wait)
            .await
            .ok();
    }

    /// Asked after a probe that failed, and only then: that nothing came to try it with, or that our own
    /// way out is broken, says nothing against the endpoint.
    async fn disable_if_failing_too_long(&self) {
        let (limit, now) = (self.shared.settings.disable_after, self.shared.now());
        let has_failed_too_long = self.endpoint.breaker.failing_since.is_some_and(|since| {
            Duration::try_from(now.0.duration_since(since.0)).is_ok_and(|failing| failing > limit)
        });
        if has_failed_too_long {
            self.disable(&format!("it has failed for longer than {limit:?}"))
                .await;
        }
    }
}
