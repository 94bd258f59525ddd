//! The only place that constructs and wires: from a configuration to a running process.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use crate::amqp::{self, Names, Publisher, Target, Topology};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::engines::Engine;
use crate::engines::sandbox::Sandbox;
use crate::executor::{Decoder, Executor};
use crate::lifecycle::{Ending, Lifecycle};
use crate::observability::{events, metrics};
use crate::ops;
use crate::store::Store;
use crate::worker::{Worker, upkeep};

/// Runs the roles of the configuration until the process is told to stop.
///
/// # Errors
/// When something that is needed from the start is not there, or, with an [`amqp::Error`], when the
/// broker refuses for good.
pub async fn run(config: Config) -> anyhow::Result<Ending> {
    let lifecycle = Lifecycle::default();
    let metrics = metrics::install().context("cannot count anything")?;
    lifecycle.spawn_background(metrics.clone().upkeep());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (store, writer) = Store::open(&config.store, Arc::clone(&clock))
        .await
        .context("cannot open the store (store.url)")?;
    lifecycle.spawn_background(writer);
    let listener = tokio::net::TcpListener::bind(config.ops.listen)
        .await
        .with_context(|| format!("cannot listen on {} (ops.listen)", config.ops.listen))?;
    let engine = engine(&config.engine, &store, Arc::clone(&clock));

    let refusal = Refusal::default();
    let target = Target::new(config.amqp.clone());
    let topology = Topology::new(&config.topology);
    let names = Names::new(&config.topology.prefix);
    let (publisher, publishing) =
        Publisher::new(target.clone(), topology.clone(), lifecycle.clone());
    spawn_link(&lifecycle, &refusal, "publisher", publishing);
    let (deliveries, consuming) =
        amqp::consume(target, topology, lifecycle.clone(), names.shard(0));
    spawn_link(&lifecycle, &refusal, "consumer", consuming);

    let health = ops::Health::new(
        store.clone(),
        deliveries.consuming(),
        publisher.connected(),
        lifecycle.clone(),
    );
    lifecycle.spawn_background(ops::serve(listener, health, metrics));

    let decoder = Decoder::new().context("the contract's schemas cannot be used")?;
    store
        .workers()
        .beat()
        .await
        .context("cannot write to the store (store.url)")?;
    lifecycle.spawn_background(upkeep::beat(store.clone()));
    let forgetting = upkeep::purge(store.clone(), config.ledger.retention, Arc::clone(&clock));
    lifecycle.spawn_background(forgetting);

    let executor = Executor::new(engine, &store, decoder, Arc::clone(&clock), &config);
    let worker = Worker::new(
        executor,
        publisher,
        names,
        config.topology.delay_tiers,
        &store,
        clock,
        lifecycle.clone(),
    );
    lifecycle.spawn_critical("worker", worker.run(deliveries));
    events::role_started("commands");

    let ending = lifecycle.run_to_end(config.shutdown.deadline).await?;
    if ending == Ending::Drained {
        // A courtesy: nothing is left behind, so nobody has to wait for our silence.
        store.workers().leave().await.ok();
    }
    let refused = refusal
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match refused {
        Some(refusal) => Err(refusal.into()),
        None => Ok(ending),
    }
}

/// The engine that the configuration names.
#[must_use]
pub fn engine(settings: &config::Engine, store: &Store, clock: Arc<dyn Clock>) -> Arc<dyn Engine> {
    match settings {
        config::Engine::Sandbox(settings) => {
            Arc::new(Sandbox::new(store.clone(), settings.clone(), clock))
        }
    }
}

/// Why the broker link that failed first did so.
type Refusal = Arc<Mutex<Option<amqp::Error>>>;

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
            let mut first = refusal.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(error);
            on_failure.fail(name);
        }
    });
}
