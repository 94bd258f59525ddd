//! `groupmq store`: maintenance of the store.

mod adopt;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::store;

use super::exit::{Exit, Failure};
use super::output;

#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Apply the migrations that are missing, and list them.
    ///
    /// The user in store.url must own the tables. A worker applies migrations too if it has the permission;
    /// otherwise run this before it starts. Safe to repeat, also while workers run.
    Migrate(Migrate),
    /// Make this store the broker's store, in place of the one that it belongs to now.
    ///
    /// For use after the other store was lost. This store has no record of the commands executed before: any of
    /// them that is redelivered or sent again has its effect a second time. Stop the workers first.
    Adopt(adopt::Adopt),
}

/// The options of `groupmq store migrate`.
#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Change nothing; fail if a migration is missing.
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
