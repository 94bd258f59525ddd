//! The webhooks role: every event to every endpoint that wants it, at least once, signed, however long
//! the endpoint was down.
//!
//! Each endpoint has a queue of its own, which the broker fills and whose backlog stays there. What an
//! endpoint does can therefore only hold up its own deliveries. A delivery that failed rests in a delay
//! queue; one that was given up is kept as a dead letter. Endpoints and their breakers are in the store,
//! which every process reads again and again.
//!
//! [`Preparation`] puts everything in place before anybody publishes events.
//! [`Webhooks::run`] keeps one [`endpoint`] for each endpoint: `flow` delivers, `ordered` does so in order,
//! `probe` tries a failing one out. `verdict` says what an answer means, `schedule` when to try again.

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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

use log::Log;

pub use declared::declare;
pub use preparation::Preparation;

/// At every so manieth round the length of each endpoint's queue is looked at: each look is a question to the
/// broker.
const DEPTH_CHECK_ROUNDS: u32 = 30;

/// AMQP's code for a queue that is not there.
const NOT_FOUND: u16 = 404;

/// What the role works with.
#[derive(Debug)]
pub struct Deps {
    /// Where the endpoints are kept.
    pub store: Store,
    /// Keeps queues and bindings as the store says.
    pub fanout: Fanout,
    /// Takes messages from the endpoints' queues.
    pub subscriptions: Subscriptions,
    /// Publishes what rests, what is given up, and what happened to endpoints.
    pub publisher: Publisher,
    /// Sends requests.
    pub outbound: Outbound,
    /// The broker's names.
    pub names: Names,
    /// `[delivery]`
    pub settings: Delivery,
    /// Every delay tier there is, shortest first; never empty.
    pub tiers: Vec<Duration>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where it is told what took how long.
    pub tracer: Tracer,
    /// Spawns, and says when to stop.
    pub lifecycle: Lifecycle,
}

/// The role, ready to run.
#[derive(Debug)]
pub struct Webhooks {
    shared: Arc<Shared>,
}

/// What all lines share.
#[derive(Debug)]
struct Shared {
    endpoints: Endpoints,
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
    /// How each endpoint stands, for the line that looks after it.
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

    /// Delivers until the process stops.
    pub async fn run(self) {
        let shared = &self.shared;
        // The exchanges come first; queues are bound to them.
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
        // The lines end by themselves; without their channels they would wait for a change for ever.
        shared.workers().clear();
    }
}

impl Shared {
    /// Looks at every endpoint: new ones get a line, changed ones are told, old ones are ended. What the
    /// broker does not have as the store says is mended.
    async fn sync_endpoints(self: &Arc<Self>, empty_since: &mut BTreeMap<String, Instant>) {
        // The store itself tells of its outages; the lines go on as they were.
        let Ok(all) = self.endpoints.all().await else {
            return;
        };
        let failing = all.iter().filter(|it| it.breaker.failing_since.is_some());
        events::webhooks_counted(all.len(), failing.count());
        let names: BTreeSet<_> = all.iter().map(|it| it.name.clone()).collect();
        self.workers().retain(|name, _| names.contains(name));
        empty_since.retain(|name, _| names.contains(name));
        for endpoint in all {
            if !fanout::is_in_sync(&endpoint) {
                // Somebody else is at it, or the broker is away: seen again with the next round.
                self.fanout.repair(&endpoint.name).await.ok();
            }
            if endpoint.state == WebhookState::Removing {
                self.remove_if_drained(&endpoint, empty_since).await;
            }
            self.check_queue(&endpoint).await;
            self.update_worker(endpoint);
        }
    }

    /// Notes now and then how many events wait for an endpoint. Nobody else would see that its queue is
    /// gone while it is paused.
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
                // Seen again with the next round.
                self.fanout.repair(name).await.ok();
            }
            // The link itself tells of its outages.
            Err(_) => {}
        }
    }

    /// Hands an endpoint to its line, which is begun where there is none.
    fn update_worker(self: &Arc<Self>, endpoint: Endpoint) {
        let name = endpoint.name.clone();
        let mut workers = self.workers();
        if let Some(worker) = workers.get(&name) {
            send_update(worker, endpoint);
            return;
        }
        let (worker, changes) = watch::channel(endpoint);
        workers.insert(name, worker);
        let shared = Arc::clone(self);
        self.lifecycle.spawn(endpoint::run(shared, changes));
    }

    /// Reads an endpoint anew, for its line to see what has become of it.
    async fn reload(&self, name: &str) {
        if let Ok(Some(endpoint)) = self.endpoints.get(name).await
            && let Some(worker) = self.workers().get(name)
        {
            send_update(worker, endpoint);
        }
    }

    /// Forgets an endpoint on its way out once its queue has been empty, and consumed by nobody, for so
    /// long that nothing can be under way any more, a probe neither. What rests in a delay queue by then
    /// ends in the orphans' queue.
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
            self.workers().remove(name);
        }
    }

    /// Waits, unless the process stops.
    async fn sleep_unless_stopping(&self, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.lifecycle.stopping() => {}
        }
    }

    fn workers(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<Endpoint>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }
}

/// Tells a line what is new to it. That bindings were changed is not its business.
fn send_update(worker: &watch::Sender<Endpoint>, endpoint: Endpoint) {
    worker.send_if_modified(|known| {
        let old = (known.revision, known.breaker);
        let is_new = old != (endpoint.revision, endpoint.breaker);
        *known = endpoint;
        is_new
    });
}
