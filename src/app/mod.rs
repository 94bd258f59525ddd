//! The composition root: builds a running process from a configuration.

mod engines;
mod part;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tracing::info;

use crate::amqp::{self, Names, Publisher, Requests, Subscriptions, Target, Topology};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Role};
use crate::engines::waha::Waha;
use crate::executor::{Decoder, Executor};
use crate::fanout::Fanout;
use crate::gateway::{self, Gateway};
use crate::installation;
use crate::lifecycle::{Ending, Lifecycle, Signals};
use crate::observability::log::{self, Log};
use crate::observability::trace::Tracer;
use crate::observability::{events, metrics};
use crate::ops;
use crate::outbound::{self, AddressPolicy, Outbound};
use crate::store::Store;
use crate::webhooks::{self, Preparation, Webhooks};
use crate::worker::shards::{self, ShardDistribution};
use crate::worker::{Worker, WorkerDeps, maintenance};

pub use engines::{Engines, MakeEngines, engine};
use part::{topology, works};

/// The time limit for the WAL checkpoint of SQLite at the end; otherwise the next start reads the WAL.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(2);

/// Why the webhook endpoints are not set up yet; none once they are.
type Unprepared = watch::Receiver<Option<String>>;

/// The problem that `/readyz` reports while the broker has an alarm.
const BLOCKED: &str = "the broker blocks publishing: it is short of memory or disk";

/// What the roles of a process share.
struct Process {
    config: Config,
    lifecycle: Lifecycle,
    clock: Arc<dyn Clock>,
    store: Store,
    target: Target,
    /// The same, for the connections that check the topology.
    topology_target: Target,
    topology: Topology,
    names: Names,
    tracer: Tracer,
    fanout: Fanout,
    /// Made for the first role that publishes.
    publisher: Option<Publisher>,
    /// Started for the first role that publishes events.
    preparation: Option<Unprepared>,
    refusal: Refusal,
    health: ops::Health,
    engines: MakeEngines,
}

/// The runtime for [`run`].
///
/// # Errors
/// When the system cannot start a thread.
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name(log::WORKERS)
        .enable_all()
        .build()
}

