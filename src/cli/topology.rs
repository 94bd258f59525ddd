//! `groupmq topology`: exchanges, queues and bindings.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;

use crate::amqp::{self, Client, Target};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::executor::Decoder;
use crate::fanout::{Fanout, SyncFailed};
use crate::lifecycle::Lifecycle;
use crate::reshard::{self, Moved, Reshard};
use crate::store::Store;
use crate::webhooks;

use super::exit::{Exit, Failure};
use super::output;

#[derive(Debug, Subcommand)]
pub(super) enum Topology {
    /// Show the exchanges, queues and bindings of this configuration, without connecting to the broker.
    Show,
    /// Declare all exchanges, queues and bindings on the broker, including those of webhook endpoints.
    ///
    /// Webhook endpoints of the configuration are stored, and their queues are declared before the command queues.
    Apply,
    /// Change the number of command queues to topology.shards, without losing commands or their order.
    ///
    /// Set topology.shards to the new number, stop all workers with the role `commands`, run this command, and
    /// start the workers again. Producers can continue: the broker keeps what they publish. If it is
    /// interrupted, run it again.
    Reshard,
}

impl Topology {
    pub(super) async fn run(&self, config: Config) -> Result<Exit, Failure> {
        let topology = amqp::Topology::new(&config.topology);
        match self {
            Self::Show => {}
            Self::Apply => {
                let client = Client::connect(&Target::new(config.amqp.clone())).await?;
                let applied = apply(&client, &config, &topology).await;
                client.close().await;
                applied?;
            }
            Self::Reshard => return reshard(config, &topology).await,
        }
        for line in topology.lines() {
            output::line(&line)?;
        }
        Ok(Exit::Ok)
    }
}

/// Command queues are declared last, so that webhook endpoints are set up before a worker can consume.
async fn apply(client: &Client, config: &Config, topology: &amqp::Topology) -> Result<(), Failure> {
    let topology = topology.clone().declared();
    client.ensure_all_but_commands(&topology).await?;
    for error in endpoints(config, &topology).await? {
        // Commands do not wait for endpoints that are not declared in the configuration.
        output::print_error(&Failure::Other(error.into()));
    }
    Ok(client.ensure(&topology).await?)
}

/// Syncs the endpoints of the configuration and of the store; returns those of the store for which that
/// failed.
async fn endpoints(config: &Config, topology: &amqp::Topology) -> Result<Vec<SyncFailed>, Failure> {
    if config.webhooks.is_empty() && config.store.is_new() {
        return Ok(Vec::new());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // The writer is needed only for commands from the queue.
    let (store, _writer) = Store::open(&config.store, Arc::clone(&clock)).await?;
    let target = Target::new(config.amqp.clone());
    let fanout = Fanout::new(&store, target, topology.names().clone(), clock);
    for name in webhooks::declare(&store, &config.webhooks).await? {
        fanout.sync(&name).await?;
    }
    Ok(fanout.sync_all().await?)
}

async fn reshard(config: Config, topology: &amqp::Topology) -> Result<Exit, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let lifecycle = Lifecycle::default();
    let (store, writer) = Store::open(&config.store, Arc::clone(&clock))
        .await
        .context("cannot open the store (store.url)")?;
    lifecycle.spawn_background(writer);
    let decoder = Decoder::new();
    let prefetch = config.amqp.prefetch;
    let client = Client::connect(&Target::new(config.amqp)).await?;
    let id = store.installation().id();
    client.claim(topology.names(), id).await?;
    let tier = config.topology.delay_tiers.first().copied();
    let change = Reshard {
        client: &client,
        topology,
        store,
        decoder,
        clock,
        tier: tier.unwrap_or_default(),
        prefetch,
    };
    let moved = change.run().await?;
    // The rest of the topology: exchanges, delay queues, and bindings that the reshard did not declare.
    client.ensure(&topology.clone().declared()).await?;
    client.close().await;
    let Moved {
        before,
        collected,
        held,
    } = moved;
    let now = topology.shards();
    output::line(&format!(
        "shards: {now} (before: {before}); commands moved: {collected} from the old queues, {held} published meanwhile"
    ))?;
    Ok(Exit::Ok)
}

impl From<reshard::Error> for Failure {
    fn from(error: reshard::Error) -> Self {
        match error {
            reshard::Error::Broker(error) => Self::Broker(error),
            error => Self::Other(error.into()),
        }
    }
}
