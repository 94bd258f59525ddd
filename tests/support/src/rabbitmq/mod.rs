//! A private RabbitMQ node, run by `deploy/local/node.sh` on free ports, with its own data, cookie
//! and port mapper.
//!
//! [`RabbitMq::shared`] is for tests that merely use a broker: each picks a topology prefix of its
//! own. [`RabbitMq::start`] is for tests that stop, kill or configure it; they live in a module named
//! `own_node`, which `.config/nextest.toml` keeps from running side by side.
//!
//! A node that cannot start is an error, never a reason to skip a test. No node outlives the process
//! that started it, even when that is killed (on Linux, by `setpriv --pdeathsig`).

mod cluster;
mod home;
mod process;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

pub use self::cluster::Cluster;
use self::home::Home;
use self::process::{Process, Signal};
use crate::tls::Certificates;

/// Names the folder of a running node that the tests of all processes share: `make test` starts one
/// with `deploy/local/broker.sh with`.
const SHARED_NODE: &str = "GROUPMQ_TEST_BROKER";

/// For how long the shared node may not answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// So many lines of a node's log are in its report.
const LOG_END: usize = 400;

/// How a node differs from a plain one.
#[derive(Debug, Clone, Default)]
pub struct Options {
    plugins: Vec<String>,
    config: String,
    /// The port of the mapper that the nodes of a cluster share.
    mapper: Option<u16>,
}

impl Options {
    /// Enables a plugin that ships with RabbitMQ, `rabbitmq_sharding` say. It cannot be done later.
    #[must_use]
    pub fn plugin(mut self, name: &str) -> Self {
        self.plugins.push(name.to_owned());
        if name == PROMETHEUS {
            return self
                .config("prometheus.tcp.ip = 127.0.0.1")
                .config(&format!("prometheus.tcp.port = {PORT}"));
        }
        self
    }

    /// Adds a line to `rabbitmq.conf`, such as `vm_memory_high_watermark.absolute = 64MiB`.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.config.push_str(line);
        self.config.push('\n');
        self
    }

    /// Adds an AMQPS listener ([`RabbitMq::tls_url`]). A client certificate is optional, but must be
    /// signed by the same authority.
    #[must_use]
    pub fn tls(self, certificates: &Certificates) -> Self {
        self.config(&format!(
            "ssl_options.cacertfile = {}",
            certificates.ca.display()
        ))
        .config(&format!(
            "ssl_options.certfile = {}",
            certificates.server.display()
        ))
        .config(&format!(
            "ssl_options.keyfile = {}",
            certificates.server_key.display()
        ))
        .config("ssl_options.verify = verify_peer")
        .config("ssl_options.fail_if_no_peer_cert = false")
        .config(&format!("listeners.ssl.local = 127.0.0.1:{PORT}"))
    }
}

/// Stands in [`Options`] for the AMQPS port, which is known only once the node has its ports.
const PORT: &str = "{tls-port}";

/// The plugin for Prometheus; it listens on the port of AMQPS, so a node has one or the other.
const PROMETHEUS: &str = "rabbitmq_prometheus";

/// A running (or stopped) node. Dropping it kills the node and removes its data.
#[derive(Debug)]
pub struct RabbitMq {
    /// Ends the node if it is ours and running. Declared before `_home`, so that it is dropped first.
    process: Option<Process>,
    /// Held for its drop, which removes the folder; `None` if the node is another process's.
    _home: Option<Home>,
    dir: PathBuf,
    port: u16,
}

