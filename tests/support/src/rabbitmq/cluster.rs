//! Several nodes that form one cluster on this machine, each of which can be killed and started again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::home::Home;
use super::process::Process;
use super::{Options, RabbitMq, blocking};

/// The nodes of a cluster let each other in because they share this; they listen on loopback alone.
const COOKIE: &str = "GROUPMQTESTS";

/// How long a cluster may take until it can do without a node again.
const PATIENCE: Duration = Duration::from_mins(1);

/// A cluster whose quorum queues have a member on each node. Dropping it kills all nodes.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes; each may be stopped, killed and started again.
    pub nodes: Vec<RabbitMq>,
    /// Held for their drop. The mapper belongs to no node, so that it outlives each.
    _mapper: Process,
    _home: Home,
}

impl Cluster {
    /// Starts three nodes and joins them: some twenty seconds of one core.
    ///
    /// # Errors
    ///
    /// When a node does not start, or does not join the first.
    pub async fn start(options: Options) -> Result<Self> {
        let (home, mapper) = blocking(|| {
            let home = Home::claim()?;
            let mapper = Process::mapper(home.dir(), home.port())?;
            Ok((home, mapper))
        })
        .await?;
        let options = Options {
            mapper: Some(home.port()),
            ..options
        };
        let (first, second, third) = tokio::try_join!(
            RabbitMq::start(options.clone()),
            RabbitMq::start(options.clone()),
            RabbitMq::start(options),
        )?;
        for node in [&second, &third] {
            node.ctl(&["stop_app"]).await?;
            node.ctl(&["join_cluster", &first.name()]).await?;
            node.ctl(&["start_app"]).await?;
        }
        Ok(Self {
            nodes: vec![first, second, third],
            _mapper: mapper,
            _home: home,
        })
    }

    /// Which node leads a quorum queue, by its place; all nodes have to be running.
    ///
    /// # Errors
    ///
    /// When there is no such queue, or nobody leads it.
    pub async fn leader(&self, queue: &str) -> Result<usize> {
        let queues = self.nodes[0]
            .ctl(&["list_queues", "--no-table-headers", "name", "leader"])
            .await?;
        let mut rows = queues.lines().filter_map(|line| line.split_once('\t'));
        let (_, leader) = rows
            .find(|(name, _)| *name == queue)
            .with_context(|| format!("no queue {queue} in {queues}"))?;
        let place = self.nodes.iter().position(|node| node.name() == leader);
        place.with_context(|| format!("{leader:?} leads {queue}"))
    }

    /// Waits until every queue could do without any one of the nodes.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub async fn until_whole(&self) -> Result<()> {
        let begun = Instant::now();
        for node in &self.nodes {
            let question = &["check_if_node_is_quorum_critical"];
            while let Err(error) = node.tool("rabbitmq-queues", question).await {
                ensure!(begun.elapsed() < PATIENCE, "not whole again: {error:#}");
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    #[expect(clippy::print_stderr, reason = "what a failed test is explained by")]
    fn drop(&mut self) {
        for node in self.nodes.iter().filter(|_| thread::panicking()) {
            let log = node.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
            eprintln!(
                "--- the end of the log of {}\n{}",
                node.name(),
                tail.join("\n")
            );
        }
    }
}

/// How many lines of a node's log explain a failed test.
const LOG_TAIL: usize = 60;

/// Lets the node whose folder this is be found by the others, and let them in.
pub(super) fn prepare(dir: &Path, mapper: u16) -> Result<()> {
    fs::write(dir.join("mapper"), mapper.to_string())?;
    let cookie = dir.join(".erlang.cookie");
    fs::write(&cookie, COOKIE)?;
    Ok(fs::set_permissions(
        &cookie,
        fs::Permissions::from_mode(0o400),
    )?)
}
