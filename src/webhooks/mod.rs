//! The webhooks role: delivers events to webhook endpoints over HTTP, signed, at least once, even after a long
//! outage of the endpoint.
//!
//! Each endpoint has its own queue. The broker fills it, and the backlog stays on the broker, so a slow or
//! failing endpoint delays only its own deliveries. A delivery that failed is deferred in a delay queue; one
//! that was given up is kept as a dead letter. Endpoints and their breakers are rows in the store, which every
//! process polls.
//!
//! [`Preparation`] sets up the endpoints' queues before this process publishes events. [`Webhooks::run`] runs
//! one `endpoint` worker for each endpoint: `flow` delivers concurrently, `ordered` one by one, `probe` tests
//! a failing endpoint. `verdict` classifies an answer, `schedule` computes the time of the next attempt.

mod declared;
mod endpoint;
mod health;
mod log;
mod messages;
mod preparation;
mod schedule;
mod signer;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::amqp::{self, Names, Publisher, Subscriptions};
use crate::clock::Clock;
use crate::config::Delivery;
use crate::contract::{Timestamp, WebhookState};
use crate::fanout::{self, Fanout};
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::observability::trace::Tracer;
use crate::outbound::Outbound;
use crate::store::Store;
use crate::store::endpoints::{Endpoint, Endpoints};
use crate::store::leases::Leases;

use log::Log;

pub use declared::declare;
pub use preparation::Preparation;

/// The length of each endpoint's queue is checked once in this many rounds, since each check is a round trip
/// to the broker.
const DEPTH_CHECK_ROUNDS: u32 = 30;

/// AMQP's reply code for a queue that does not exist.
const NOT_FOUND: u16 = 404;

/// The dependencies of the role.
#[derive(Debug)]
pub struct Deps {
    /// Holds the endpoints.
    pub store: Store,
    /// Keeps queues and bindings in sync with the store.
    pub fanout: Fanout,
    /// Consumes the endpoints' queues.
    pub subscriptions: Subscriptions,
    /// Publishes deferred deliveries, dead letters and notices about endpoints.
    pub publisher: Publisher,
    /// Sends HTTP requests.
    pub outbound: Outbound,
    /// The names of exchanges and queues.
    pub names: Names,
    /// `[delivery]`
    pub settings: Delivery,
    /// All delay tiers, shortest first; never empty.
    pub tiers: Vec<Duration>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Records spans.
    pub tracer: Tracer,
    /// Spawns tasks and signals the stop.
    pub lifecycle: Lifecycle,
}

/// The role, ready to run.
#[derive(Debug)]
pub struct Webhooks {
    shared: Arc<Shared>,
}

/// What all endpoint workers share.
#[derive(Debug)]
struct Shared {
    endpoints: Endpoints,
    leases: Leases,
    fanout: Fanout,
    subscriptions: Subscriptions,
    publisher: Publisher,
    outbound: Outbound,
    names: Names,
    settings: Delivery,
    tiers: Vec<Duration>,
    log: Log,
    clock: Arc<dyn Clock>,
    tracer: Tracer,
    lifecycle: Lifecycle,
    /// By endpoint name, the channel that passes changes of the endpoint to its worker.
    // A std mutex: held for a map operation and never across an await.
    workers: Mutex<BTreeMap<String, watch::Sender<Endpoint>>>,
}