/// Runs the roles of the configuration until the process is asked to stop.
///
/// # Errors
/// When something that is needed from the start is missing; with an [`amqp::Error`], when the broker
/// refuses permanently; with a [`store::Error`](crate::store::Error), when the store was replaced.
pub async fn run(config: Config, log: &Log, engines: MakeEngines) -> anyhow::Result<Ending> {
    let mut signals = Signals::listen().context("cannot listen to signals")?;
    let lifecycle = Lifecycle::default();
    let metrics = metrics::install().context("cannot install the metrics")?;
    lifecycle.spawn_background(metrics.clone().upkeep());
    lifecycle.spawn_background(log.lost().count());
    let (elsewhere, on_panic) = (log.panicked_elsewhere(), lifecycle.clone());
    lifecycle.spawn_background(async move {
        elsewhere.await;
        on_panic.fail("a thread panicked; the log says where");
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Waits for a store that does not answer. A stop needs no clean-up here, since nothing has been
    // started.
    let opened = tokio::select! {
        opened = Store::open(&config.store, Arc::clone(&clock)) => opened,
        asked = signals.stop() => {
            info!("{asked} before the store was open");
            return Ok(Ending::Drained);
        }
    };
    let (store, writer) = opened.context("cannot open the store (store.url)")?;
    lifecycle.spawn_background(writer);
    let listener = tokio::net::TcpListener::bind(config.ops.listen)
        .await
        .with_context(|| format!("cannot listen on {} (ops.listen)", config.ops.listen))?;
    store
        .workers()
        .heartbeat()
        .await
        .context("cannot write to the store (store.url)")?;
    lifecycle.spawn_background(maintenance::beat(store.clone()));

    let tracer = tracer(&config, &lifecycle)?;
    let mut process = Process::new(config, lifecycle, clock, store, tracer, engines);
    process.uphold();
    process.watch_store();
    for role in process.config.roles.clone() {
        match role {
            Role::Commands => process.commands()?,
            Role::Webhooks => process.webhooks()?,
            Role::Gateway => process.gateway().await?,
        }
    }
    let Process {
        config,
        lifecycle,
        store,
        refusal,
        health,
        publisher,
        tracer,
        ..
    } = process;
    // The connections end once their last handle is dropped; so does the exporter of spans.
    drop((publisher, tracer));
    lifecycle.spawn_background(ops::serve(listener, health, metrics));

    let ending = lifecycle
        .run_to_end(signals, config.shutdown.deadline)
        .await;
    if ending == Ending::Drained && config.roles.contains(&Role::Commands) {
        // A courtesy: everything is finished, so other workers need not wait for the heartbeat to expire.
        store.workers().deregister().await.ok();
    }
    drop(tokio::time::timeout(CHECKPOINT_WITHIN, store.installation().gather()).await);
    let refused = refusal.lock().take();
    match refused {
        Some(refusal) => Err(refusal),
        None => Ok(ending),
    }
}

impl Process {
    fn new(
        config: Config,
        lifecycle: Lifecycle,
        clock: Arc<dyn Clock>,
        store: Store,
        tracer: Tracer,
        engines: MakeEngines,
    ) -> Self {
        let health = ops::Health::new(store.clone(), lifecycle.clone());
        let names = Names::new(&config.topology.prefix);
        let target = Target::new(config.amqp.clone());
        let topology_target = target.clone().with_small_frames();
        let fanout = Fanout::new(
            &store,
            topology_target.clone(),
            names.clone(),
            Arc::clone(&clock),
        );
        let mut topology = topology(&config, fanout.clone());
        if works(&config) {
            topology = topology.of_store(store.installation().id());
        }
        Self {
            fanout: fanout.reporting_to(topology.doubt()),
            topology,
            names,
            target,
            topology_target,
            config,
            lifecycle,
            clock,
            store,
            tracer,
            publisher: None,
            preparation: None,
            refusal: Refusal::default(),
            health,
            engines,
        }
    }

    /// Stops the process when its store was replaced, or is not the store of the broker's commands.
    fn watch_store(&self) {
        let broker =
            works(&self.config).then(|| (self.topology_target.clone(), self.names.clone()));
        let lost = installation::lost(self.store.clone(), broker);
        let (lifecycle, refusal) = (self.lifecycle.clone(), Arc::clone(&self.refusal));
        self.lifecycle.spawn_background(async move {
            let error = lost.await;
            events::store_lost(&error);
            let error = match error {
                installation::Error::Store(error) => error.into(),
                installation::Error::Broker(error) => error.into(),
            };
            give_up(&lifecycle, &refusal, "store", error);
        });
    }

    fn publisher(&mut self) -> Publisher {
        if let Some(publisher) = &self.publisher {
            return publisher.clone();
        }
        let (publisher, publishing) = Publisher::new(
            self.target.clone(),
            self.topology.clone(),
            Arc::clone(&self.clock),
            self.lifecycle.clone(),
        );
        spawn_link(&self.lifecycle, &self.refusal, "publisher", publishing);
        self.health.need(
            publisher.connected(),
            "not connected to the broker for publishing",
        );
        self.health.need(publisher.unblocked(), BLOCKED);
        self.publisher = Some(publisher.clone());
        publisher
    }

    /// Starts to set up the queues of the webhook endpoints, after the publisher has declared the
    /// exchanges.
    fn preparation(&mut self) -> Unprepared {
        if let Some(preparation) = &self.preparation {
            return preparation.clone();
        }
        let preparation = Preparation {
            store: self.store.clone(),
            fanout: self.fanout.clone(),
            declared: self.config.webhooks.clone(),
            delivers: self.config.roles.contains(&Role::Webhooks),
            topology: self.publisher().connected(),
            lifecycle: self.lifecycle.clone(),
        };
        let (unprepared, preparing) = preparation.begin();
        self.lifecycle.spawn(preparing);
        self.health.report(unprepared.clone());
        self.preparation = Some(unprepared.clone());
        unprepared
    }

    /// Starts to execute commands from the queues.
    fn commands(&mut self) -> anyhow::Result<()> {
        let decoder = Decoder::new();
        let clock = Arc::clone(&self.clock);
        let Engines { engine, waha } = (self.engines)(&self.config, &self.store, clock)?;
        if let Some(waha) = waha {
            self.listen_to(waha)?;
        }
        let memory = maintenance::Memory::of(&self.config);
        let forgetting = maintenance::purge(self.store.clone(), memory, Arc::clone(&self.clock));
        self.lifecycle.spawn_background(forgetting);
        let executor = Executor::new(
            engine,
            &self.store,
            decoder,
            Arc::clone(&self.clock),
            &self.config,
        );
        let outlets = WorkerDeps {
            publisher: self.publisher(),
            fanout: self.fanout.clone(),
            names: self.names.clone(),
            tracer: self.tracer.clone(),
            longest_execution: longest_execution(&self.config),
        };
        let (worker, moving) = Worker::new(
            executor,
            outlets,
            self.config.topology.delay_tiers.clone(),
            &self.store,
            Arc::clone(&self.clock),
            self.lifecycle.clone(),
        );
        self.health.need_to_live(moving);
        let (shards, taking_part) = ShardDistribution::new(shards::Parts {
            worker,
            names: self.names.clone(),
            shards: self.config.topology.shards,
            prefetch: self.config.amqp.prefetch,
            lost_after: self.config.retry.lost_after,
            unprepared: self.preparation(),
            store: self.store.clone(),
            lifecycle: self.lifecycle.clone(),
        });
        let consuming = amqp::keep(
            self.target.clone(),
            self.topology.clone(),
            self.lifecycle.clone(),
            "consume",
            shards,
        );
        spawn_link(&self.lifecycle, &self.refusal, "consumer", consuming);
        self.health
            .need(taking_part, "not consuming commands from the broker");
        events::role_started("commands");
        Ok(())
    }

    /// Receives the notifications of WAHA, and publishes the resulting events.
    fn listen_to(&mut self, waha: Arc<Waha>) -> anyhow::Result<()> {
        self.health.with_waha(Arc::clone(&waha));
        let pending = self.store.pending_events();
        let (publisher, names) = (self.publisher(), self.names.clone());
        let (store, lifecycle) = (self.store.clone(), self.lifecycle.clone());
        let mut unprepared = self.preparation();
        let outbox = async move {
            // Not if the process stops first.
            let prepared = unprepared.wait_for(Option::is_none).await.is_ok();
            if prepared {
                ops::outbox::publish(store, pending, publisher, names, lifecycle).await;
            }
        };
        let tls = outbound::websocket_tls(&self.config.egress).context("cannot use TLS")?;
        self.lifecycle.spawn_background(outbox);
        self.lifecycle.spawn_background(Arc::clone(&waha).watch());
        self.lifecycle
            .spawn_background(Arc::clone(&waha).reconcile());
        self.lifecycle
            .spawn_background(Arc::clone(&waha).listen(tls));
        self.lifecycle.spawn_background(waha.forget());
        Ok(())
    }

    /// Starts to deliver events to webhook endpoints.
    fn webhooks(&mut self) -> anyhow::Result<()> {
        let outbound = Outbound::new(&self.config.egress, AddressPolicy::PublicOnly)?;
        let (subscriptions, consuming) = Subscriptions::new(
            self.target.clone(),
            self.topology.clone(),
            self.lifecycle.clone(),
        );
        spawn_link(&self.lifecycle, &self.refusal, "webhooks", consuming);
        self.health.need(
            subscriptions.connected(),
            "not connected to the broker for the queues of webhooks",
        );
        self.preparation();
        let webhooks = Webhooks::new(webhooks::Deps {
            store: self.store.clone(),
            fanout: self.fanout.clone(),
            subscriptions,
            publisher: self.publisher(),
            outbound,
            names: self.names.clone(),
            settings: self.config.delivery.clone(),
            tiers: self.config.topology.tiers.clone(),
            clock: Arc::clone(&self.clock),
            tracer: self.tracer.clone(),
            lifecycle: self.lifecycle.clone(),
        });
        self.lifecycle.spawn_critical("webhooks", webhooks.run());
        events::role_started("webhooks");
        Ok(())
    }

    /// Starts to accept commands over HTTP.
    async fn gateway(&mut self) -> anyhow::Result<()> {
        let settings = self.config.gateway.clone();
        let listener = tokio::net::TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("cannot listen on {} (gateway.listen)", settings.listen))?;
        let (requests, requesting) = Requests::new(
            self.target.clone(),
            self.topology.clone(),
            self.lifecycle.clone(),
        );
        spawn_link(&self.lifecycle, &self.refusal, "requests", requesting);
        let (heard, is_listening, listening) = amqp::listen(
            self.target.clone(),
            self.topology.clone(),
            self.lifecycle.clone(),
            self.names.events(),
        );
        spawn_link(&self.lifecycle, &self.refusal, "events", listening);
        self.health.need(
            requests.connected(),
            "not connected to the broker for requests",
        );
        self.health.need(requests.unblocked(), BLOCKED);
        self.health
            .need(is_listening, "not listening to events from the broker");
        let decoder = Decoder::new();
        let gateway = Gateway::new(gateway::Deps {
            settings,
            names: self.names.clone(),
            requests,
            feed: heard,
            decoder,
            store: self.store.clone(),
            lifecycle: self.lifecycle.clone(),
            tracer: self.tracer.clone(),
        });
        self.lifecycle
            .spawn_critical("gateway", gateway.serve(listener));
        events::role_started("gateway");
        Ok(())
    }

    /// Starts to assert exchanges, queues and bindings periodically.
    fn uphold(&mut self) {
        let (problem, watched) = watch::channel(None);
        self.health.report(watched);
        let upkeep = self.topology.clone().uphold(
            self.topology_target.clone(),
            self.lifecycle.clone(),
            problem,
        );
        self.lifecycle.spawn_background(upkeep);
    }
}

/// The longest time that a command may spend in the executor, by the configured deadlines: all prefetched
/// commands may wait their turn while an engine times out on each, and one may search for the group that it
/// created. Doubled, since exceeding it restarts the process.
fn longest_execution(config: &Config) -> Duration {
    let turns = u32::from(config.amqp.prefetch)
        .div_ceil(u32::try_from(config.executor.concurrency.max(1)).unwrap_or(u32::MAX));
    let settle = match &config.engine {
        config::Engine::Sandbox(_) => Duration::ZERO,
        config::Engine::Waha(waha) => waha.settle,
    };
    let turn = config.executor.timeout + config.retry.within + settle;
    (turn.saturating_mul(turns + 1) * 2).max(Duration::from_mins(15))
}

/// Starts the exporter of spans, if a collector is configured.
fn tracer(config: &Config, lifecycle: &Lifecycle) -> anyhow::Result<Tracer> {
    #[cfg(feature = "otlp")]
    if let Some(endpoint) = &config.otlp.endpoint {
        let outbound = Outbound::new(&config.egress, AddressPolicy::Any)?;
        let (tracer, sending) =
            crate::observability::otlp::export(endpoint.as_str(), &config.otlp, outbound)
                .context("cannot send spans (otlp)")?;
        lifecycle.spawn(sending);
        return Ok(tracer);
    }
    #[cfg(not(feature = "otlp"))]
    let _ = (config, lifecycle);
    Ok(Tracer::default())
}

/// The reason of the first failure.
type Refusal = Arc<Mutex<Option<anyhow::Error>>>;

/// Stops the process with a reason, unless there is one already.
fn give_up(lifecycle: &Lifecycle, refusal: &Refusal, name: &str, error: anyhow::Error) {
    let mut first = refusal.lock();
    first.get_or_insert(error);
    lifecycle.fail(name);
}

/// Keeps a connection to the broker; when the broker refuses permanently, the process stops with the
/// reason.
fn spawn_link(
    lifecycle: &Lifecycle,
    refusal: &Refusal,
    name: &'static str,
    link: impl Future<Output = Result<(), amqp::Error>> + Send + 'static,
) {
    let (on_failure, refusal) = (lifecycle.clone(), Arc::clone(refusal));
    lifecycle.spawn_critical(name, async move {
        if let Err(error) = link.await {
            give_up(&on_failure, &refusal, name, error.into());
        }
    });
}
