//! `groupmq topology`: the exchanges and queues.

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
    /// Show what should be on the broker, without asking it.
    Show,
    /// Create what is missing on the broker, bind everything anew, and put webhook endpoints in place.
    ///
    /// Those of the configuration are set in the store, and have their queues before there is a way for commands.
    Apply,
    /// Change the number of command queues to topology.shards, without losing anything or its order.
    ///
    /// Set topology.shards to the new number, stop every worker with the role `commands`, run this, and
    /// start them again. Producers need not stop: the broker keeps what they publish. If it is cut off,
    /// run it again.
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

/// Command queues come last: whoever waits for them to be there finds the endpoints in place.
async fn apply(client: &Client, config: &Config, topology: &amqp::Topology) -> Result<(), Failure> {
    let topology = topology.clone().declared();
    client.ensure_all_but_commands(&topology).await?;
    for error in endpoints(config, &topology).await? {
        // Whoever set it; nobody's commands wait for that.
        output::print_error(&Failure::Other(error.into()));
    }
    Ok(client.ensure(&topology).await?)
}

/// Puts the endpoints of the configuration and of the store in place; returns those of the store for which
/// that failed.
async fn endpoints(config: &Config, topology: &amqp::Topology) -> Result<Vec<SyncFailed>, Failure> {
    if config.webhooks.is_empty() && config.store.is_new() {
        return Ok(Vec::new());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Its writer is for commands from the queue, of which there are none here.
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
    let decoder = Decoder::new().context("the contract's schemas cannot be used")?;
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
    // What was not touched: exchanges, delays, and the way of commands to a first set of shards.
    client.ensure(&topology.clone().declared()).await?;
    client.close().await;
    let Moved {
        before,
        collected,
        held,
    } = moved;
    let now = topology.shards();
    output::line(&format!(
        "{now} shards, {before} before; {collected} commands were in them, {held} came meanwhile"
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
