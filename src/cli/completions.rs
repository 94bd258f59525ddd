//! `groupmq completions`: a shell completion script.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::exit::{Exit, Failure};
use super::{Cli, output};

/// The shell.
#[derive(Debug, Args)]
pub(super) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "groupmq", &mut script);
        output::line(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Ok)
    }
}
