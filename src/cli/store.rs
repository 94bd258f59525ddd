//! `groupmq store`: the store as a whole.

mod adopt;

use clap::Subcommand;

use crate::config::Config;

use super::exit::{Exit, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Let this store take the place of the one that the broker's commands were done with.
    ///
    /// For a store that is lost. This one has no record of the commands that were done with it: any of them
    /// that is delivered or sent again has its effect a second time. Stop the workers first.
    Adopt(adopt::Adopt),
}

impl Store {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        match self {
            Self::Adopt(command) => command.run(config).await,
        }
    }
}
