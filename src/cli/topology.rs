//! `groupmq topology`: the exchanges and queues.

use clap::Subcommand;

use crate::amqp::{self, Client, Target};
use crate::config::Config;

use super::exit::{Exit, Failure};
use super::output;

#[derive(Debug, Subcommand)]
pub(super) enum Topology {
    /// Show what should be on the broker, without asking it.
    Show,
    /// Create what is missing on the broker.
    Apply,
}

impl Topology {
    pub(super) async fn run(&self, config: Config) -> Result<Exit, Failure> {
        let topology = amqp::Topology::new(&config.topology);
        if let Self::Apply = self {
            let client = Client::connect(&Target::new(config.amqp)).await?;
            client.ensure(&topology.clone().declared()).await?;
            client.close().await;
        }
        for line in topology.lines() {
            output::line(&line)?;
        }
        Ok(Exit::Ok)
    }
}
