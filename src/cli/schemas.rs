//! `groupmq schemas`: the contract as JSON Schema, AsyncAPI and OpenAPI documents.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::schemas::{self, Difference};

use super::exit::{Exit, Failure};
use super::output;

/// The options of `groupmq schemas`.
#[derive(Debug, Args)]
pub(super) struct Schemas {
    /// Write nothing; fail if a file differs from what would be written.
    #[arg(long)]
    check: bool,
    /// The directory to write to.
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
        // The other differences have been overwritten.
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
        "the documents are not up to date. `groupmq schemas` writes those that are missing or differ; delete \
         those that are left over:{}",
        list.concat()
    )))
}
