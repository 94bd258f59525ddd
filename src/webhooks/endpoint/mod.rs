//! One endpoint in one process: which phase it is in, and the change from one to the next.
//!
//! *Idle*: nothing is sent. *Flowing*: its queue is consumed. *Failing*: its breaker is open, and a
//! probe is sent now and then by one of all processes. What the phase is, the store says; every process
//! follows.

mod attempt;
mod flow;
mod ordered;
mod probe;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

/// One endpoint at one revision.
pub(super) struct EndpointWorker {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Endpoint,
    pub(super) signer: Signer,
    /// Where it is, read once. None when that cannot be read; it was checked when it was set.
    pub(super) url: Option<Url>,
    pub(super) custom_headers: Vec<(HeaderName, HeaderValue)>,
    /// The queue's name.
    pub(super) queue: String,
    // A std mutex: held for a few counts and never across an await.
    health: Mutex<Health>,
    /// Told once the breaker has to open, with the reason kept beside it.
    tripped: Notify,
    trip_reason: Mutex<Option<String>>,
}

/// What is to be done for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Flowing,
    Failing,
}

/// Why a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PhaseEnd {
    /// The endpoint was changed, here or by another process.
    Changed,
    /// Its breaker has to open.
    Tripped,
    /// The process stops, or the endpoint is gone.
    Stopped,
}

/// Looks after an endpoint until it is gone or the process stops.
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

    /// Waits until the phase is over.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub(super) async fn phase_end(&self, changes: &mut watch::Receiver<Endpoint>) -> PhaseEnd {
        // Each branch only waits. A trip is asked for first: the change that it leads to follows it.
        tokio::select! {
            biased;
            () = self.tripped.notified() => PhaseEnd::Tripped,
            () = self.shared.lifecycle.stopping() => PhaseEnd::Stopped,
            changed = changes.changed() => {
                if changed.is_ok() { PhaseEnd::Changed } else { PhaseEnd::Stopped }
            }
        }
    }

    /// The next message. None when the subscription has ended, or may end: the queue of an endpoint on its way out
    /// goes once nobody consumes it, so it is not consumed while nothing comes.
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

    /// Waits for so long before the queue is consumed again; on the way out, until something is in it.
    pub(super) async fn wait_before_reopening(&self, wait: Duration) {
        loop {
            tokio::time::sleep(wait).await;
            // Without an answer too: the queue may be gone by now, and is not to be made again.
            let waiting = self.shared.subscriptions.count(&self.queue);
            if !self.is_removing() || waiting.await.is_ok_and(|count| count > 0) {
                return;
            }
        }
    }

    fn is_removing(&self) -> bool {
        self.endpoint.state == WebhookState::Removing
    }

    /// Answers a ping, which is no event and is not sent; true when it was one.
    pub(super) async fn answer_ping(&self, message: &crate::amqp::Incoming) -> bool {
        if message.is_ping() {
            let arrived = message.arrived(&self.queue, &self.shared.names);
            // Not published only when the process ends first.
            self.shared.publisher.publish(vec![arrived]).await.ok();
        }
        message.is_ping()
    }

    /// Notes that an attempt says nothing against the endpoint.
    pub(super) fn record_success(&self) {
        self.health().record_success();
    }

    /// Notes a failure of the endpoint, which may open its breaker.
    pub(super) fn record_failure(&self, detail: &str) {
        if self.health().record_failure(self.shared.settings.failures) {
            let mut reason = self
                .trip_reason
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            reason.get_or_insert_with(|| detail.to_owned());
            self.tripped.notify_one();
        }
    }

    /// Dies, without any cleaning up, where the settings want it.
    pub(super) fn crash(&self, here: DeliveryCrash) {
        if self.shared.settings.crash == Some(here) {
            std::process::abort();
        }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the breaker for all processes; one of them tells of it.
    async fn open_breaker(&self) {
        let reason = self
            .trip_reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .unwrap_or_default();
        let (now, wait) = (self.shared.now(), self.shared.settings.probe_min);
        match self.shared.endpoints.open(&self.endpoint, now, wait).await {
            Ok(true) => {
                events::webhook_failing(&self.endpoint.name, &reason);
                self.publish_notice(NoticeName::Failing, &reason).await;
            }
            Ok(false) => {}
            // Without the store nobody can agree on anything: rest here, and see again.
            Err(_) => self.shared.sleep_unless_stopping(wait).await,
        }
        self.shared.reload(&self.endpoint.name).await;
    }

    /// Closes the breaker for all processes; one of them tells of it.
    pub(super) async fn close_breaker(&self) {
        if let Ok(true) = self.shared.endpoints.close(&self.endpoint).await {
            events::webhook_recovered(&self.endpoint.name);
            self.publish_notice(NoticeName::Recovered, "it answered a probe well")
                .await;
        }
        self.shared.reload(&self.endpoint.name).await;
    }

    /// Sends nothing more to the endpoint, and collects nothing more for it.
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
            // Tried again by the round over all endpoints, should the broker be away.
            self.shared.fanout.sync(name).await.ok();
        }
        self.shared.reload(name).await;
    }

    async fn publish_notice(&self, event: NoticeName, reason: &str) {
        let (names, now) = (&self.shared.names, self.shared.now());
        let notice = messages::notice(&self.endpoint, event, reason, names, now);
        // Not published only when the process ends first.
        self.shared.publisher.publish(vec![notice]).await.ok();
    }

    /// Puts a delivery to rest for so long; true once the broker has it.
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
        // It must reach a queue: somebody may have deleted the delay queue.
        let confirmed = self
            .shared
            .publisher
            .publish_mandatory(deferred)
            .await
            .is_ok();
        self.crash(DeliveryCrash::AfterPublish);
        confirmed
    }

    /// Gives a delivery up and keeps it as a dead letter; true once the broker has it.
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
