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

use super::{Ended, Line};
use crate::webhooks::messages::Past;
use crate::webhooks::verdict::Verdict;

/// What a claim is longer than the attempt it is for.
const MARGIN: Duration = Duration::from_secs(10);

/// Probes until the endpoint answers well, here or in another process.
pub(super) async fn run(line: &Arc<Line>, changes: &mut watch::Receiver<Endpoint>) -> Ended {
    loop {
        let now = line.shared.now();
        let due = line.endpoint.breaker.probe_at;
        let until_due = Duration::try_from(due.0.duration_since(now.0)).unwrap_or_default();
        tokio::select! {
            ended = line.over(changes) => return ended,
            () = tokio::time::sleep(until_due) => {}
        }
        line.probe().await;
        line.shared.refresh(&line.endpoint.name).await;
        // What the probe has changed ends this phase. Without a change another process has the probe that
        // is due, or the store is away: seen again soon.
        tokio::select! {
            ended = line.over(changes) => return ended,
            () = tokio::time::sleep(line.shared.settings.refresh) => {}
        }
    }
}

impl Line {
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
            Ok(Some(delivery)) => self.try_out(delivery).await,
            // Nothing to try it with, or no broker: soon again.
            Ok(None) | Err(_) => self.put_off(shared.settings.probe_min).await,
        }
    }

    async fn try_out(&self, delivery: SubscriptionDelivery) {
        if self.answers(&delivery.message).await {
            delivery.ack().await;
            return self.put_off(self.shared.settings.refresh).await;
        }
        let past = Past::of(&delivery.message, &self.shared.names);
        if let Some(left) = past.left(self.shared.now()) {
            if self.lay_to_rest(&delivery.message, &past, left).await {
                delivery.ack().await;
            }
            return self.put_off(self.shared.settings.refresh).await;
        }
        let attempted = self.attempt(&delivery.message, past.attempts + 1).await;
        let longer = self
            .endpoint
            .breaker
            .probe_wait
            .saturating_mul(2)
            .min(self.shared.settings.probe_max);
        match attempted.verdict {
            Verdict::Delivered => {
                delivery.ack().await;
                self.close_breaker().await;
            }
            Verdict::Gone => {
                if self.bury(&delivery.message, &past, &attempted.words).await {
                    delivery.ack().await;
                }
                self.disable(&attempted.brief).await;
            }
            // It speaks again, though not well of this one.
            Verdict::Refused => {
                if self.bury(&delivery.message, &past, &attempted.words).await {
                    delivery.ack().await;
                }
                self.close_breaker().await;
            }
            Verdict::OwnFault => {
                delivery.give_back().await;
                self.put_off(self.endpoint.breaker.probe_wait).await;
            }
            Verdict::Retry { after, .. } => {
                let asked = after.unwrap_or_default();
                let wait = longer.max(asked.min(self.shared.settings.retry_after_max));
                self.set_aside(delivery, past, wait).await;
                self.put_off(wait).await;
                self.disable_if_failing_too_long().await;
            }
        }
    }

    /// Makes room for another delivery to be the next probe: this one may be what the endpoint cannot
    /// take. Where order counts, it stays in front.
    async fn set_aside(&self, delivery: SubscriptionDelivery, past: Past, wait: Duration) {
        let ordered = self.endpoint.settings.ordered;
        if !ordered && self.lay_to_rest(&delivery.message, &past, wait).await {
            delivery.ack().await;
        } else {
            delivery.give_back().await;
        }
    }

    async fn put_off(&self, wait: Duration) {
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