impl RabbitMq {
    /// Starts a node and waits until it accepts connections: some five seconds of one core.
    ///
    /// # Errors
    ///
    /// When RabbitMQ is not installed or the node does not start; the message has the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        blocking(move || {
            let home = Home::claim()?;
            let (dir, port) = (home.dir().to_owned(), home.port());
            fs::create_dir_all(dir.join("conf.d"))?;
            fs::write(
                dir.join("conf.d/50-test.conf"),
                options.config.replace(PORT, &(port + 3).to_string()),
            )?;
            fs::write(
                dir.join("enabled_plugins"),
                format!("[{}].", options.plugins.join(",")),
            )?;
            // How often quorum queues report their length, for `queue_depths`; 5 s by default.
            fs::write(
                dir.join("advanced.config"),
                "[{rabbit, [{quorum_tick_interval, 1000}]}].",
            )?;
            if let Some(mapper) = options.mapper {
                cluster::prepare(&dir, mapper)?;
            }
            let process = Process::start(&dir, port)?;
            Ok(Self {
                process: Some(process),
                _home: Some(home),
                dir,
                port,
            })
        })
        .await
    }

    /// The node that tests share, with `rabbitmq_sharding`: the one of `make test` where there is
    /// one, otherwise one per test process. It cannot be stopped through this.
    ///
    /// # Errors
    ///
    /// As [`RabbitMq::start`], or when the node that the environment names does not answer.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();
        SHARED
            .get_or_try_init(async || match std::env::var_os(SHARED_NODE) {
                Some(dir) => Self::running_in(dir.into()).await,
                None => Self::start(Options::default().plugin("rabbitmq_sharding")).await,
            })
            .await
    }

    async fn running_in(dir: PathBuf) -> Result<Self> {
        let port = fs::read_to_string(dir.join("port"))
            .with_context(|| format!("{SHARED_NODE} names no node: {}", dir.display()))?;
        let port = port.trim().parse()?;
        // On a machine that is busy with other things, a greeting may take longer than it waits for.
        let begun = Instant::now();
        while !process::answers(port) {
            ensure!(
                begun.elapsed() < PATIENCE,
                "the node in {} does not answer",
                dir.display()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Self {
            process: None,
            _home: None,
            dir,
            port,
        })
    }

    /// The URL of the default virtual host, as guest.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_as("guest", "guest", "/")
    }

    /// The URL of `vhost` for another user; each part is given as it is and encoded here.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str, vhost: &str) -> String {
        url("amqp", [user, password, vhost], self.address())
    }

    /// The URL as guest through something else that leads to this node, a proxy.
    #[must_use]
    pub fn url_through(&self, address: SocketAddr) -> String {
        url("amqp", ["guest", "guest", "/"], address)
    }

    /// The AMQPS URL as guest, for a node with [`Options::tls`]. The host is `localhost`.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@localhost:{}/%2f", self.port + 3)
    }

    /// Where AMQP is spoken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where the HTTP API is, for a node with the plugin `rabbitmq_management`.
    #[must_use]
    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 4)
    }

    /// What the node shows to Prometheus at a path, with the plugin `rabbitmq_prometheus`.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn prometheus(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port + 3)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Runs `rabbitmqctl --quiet` with these arguments and returns its output. Costs about 0.7 s.
    ///
    /// # Errors
    ///
    /// When it fails, with what it printed.
    pub async fn ctl<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String> {
        self.tool("rabbitmqctl", arguments).await
    }

    /// The same with another of RabbitMQ's tools, `rabbitmq-diagnostics` say.
    ///
    /// # Errors
    ///
    /// When it fails, with what it printed.
    pub async fn tool<A: AsRef<OsStr>>(&self, tool: &str, arguments: &[A]) -> Result<String> {
        let mut command = Command::new(node_script());
        command
            .arg("exec")
            .arg(&self.dir)
            .args([tool, "--quiet"])
            .args(arguments);
        blocking(move || run(command)).await
    }

    /// The node's name among the nodes of a cluster.
    #[must_use]
    pub fn name(&self) -> String {
        format!("groupmq-{}@localhost", self.port)
    }

    /// What the node has logged since it was first started.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.join("log/node.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// How the node stands and the end of its log, for the message of a test that waited in vain.
    pub async fn report(&self) -> String {
        const QUESTIONS: [&[&str]; 4] = [
            &["list_queues", "name", "type", "state", "leader", "messages"],
            &["list_connections", "peer_port", "channels", "state"],
            &["list_channels", "connection", "messages_unconfirmed"],
            &["list_consumers", "queue_name", "ack_required", "active"],
        ];
        let mut report = String::new();
        for question in QUESTIONS {
            let answer = match self.ctl(question).await {
                Ok(answer) => answer,
                Err(error) => format!("{error:#}"),
            };
            writeln!(report, "{}:\n{answer}", question.join(" ")).ok();
        }
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let end = lines.len().saturating_sub(LOG_END);
        report.push_str(&lines.get(end..).unwrap_or_default().join("\n"));
        report
    }

    /// The number of messages in each queue of the default virtual host, ready and unacknowledged
    /// ones together. May be a second old. A queue that is just being declared or deleted has no number.
    ///
    /// # Errors
    ///
    /// As [`RabbitMq::ctl`].
    pub async fn queue_depths(&self) -> Result<BTreeMap<String, u64>> {
        self.ctl(&["list_queues", "--no-table-headers", "name", "messages"])
            .await?
            .lines()
            .filter_map(|line| line.rsplit_once('\t'))
            .filter(|(_, depth)| !depth.is_empty())
            .map(|(name, depth)| Ok((name.to_owned(), depth.parse()?)))
            .collect()
    }

    /// Stops the node in an orderly way, as for maintenance. Does nothing if it is stopped.
    ///
    /// # Errors
    ///
    /// When the node had to be killed in the end.
    pub async fn stop(&mut self) -> Result<()> {
        self.end(Signal::Terminate).await
    }

    /// Kills the node with SIGKILL, as a power cut does. Does nothing if it is stopped.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub async fn kill(&mut self) -> Result<()> {
        self.end(Signal::Kill).await
    }

    /// Starts a stopped or killed node again, on the same ports and data.
    ///
    /// # Errors
    ///
    /// As [`RabbitMq::start`], or when it is running.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the node is running");
        let (dir, port) = (self.dir.clone(), self.port);
        self.process = Some(blocking(move || Process::start(&dir, port)).await?);
        Ok(())
    }

    async fn end(&mut self, signal: Signal) -> Result<()> {
        match self.process.take() {
            Some(process) => blocking(move || process.end(signal)).await,
            None => Ok(()),
        }
    }
}

/// Waiting for processes blocks, and the code under test may share this runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn node_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/node.sh")
}

fn run(mut command: Command) -> Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text.into_owned())
}

fn url(scheme: &str, parts: [&str; 3], address: SocketAddr) -> String {
    let [user, password, vhost] = parts.map(percent_encoded);
    format!("{scheme}://{user}:{password}@{address}/{vhost}")
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02x}").ok();
        }
        encoded
    })
}
