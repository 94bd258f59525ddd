//! A small disk for a worker's store, which a test fills up and clears again.
//!
//! It is a tmpfs that only the worker sees, in a mount namespace of its own, and that goes with it.
//! Where the system grants no such namespace, the worker's files may grow no further instead: another
//! error, and the same trouble.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::worker::{Options, Worker, store_in};

/// More than a test's store needs.
const SIZE: &str = "64m";

/// How large files may be that may not grow: larger than the worker's log, smaller than its store.
const LIMIT: &str = "262144";

/// A disk. The worker has to be started with [`SmallDisk::hold`].
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
    kind: Kind,
}

/// How the disk is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mounted(Rights),
    Limited,
}

/// By what right it is mounted: root's, or that of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    Own,
    Namespace,
}

impl SmallDisk {
    /// A disk with room.
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let can_mount = |rights: &Rights| {
            let mut mount = Command::new("unshare");
            mount.args(mounted(*rights, folder.path())).arg("true");
            mount.stdout(Stdio::null()).stderr(Stdio::null());
            mount.status().is_ok_and(|status| status.success())
        };
        let mut rights = [Rights::Own, Rights::Namespace].into_iter();
        let kind = rights.find(can_mount).map_or(Kind::Limited, Kind::Mounted);
        Ok(Self { folder, kind })
    }

    /// Has a worker keep its store there.
    #[must_use]
    pub fn hold(&self, options: Options) -> Options {
        let front = match self.kind {
            Kind::Mounted(rights) => {
                let mut front = vec!["unshare".to_owned()];
                front.extend(mounted(rights, self.folder.path()));
                front
            }
            // Ignored, the signal leaves it at an error.
            Kind::Limited => ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""]
                .map(str::to_owned)
                .to_vec(),
        };
        options
            .behind(front)
            .set("store.url", store_in(self.folder.path()))
    }

    /// Leaves the worker no room.
    ///
    /// # Errors
    /// When the worker has ended.
    pub fn fill(&self, worker: &Worker) -> Result<()> {
        match self.kind {
            Kind::Limited => limit(worker, LIMIT),
            Kind::Mounted(_) => {
                let mut ballast = File::create(self.ballast(worker))?;
                // Large pieces first, then whatever still fits.
                for size in [1 << 20, 4096, 1] {
                    while ballast.write_all(&vec![0; size]).is_ok() {}
                }
                Ok(())
            }
        }
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When the worker has ended.
    pub fn clear(&self, worker: &Worker) -> Result<()> {
        match self.kind {
            Kind::Limited => limit(worker, "unlimited"),
            Kind::Mounted(_) => Ok(fs::remove_file(self.ballast(worker))?),
        }
    }

    /// Seen through the worker's eyes.
    fn ballast(&self, worker: &Worker) -> PathBuf {
        let root = format!(
            "/proc/{}/root{}",
            worker.pid(),
            self.folder.path().display()
        );
        Path::new(&root).join("ballast")
    }
}

/// What `unshare` is told, before the command that is to see the disk.
fn mounted(rights: Rights, folder: &Path) -> Vec<String> {
    let mount = format!("mount -t tmpfs -o size={SIZE} tmpfs \"$0\" && exec \"$@\"");
    let mut arguments = vec!["--mount".to_owned()];
    if rights == Rights::Namespace {
        arguments.push("--map-root-user".to_owned());
    }
    let folder = folder.display().to_string();
    arguments.extend(["sh".to_owned(), "-c".to_owned(), mount, folder]);
    arguments
}

fn limit(worker: &Worker, bytes: &str) -> Result<()> {
    let pid = worker.pid().to_string();
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")]);
    ensure!(prlimit.status()?.success(), "prlimit failed");
    Ok(())
}
