//! `groupmq store`: the store as a whole.

mod adopt;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::store;

use super::exit::{Exit, Failure};
use super::output;

#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Make the tables that are missing, and say which migrations that took.
    ///
    /// Needs the login of the tables' owner in store.url. A worker makes them too where it may; where it
    /// may not, they have to be there before it starts. Safe to repeat, and beside workers that run.
    Migrate(Migrate),
    /// Let this store take the place of the one that the broker's commands were done with.
    ///
    /// For a store that is lost. This one has no record of the commands that were done with it: any of them
    /// that is delivered or sent again has its effect a second time. Stop the workers first.
    Adopt(adopt::Adopt),
}

/// Whether to do it.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Change nothing; fail where something is missing.
    #[arg(long)]
    check: bool,
}

impl Store {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        match self {
            Self::Migrate(migrate) => migrate.run(&config).await,
            Self::Adopt(adopt) => adopt.run(config).await,
        }
    }
}

impl Migrate {
    async fn run(&self, config: &Config) -> Result<Exit, Failure> {
        let (names, word, exit) = if self.check {
            let missing = store::Store::missing_migrations(&config.store).await?;
            (missing, "missing", Exit::Failed)
        } else {
            let made = store::Store::migrate(&config.store).await?;
            (made, "made", Exit::Ok)
        };
        for name in &names {
            output::line(&format!("{word}  {name}"))?;
        }
        if names.is_empty() {
            output::line("nothing is missing")?;
            return Ok(Exit::Ok);
        }
        Ok(exit)
    }
}
