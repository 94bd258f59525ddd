//! `groupmq schemas`: the contract as JSON Schema and AsyncAPI.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::schemas::{self, Difference};

use super::exit::{Exit, Failure};
use super::output;

/// Where to, or only whether it is up to date.
#[derive(Debug, Args)]
pub(super) struct Schemas {
    /// Change nothing; fail when a file differs from what would be written.
    #[arg(long)]
    check: bool,
    /// The folder.
    #[arg(long, default_value = "schemas", value_name = "FOLDER")]
    out: PathBuf,
}

impl Schemas {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let folder = self.out.display();
        if self.check {
            let wrong = schemas::check(&self.out).context("the documents cannot be compared")?;
            return agreed(&wrong, &format!("the documents in {folder} are up to date"));
        }
        let mut wrong = schemas::write(&self.out).context("the documents cannot be written")?;
        // Writing mends everything else.
        wrong.retain(|difference| matches!(difference, Difference::LeftOver(_)));
        agreed(&wrong, &format!("the documents are written to {folder}"))
    }
}

fn agreed(wrong: &[Difference], done: &str) -> Result<Exit, Failure> {
    if wrong.is_empty() {
        output::line(done)?;
        return Ok(Exit::Ok);
    }
    let list: Vec<_> = wrong
        .iter()
        .map(|difference| format!("\n  {difference}"))
        .collect();
    Err(Failure::Other(anyhow::anyhow!(
        "`groupmq schemas` writes what is missing or differs; remove what is left over:{}",
        list.concat()
    )))
}
