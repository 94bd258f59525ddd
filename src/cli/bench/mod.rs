//! `groupmq bench`: puts load on a broker and its workers, and measures what they do.
//!
//! `load` is the loop of one run, whatever carries the requests (`Transport`): `pace` says when a request is due,
//! `flight` knows those without an answer, `measure` counts and times them. `report`, `text` and `chart` show the
//! result.

mod alarm;
mod chart;
mod check;
mod commands;
mod flight;
mod gateway;
mod groups;
mod load;
mod measure;
mod mix;
mod options;
mod pace;
mod report;
mod series;
mod setup;
#[cfg(test)]
mod tests;
mod text;
mod webhooks;

use clap::Subcommand;

use super::exit::{Exit, Failure};
use crate::config::Config;

/// The options of `groupmq bench`.
#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Send commands over AMQP; measure the time until the broker's confirm, the reply and the first event.
    Commands(Box<commands::Commands>),
    /// Send requests to the gateway; measure the time until the answer.
    Gateway(Box<gateway::Gateway>),
    /// Have events delivered to webhook endpoints of its own; measure the time from event to delivery.
    Webhooks(Box<webhooks::Webhooks>),
}

impl Bench {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        match self {
            Self::Commands(command) => command.run(config).await,
            Self::Gateway(command) => command.run(config).await,
            Self::Webhooks(command) => command.run(config).await,
        }
    }
}
