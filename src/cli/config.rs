//! `groupmq config`: is it right, and what is it.

use clap::Subcommand;

use crate::config::{DEFAULTS, Sources};

use super::exit::{Exit, Failure};
use super::output;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration; every problem is named by its key.
    Check,
    /// Print the configuration in force, secrets left out.
    Print {
        /// Print every setting with its default and what it means instead.
        #[arg(long)]
        default: bool,
    },
}

impl ConfigCommand {
    pub(super) fn run(&self, sources: &Sources) -> Result<Exit, Failure> {
        match self {
            Self::Print { default: true } => output::line(DEFAULTS.trim_end())?,
            Self::Print { default: false } => {
                output::line(&sources.printed().map_err(Failure::Config)?)?;
            }
            Self::Check => {
                sources.load().map_err(Failure::Config)?;
                output::line("the configuration is right")?;
            }
        }
        Ok(Exit::Ok)
    }
}
