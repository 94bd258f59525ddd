//! The folder and the ports of one node, claimed so that no other test process takes them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{node_script, run};

/// A folder under `target/test-broker`, named after the node's first port. Removed on drop.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    port: u16,
    /// Locked while this process lives, which is how others tell a folder in use from a leftover.
    _owned: File,
}

impl Home {
    pub(super) fn claim() -> Result<Self> {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-broker");
        fs::create_dir_all(&base)?;
        let base = base.canonicalize()?;
        // Between "this port is free" and "this folder is mine" no other process may look.
        let gate = File::create(base.join("gate"))?;
        gate.lock()?;
        sweep(&base)?;
        for _ in 0..20 {
            let mut command = Command::new(node_script());
            command.arg("free-port");
            let port = run(command)?
                .trim()
                .parse()
                .context("the answer of free-port")?;
            let dir = base.join(format!("{port}"));
            // It exists if a node has claimed the port and does not listen on it yet.
            if fs::create_dir(&dir).is_ok() {
                let owned = File::create(dir.join("owned"))?;
                owned.lock()?;
                return Ok(Self {
                    dir,
                    port,
                    _owned: owned,
                });
            }
        }
        bail!("no free ports for a RabbitMQ node")
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // If it fails, the next claim sweeps it.
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Removes what killed processes left behind, and what [`super::RabbitMq::shared`] did, since
/// statics are not dropped.
fn sweep(base: &Path) -> Result<()> {
    for entry in fs::read_dir(base)? {
        let dir = entry?.path();
        let unused = File::open(dir.join("owned")).is_ok_and(|owned| owned.try_lock().is_ok());
        if unused {
            fs::remove_dir_all(&dir)?;
        }
    }
    Ok(())
}
