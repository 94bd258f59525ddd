//! The worker of one endpoint in one process: its phases, and the transitions between them.
//!
//! *Idle*: nothing is sent. *Flowing*: the queue is consumed. *Failing*: the breaker is open, and one of all
//! processes sends a probe from time to time. The phase follows from the endpoint's row in the store, so it
//! is the same in every process.

mod attempt;
mod flow;
mod ordered;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use url::Url;

use crate::amqp::{Subscription, SubscriptionDelivery};
use crate::config::DeliveryCrash;
use crate::contract::{NoticeName, WebhookState};
use crate::observability::events;
use crate::outbound::{HeaderName, HeaderValue};
use crate::store::endpoints::Endpoint;

use crate::webhooks::health::Health;
use crate::webhooks::signer::Signer;
use crate::webhooks::{Shared, messages, schedule};

use attempt::custom_headers;
use ordered::Head;

/// Works on one endpoint, at one revision of its settings.
pub(super) struct EndpointWorker {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Endpoint,
    pub(super) signer: Signer,
    /// The parsed URL. None if it cannot be parsed, which does not happen: it was validated when it was set.
    pub(super) url: Option<Url>,
    pub(super) custom_headers: Vec<(HeaderName, HeaderValue)>,
    /// The queue's name.
    pub(super) queue: String,
    // A std mutex: held for a few counts and never across an await.
    health: Mutex<Health>,
    /// Notified when the breaker must be opened; the reason is in `trip_reason`.
    tripped: Notify,
    trip_reason: Mutex<Option<String>>,
}

/// The phase of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Flowing,
    Failing,
}

/// Why a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PhaseEnd {
    /// The endpoint was changed by this process or another one.
    Changed,
    /// The breaker must be opened.
    Tripped,
    /// The process stops, or the endpoint was removed.
    Stopped,
}

/// Works on an endpoint until it is removed or the process stops.
pub(super) async fn run(shared: Arc<Shared>, mut changes: watch::Receiver<Endpoint>) {
    let mut slow_start = false;
    let mut head = Head::default();
    loop {
        let endpoint = changes.borrow_and_update().clone();
        let worker = Arc::new(EndpointWorker::new(&shared, endpoint));
        let phase = worker.phase();
        let ended = match phase {
            Phase::Idle => worker.phase_end(&mut changes).await,
            Phase::Failing => probe::run(&worker, &mut changes).await,
            Phase::Flowing if worker.endpoint.settings.ordered => {
                ordered::run(&worker, &mut changes, &mut head).await
            }
            Phase::Flowing => flow::run(&worker, &mut changes, slow_start).await,
        };
        slow_start = phase == Phase::Failing;
        match ended {
            PhaseEnd::Changed => {}
            PhaseEnd::Tripped => worker.open_breaker().await,
            PhaseEnd::Stopped => return,
        }
    }
}

impl EndpointWorker {
    fn new(shared: &Arc<Shared>, endpoint: Endpoint) -> Self {
        Self {
            shared: Arc::clone(shared),
            signer: Signer::new(&endpoint),
            url: Url::parse(endpoint.settings.url.as_str()).ok(),
            custom_headers: custom_headers(&endpoint.settings),
            queue: shared.names.webhook(&endpoint.name),
            endpoint,
            health: Mutex::default(),
            tripped: Notify::new(),
            trip_reason: Mutex::default(),
        }
    }

    fn phase(&self) -> Phase {
        match self.endpoint.state {
            WebhookState::Paused | WebhookState::Disabled => Phase::Idle,
            WebhookState::Active | WebhookState::Removing => {
                if self.endpoint.breaker.failing_since.is_some() {
                    Phase::Failing
                } else {
                    Phase::Flowing
                }
            }
        }
    }

