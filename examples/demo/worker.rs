//! The worker: `groupmq run` as a process of its own, with a new database in a folder of its own.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long it may take to stop.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Worker {
    /// Killed when it is dropped, which happens before the folder goes.
    process: Child,
    folder: TempDir,
}

impl Worker {
    pub(crate) fn start(prefix: &str) -> Result<Self> {
        let binary = std::env::current_exe()?
            .ancestors()
            .nth(2)
            .context("the demo runs from target/<profile>/examples")?
            .join("groupmq");
        let folder = TempDir::new()?;
        let log = File::create(folder.path().join("log"))?;
        let database = folder.path().join("groupmq.db");
        let process = Command::new(&binary)
            .arg("run")
            .env("GROUPMQ_TOPOLOGY__PREFIX", prefix)
            .env(
                "GROUPMQ_STORE__URL",
                format!("sqlite:{}", database.display()),
            )
            .env("GROUPMQ_ENGINE__KIND", "sandbox")
            .env("GROUPMQ_OPS__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} (use `make demo`)", binary.display()))?;
        Ok(Self { process, folder })
    }

    /// Resolves if the worker ends by itself, which it should not.
    pub(crate) async fn ended(&mut self) -> Error {
        match self.process.wait().await {
            Ok(status) => self.explain(&anyhow!("the worker ended by itself ({status})")),
            Err(error) => error.into(),
        }
    }

    /// Stops the worker as an operator would.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let id = self.process.id().context("the worker has ended")?;
        kill(Pid::from_raw(id.try_into()?), Signal::SIGTERM)?;
        let status = tokio::time::timeout(PATIENCE, self.process.wait())
            .await
            .context("the worker did not stop on SIGTERM")??;
        ensure!(
            status.success(),
            "the worker stopped on SIGTERM, but with {status}"
        );
        Ok(())
    }

    /// Adds the end of the worker's log to an error.
    pub(crate) fn explain(&self, error: &Error) -> Error {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(5)..].join("\n  ");
        anyhow!("{error:#}\nThe worker's log ends so:\n  {end}")
    }
}
