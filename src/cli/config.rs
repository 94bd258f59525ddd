//! `groupmq config`: check and print the configuration.

use clap::Subcommand;

use crate::config::{DEFAULTS, Sources};

use super::exit::{Exit, Failure};
use super::output;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration and list every problem by its key.
    Check,
    /// Print the effective configuration without secrets.
    Print {
        /// Print every setting with its default and its documentation instead.
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
                output::line("the configuration is valid")?;
            }
        }
        Ok(Exit::Ok)
    }
}