    /// Waits for the end of the phase.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(super) async fn phase_end(&self, changes: &mut watch::Receiver<Endpoint>) -> PhaseEnd {
        // Each branch only waits, so any can be dropped. The trip has priority, since it causes the change.
        tokio::select! {
            biased;
            () = self.tripped.notified() => PhaseEnd::Tripped,
            () = self.shared.lifecycle.stopping() => PhaseEnd::Stopped,
            result = changes.changed() => {
                if result.is_ok() { PhaseEnd::Changed } else { PhaseEnd::Stopped }
            }
        }
    }

    /// The next delivery. None when the subscription has ended or should be closed: the queue of an endpoint that is
    /// being removed is deleted only while it has no consumer, so it is not consumed while it is empty.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(super) async fn next_delivery(
        &self,
        subscription: &Subscription,
    ) -> Option<SubscriptionDelivery> {
        let next = subscription.next();
        if self.is_removing() {
            let next = tokio::time::timeout(self.shared.settings.refresh, next);
            next.await.ok()?.ok()
        } else {
            next.await.ok()
        }
    }

    /// Waits before the queue is consumed again; if the endpoint is being removed, until the queue is not empty.
    pub(super) async fn wait_before_reopening(&self, wait: Duration) {
        loop {
            tokio::time::sleep(wait).await;
            // An error counts as empty: the queue may have been deleted, and must not be recreated.
            let waiting = self.shared.subscriptions.count(&self.queue);
            if !self.is_removing() || waiting.await.is_ok_and(|count| count > 0) {
                return;
            }
        }
    }

    fn is_removing(&self) -> bool {
        self.endpoint.state == WebhookState::Removing
    }

    /// Answers the message if it is a ping of `doctor`, which is not sent to the endpoint; true if it was one.
    pub(super) async fn answer_ping(&self, message: &crate::amqp::Incoming) -> bool {
        if message.is_ping() {
            let arrived = message.arrived(&self.queue, &self.shared.names);
            // Fails only if the process stops first.
            self.shared.publisher.publish(vec![arrived]).await.ok();
        }
        message.is_ping()
    }

    /// Records an attempt that is to be repeated: a failure of the endpoint, or of this delivery alone.
    pub(super) fn record_retry(&self, endpoint_fails: bool, detail: &str) {
        if endpoint_fails {
            self.record_failure(detail);
        } else {
            self.record_success();
        }
    }

    /// Records an attempt that is no failure of the endpoint.
    pub(super) fn record_success(&self) {
        self.health.lock().record_success();
    }

    /// Records a failure of the endpoint, which may trip its breaker.
    fn record_failure(&self, detail: &str) {
        if self
            .health
            .lock()
            .record_failure(self.shared.settings.failures)
        {
            let mut reason = self.trip_reason.lock();
            reason.get_or_insert_with(|| detail.to_owned());
            self.tripped.notify_one();
        }
    }

    /// Aborts the process at the point that `delivery.crash` names (for tests).
    pub(super) fn crash(&self, here: DeliveryCrash) {
        if self.shared.settings.crash == Some(here) {
            std::process::abort();
        }
    }

    /// Opens the breaker for all processes; the one that changes the row logs and publishes it.
    async fn open_breaker(&self) {
        let reason = self.trip_reason.lock().take().unwrap_or_default();
        let (now, wait) = (self.shared.now(), self.shared.settings.probe_min);
        match self.shared.endpoints.open(&self.endpoint, now, wait).await {
            Ok(true) => {
                events::webhook_failing(&self.endpoint.name, &reason);
                self.publish_notice(NoticeName::Failing, &reason).await;
            }
            Ok(false) => {}
            // The breaker is in the store, which is unavailable: wait, then read the endpoint again.
            Err(_) => self.shared.sleep_unless_stopping(wait).await,
        }
        self.shared.reload(&self.endpoint.name).await;
    }

    /// Closes the breaker for all processes; the one that changes the row logs and publishes it.
    pub(super) async fn close_breaker(&self) {
        if let Ok(true) = self.shared.endpoints.close(&self.endpoint).await {
            events::webhook_recovered(&self.endpoint.name);
            self.publish_notice(NoticeName::Recovered, "a probe was answered with success")
                .await;
        }
        self.shared.reload(&self.endpoint.name).await;
    }

    /// Disables the endpoint: no more events are sent to it or collected for it.
    pub(super) async fn disable(&self, reason: &str) {
        let name = &self.endpoint.name;
        let disabled = WebhookState::Disabled;
        let changed = self
            .shared
            .endpoints
            .set_state(name, disabled, Some(reason))
            .await;
        if let Ok(true) = changed {
            events::webhook_disabled(name, reason);
            self.publish_notice(NoticeName::Disabled, reason).await;
            // If the broker is away, the next round over all endpoints tries again.
            self.shared.fanout.sync(name).await.ok();
        }
        self.shared.reload(name).await;
    }

    async fn publish_notice(&self, event: NoticeName, reason: &str) {
        let (names, now) = (&self.shared.names, self.shared.now());
        let notice = messages::notice(&self.endpoint, event, reason, names, now);
        // Fails only if the process stops first.
        self.shared.publisher.publish(vec![notice]).await.ok();
    }

    /// Publishes a delivery to a delay queue; true once the broker has confirmed it.
    pub(super) async fn defer(
        &self,
        message: &crate::amqp::Incoming,
        state: &messages::DeliveryState,
        wait: Duration,
    ) -> bool {
        let tier = schedule::tier(&self.shared.tiers, wait);
        let deferred = messages::deferred(
            message,
            &self.endpoint.name,
            state,
            tier,
            &self.shared.names,
        );
        let confirmed = self.shared.publisher.defer(deferred).await.is_ok();
        self.crash(DeliveryCrash::AfterPublish);
        confirmed
    }

    /// Gives a delivery up and publishes it as a dead letter; true once the broker has confirmed it.
    pub(super) async fn dead_letter(
        &self,
        message: &crate::amqp::Incoming,
        state: &messages::DeliveryState,
        reason: &str,
    ) -> bool {
        let (names, now) = (&self.shared.names, self.shared.now());
        let dead = messages::dead_letter(message, &self.endpoint.name, state, reason, names, now);
        let kept = self.shared.publisher.publish_mandatory(dead).await.is_ok();
        self.crash(DeliveryCrash::AfterPublish);
        if kept {
            events::webhook_given_up(&self.endpoint.name);
        }
        kept
    }
}
