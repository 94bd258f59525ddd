//! The only place that constructs and wires: from a configuration to a running process.

mod engines;
mod part;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
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
use crate::worker::shards::{self, Shards};
use crate::worker::{Worker, WorkerDeps, maintenance};

pub use engines::{Engines, MakeEngines, engine};
use part::{topology, works};

/// How long writing SQLite's log into its file may take at the end; it is read at the next start otherwise.
const GATHER_WITHIN: Duration = Duration::from_secs(2);

/// Why the webhook endpoints are not in place; none once they are.
type Unprepared = watch::Receiver<Option<String>>;

/// What `/readyz` says while the broker has an alarm.
const BLOCKED: &str = "the broker blocks publishing: it is short of memory or disk";

/// What the roles of a process share.
struct Process {
    config: Config,
    lifecycle: Lifecycle,
    clock: Arc<dyn Clock>,
    store: Store,
    target: Target,
    /// The same, for looking after the topology.
    lookout: Target,
    topology: Topology,
    names: Names,
    tracer: Tracer,
    fanout: Fanout,
    /// Made for the first role that publishes.
    publisher: Option<Publisher>,
    /// Begun for the first role that publishes events.
    preparation: Option<Unprepared>,
    refusal: Refusal,
    health: ops::Health,
    engines: MakeEngines,
}

/// What [`run`] runs on.
///
/// # Errors
/// When the system has no threads left.
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name(log::WORKERS)
        .enable_all()
        .build()
}

/// Runs the roles of the configuration until the process is told to stop.
///
/// # Errors
/// When something that is needed from the start is not there; with an [`amqp::Error`], when the broker
/// refuses for good; with a [`store::Error`](crate::store::Error), when the store was replaced.
pub async fn run(config: Config, log: &Log, engines: MakeEngines) -> anyhow::Result<Ending> {
    let mut signals = Signals::listen().context("cannot listen to signals")?;
    let lifecycle = Lifecycle::default();
    let metrics = metrics::install().context("cannot count anything")?;
    lifecycle.spawn_background(metrics.clone().upkeep());
    lifecycle.spawn_background(log.lost().count());
    let (elsewhere, on_panic) = (log.panicked_elsewhere(), lifecycle.clone());
    lifecycle.spawn_background(async move {
        elsewhere.await;
        on_panic.fail("a thread panicked; the log says where");
    });
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // A store that does not answer is waited for, and nothing has been begun that would have to be finished.
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

    let tracer = tracer(&config, &lifecycle, Arc::clone(&clock))?;
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
    // A link ends once nobody can ask it for anything any more; so does what sends spans.
    drop((publisher, tracer));
    lifecycle.spawn_background(ops::serve(listener, health, metrics));

    let ending = lifecycle
        .run_to_end(signals, config.shutdown.deadline)
        .await;
    if ending == Ending::Drained && config.roles.contains(&Role::Commands) {
        // A courtesy: nothing is left behind, so nobody has to wait for our silence.
        store.workers().deregister().await.ok();
    }
    drop(tokio::time::timeout(GATHER_WITHIN, store.installation().gather()).await);
    let refused = refusal
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
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
        let lookout = target.clone().with_small_frames();
        let fanout = Fanout::new(&store, lookout.clone(), names.clone(), Arc::clone(&clock));
        let mut topology = topology(&config, fanout.clone());
        if works(&config) {
            topology = topology.of_store(store.installation().id());
        }
        Self {
            fanout: fanout.reporting_to(topology.doubt()),
            topology,
            names,
            target,
            lookout,
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

    /// Has the process stop once its store is another one, or not the broker's.
    fn watch_store(&self) {
        let broker = works(&self.config).then(|| (self.lookout.clone(), self.names.clone()));
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

    /// Begins to put the webhook endpoints in place, once the publisher has seen to the exchanges.
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
        self.health.hear(unprepared.clone());
        self.preparation = Some(unprepared.clone());
        unprepared
    }

    /// Begins to execute commands from the queue.
    fn commands(&mut self) -> anyhow::Result<()> {
        let decoder = Decoder::new().context("the contract's schemas cannot be used")?;
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
        let (shards, taking_part) = Shards::new(shards::Parts {
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

    /// Takes in what WAHA tells by itself, and publishes what follows from it.
    fn listen_to(&mut self, waha: Arc<Waha>) -> anyhow::Result<()> {
        self.health.with_waha(Arc::clone(&waha));
        let pending = self.store.pending_events();
        let (publisher, names) = (self.publisher(), self.names.clone());
        let (store, lifecycle) = (self.store.clone(), self.lifecycle.clone());
        let mut unprepared = self.preparation();
        let outbox = async move {
            // Not when the process stops first.
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

    /// Begins to deliver events to webhook endpoints.
    fn webhooks(&mut self) -> anyhow::Result<()> {
        let outbound = Outbound::new(&self.config.egress, AddressPolicy::PublicOnly)?;
        let (subscriptions, tapping) = Subscriptions::new(
            self.target.clone(),
            self.topology.clone(),
            self.lifecycle.clone(),
        );
        spawn_link(&self.lifecycle, &self.refusal, "webhooks", tapping);
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

    /// Begins to take commands over HTTP.
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
        let decoder = Decoder::new().context("the contract's schemas cannot be used")?;
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

    /// Begins to see to exchanges, queues and bindings while everything runs.
    fn uphold(&mut self) {
        let (problem, watched) = watch::channel(None);
        self.health.hear(watched);
        let upkeep =
            self.topology
                .clone()
                .uphold(self.lookout.clone(), self.lifecycle.clone(), problem);
        self.lifecycle.spawn_background(upkeep);
    }
}

/// The longest time for which the executor may have a command, by the deadlines of the configuration: all
/// of the prefetched commands may wait for their turn with an engine that answers none of them in time,
/// and one may look for the group that it made. Twice that, since this decides about killing a process.
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

/// Begins to send spans, where somebody collects them.
fn tracer(config: &Config, lifecycle: &Lifecycle, clock: Arc<dyn Clock>) -> anyhow::Result<Tracer> {
    #[cfg(feature = "otlp")]
    if let Some(endpoint) = &config.otlp.endpoint {
        let outbound = Outbound::new(&config.egress, AddressPolicy::Any)?;
        let (tracer, sending) =
            crate::observability::otlp::export(endpoint.as_str(), &config.otlp, outbound, clock)
                .context("cannot send spans (otlp)")?;
        lifecycle.spawn(sending);
        return Ok(tracer);
    }
    #[cfg(not(feature = "otlp"))]
    let _ = (config, lifecycle, clock);
    Ok(Tracer::default())
}

/// Why what failed first did so.
type Refusal = Arc<Mutex<Option<anyhow::Error>>>;

/// Has the process stop with a reason, unless there is one already.
fn give_up(lifecycle: &Lifecycle, refusal: &Refusal, name: &str, error: anyhow::Error) {
    let mut first = refusal.lock().unwrap_or_else(PoisonError::into_inner);
    first.get_or_insert(error);
    lifecycle.fail(name);
}

/// Keeps a link to the broker; when the broker refuses for good, the process stops with the reason.
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