impl Webhooks {
    /// A role that is ready to run.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        let (log, writer) = log::open(&deps.store);
        deps.lifecycle.spawn_background(writer);
        let retention = deps.settings.log_retention;
        let purging = log::purge_old(deps.store.clone(), retention, Arc::clone(&deps.clock));
        deps.lifecycle.spawn_background(purging);
        let shared = Shared {
            endpoints: deps.store.endpoints(),
            leases: deps.store.leases(),
            fanout: deps.fanout,
            subscriptions: deps.subscriptions,
            publisher: deps.publisher,
            outbound: deps.outbound,
            names: deps.names,
            settings: deps.settings,
            tiers: deps.tiers,
            log,
            clock: deps.clock,
            tracer: deps.tracer,
            lifecycle: deps.lifecycle,
            workers: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Delivers events until the process stops.
    pub async fn run(self) {
        let shared = &self.shared;
        // Queues are bound to exchanges, which exist once the connection is up.
        let mut connected = shared.subscriptions.connected();
        tokio::select! {
            _ = connected.wait_for(|is_connected| *is_connected) => {}
            () = shared.lifecycle.stopping() => {}
        }
        let mut empty_since = BTreeMap::new();
        while !shared.lifecycle.is_stopping() {
            shared.sync_endpoints(&mut empty_since).await;
            shared.sleep_unless_stopping(shared.settings.refresh).await;
        }
        // Closing the channels ends the workers, which would otherwise wait for a change for ever.
        shared.workers.lock().clear();
    }
}

impl Shared {
    /// Reads all endpoints: starts a worker for each new one, passes changes to the others, and ends the workers
    /// of endpoints that no longer exist. Repairs queues and bindings that differ from the store.
    async fn sync_endpoints(self: &Arc<Self>, empty_since: &mut BTreeMap<String, Instant>) {
        // The store logs its outages; the workers go on with what they know.
        let Ok(all) = self.endpoints.all().await else {
            return;
        };
        let failing = all.iter().filter(|it| it.breaker.failing_since.is_some());
        events::webhooks_counted(all.len(), failing.count());
        let names: BTreeSet<_> = all.iter().map(|it| it.name.clone()).collect();
        self.workers.lock().retain(|name, _| names.contains(name));
        empty_since.retain(|name, _| names.contains(name));
        for endpoint in all {
            if !fanout::is_in_sync(&endpoint) {
                // Another process is binding it, or the broker is away: the next round tries again.
                self.fanout.repair(&endpoint.name).await.ok();
            }
            if endpoint.state == WebhookState::Removing {
                self.remove_if_drained(&endpoint, empty_since).await;
            }
            self.check_queue(&endpoint).await;
            self.update_worker(endpoint);
        }
    }

    /// Records the length of an endpoint's queue from time to time. While an endpoint is paused, nothing else
    /// would detect that its queue is missing.
    async fn check_queue(&self, endpoint: &Endpoint) {
        let name = &endpoint.name;
        let interval = self.settings.refresh.saturating_mul(DEPTH_CHECK_ROUNDS);
        let is_due = self
            .fanout
            .depth_age(name)
            .is_none_or(|ago| ago >= interval);
        if !is_due || endpoint.bound.is_empty() {
            return;
        }
        match self.subscriptions.count(&self.names.webhook(name)).await {
            Ok(count) => self.fanout.record_depth(name, count),
            Err(amqp::Error::Refused(refusal)) if refusal.code == NOT_FOUND => {
                // The next round tries again.
                self.fanout.repair(name).await.ok();
            }
            // The connection logs its outages.
            Err(_) => {}
        }
    }

    /// Passes an endpoint to its worker, and starts the worker if there is none.
    fn update_worker(self: &Arc<Self>, endpoint: Endpoint) {
        let name = endpoint.name.clone();
        let mut workers = self.workers.lock();
        if let Some(worker) = workers.get(&name) {
            send_update(worker, endpoint);
            return;
        }
        let (worker, changes) = watch::channel(endpoint);
        workers.insert(name, worker);
        let shared = Arc::clone(self);
        self.lifecycle.spawn(endpoint::run(shared, changes));
    }

    /// Reads an endpoint from the store again and passes it to its worker.
    async fn reload(&self, name: &str) {
        if let Ok(Some(endpoint)) = self.endpoints.get(name).await
            && let Some(worker) = self.workers.lock().get(name)
        {
            send_update(worker, endpoint);
        }
    }

    /// Completes the removal of an endpoint once its queue has been empty and without consumers for so long
    /// that no attempt, not even a probe, can still be in flight. A delivery that is deferred at that time ends
    /// up in the orphan queue.
    async fn remove_if_drained(
        &self,
        endpoint: &Endpoint,
        empty_since: &mut BTreeMap<String, Instant>,
    ) {
        let name = &endpoint.name;
        if !matches!(self.fanout.is_drained(name).await, Ok(true)) {
            empty_since.remove(name);
            return;
        }
        let timeout = endpoint
            .settings
            .timeout_seconds
            .map_or(self.settings.timeout, |seconds| {
                Duration::from_secs(seconds.into())
            });
        let since = empty_since.entry(name.clone()).or_insert_with(Instant::now);
        if since.elapsed() > timeout + 2 * self.settings.refresh
            && self.fanout.finish_removal(name).await.is_ok()
        {
            events::webhook_removed(name);
            self.workers.lock().remove(name);
        }
    }

    /// Sleeps; returns early when the process stops.
    async fn sleep_unless_stopping(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.lifecycle.stopping() => {}
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }
}

/// Sends a change to a worker. A change of the bindings alone does not wake it.
fn send_update(worker: &watch::Sender<Endpoint>, endpoint: Endpoint) {
    worker.send_if_modified(|known| {
        let old = (known.revision, known.breaker);
        let is_new = old != (endpoint.revision, endpoint.breaker);
        *known = endpoint;
        is_new
    });
}
