//! The real binary as a child process: start it, wait for it, signal it, look at it.
//!
//! Its configuration comes from the environment alone; its log goes to a file, whose end is printed
//! when the test fails.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A machine that compiles at the same time is slow.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

/// How to start a worker, or to run any command of the binary.
#[derive(Debug, Clone)]
pub struct Options {
    /// The binary, last, and what goes in front of it.
    program: Vec<OsString>,
    settings: Vec<(String, String)>,
    /// `--config`
    file: Option<PathBuf>,
    /// Held for its drop: the folder of a store that several workers have in common.
    folder: Option<Arc<TempDir>>,
}

impl Options {
    /// The binary (`env!("CARGO_BIN_EXE_groupmq")`), the broker, and the topology's prefix.
    #[must_use]
    pub fn new(binary: impl Into<OsString>, url: &str, prefix: &str) -> Self {
        let options = Self {
            program: vec![binary.into()],
            settings: Vec::new(),
            file: None,
            folder: None,
        };
        options
            .set("amqp.url", url)
            .set("topology.prefix", prefix)
            // Tests wait for reconnections.
            .set("amqp.reconnect_max", "1s")
            // A tier that commands have too: hundreds of tests share one node, and each tier is a queue.
            .set("delivery.schedule", "1s")
    }

    /// Sets a setting by its key, such as `amqp.prefetch`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// Gives all workers that are started with these settings one store, which goes with the last of them.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn with_one_store(mut self) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        self = self.set("store.url", store_in(folder.path()));
        self.folder = Some(Arc::new(folder));
        Ok(self)
    }

    /// Has the binary read a configuration file too.
    #[must_use]
    pub fn file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// With a clock that is wrong, by `+10m`, say; what it measures stays right.
    #[must_use]
    pub fn with_clock_off_by(self, by: &str) -> Self {
        // The loader knows where libraries are.
        let wrong = [
            "env",
            "LD_PRELOAD=/usr/$LIB/faketime/libfaketime.so.1",
            &format!("FAKETIME={by}"),
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ];
        self.behind(wrong.map(str::to_owned))
    }

    /// Has another program run the binary: its words go in front. It has to replace itself by the
    /// binary, so that the process stays the same.
    #[must_use]
    pub fn behind(mut self, front: impl IntoIterator<Item = String>) -> Self {
        let front = front.into_iter().map(OsString::from);
        self.program.splice(0..0, front);
        self
    }

    /// The binary with these settings and nothing else of groupmq's in its environment.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut program = self.program.iter();
        let mut command = Command::new(program.next().map_or(OsStr::new(""), OsString::as_os_str));
        command.args(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GROUPMQ_") {
                command.env_remove(name);
            }
        }
        command.env_remove("RUST_LOG");
        if let Some(file) = &self.file {
            command.arg("--config").arg(file);
        }
        command.args(arguments);
        for (key, value) in &self.settings {
            command.env(variable(key), value);
        }
        command
    }
}

/// The variable of a setting: in capitals, but for names that somebody chose, which keep their case.
fn variable(key: &str) -> String {
    let named = [
        "engine.sandbox.sessions.",
        "engine.sandbox.faults.",
        "engine.waha.servers.",
        "gateway.keys.",
    ];
    let table = named.iter().find(|table| key.starts_with(**table));
    let (table, rest) = key.split_at(table.map_or(0, |table| table.len()));
    let (name, rest) = match rest.split_once('.') {
        _ if table.is_empty() => ("", rest.to_uppercase()),
        Some((name, rest)) => (name, format!(".{}", rest.to_uppercase())),
        None => (rest, String::new()),
    };
    format!("GROUPMQ_{}{name}{rest}", table.to_uppercase()).replace('.', "__")
}

/// A running worker, or one that has ended. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    exit: Option<ExitStatus>,
    health: SocketAddr,
    log: PathBuf,
    /// Held for its drop: the store of a worker that was not given one, and the log.
    _folder: TempDir,
}

impl Worker {
    /// Starts a worker and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub async fn start(options: &Options) -> Result<Self> {
        let mut worker = Self::spawn(options)?;
        worker.until_ready(PATIENCE).await?;
        Ok(worker)
    }

    /// Starts a worker without waiting for anything.
    ///
    /// A store of its own, on a free port, unless `options` says otherwise.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = File::create(folder.path().join("log"))?;
        Self::spawn_in(folder, options, log.into())
    }

    /// As [`Worker::spawn`], with its log going elsewhere: [`Worker::log`] stays empty.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_logging_to(options: &Options, stderr: impl Into<Stdio>) -> Result<Self> {
        Self::spawn_in(tempfile::tempdir()?, options, stderr.into())
    }

    fn spawn_in(folder: TempDir, options: &Options, stderr: Stdio) -> Result<Self> {
        let health = crate::free_address();
        let log = folder.path().join("log");
        let mut options = options.clone().set("ops.listen", health.to_string());
        if !options.settings.iter().any(|(key, _)| key == "store.url") {
            options = options.set("store.url", store_in(folder.path()));
        }
        let child = options
            .command(&["run"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .context("starting the worker")?;
        Ok(Self {
            child,
            exit: None,
            health,
            log,
            _folder: folder,
        })
    }

    /// Waits until `/readyz` says yes; returns how long that took.
    ///
    /// # Errors
    /// When the worker ends first, or the time is over.
    pub async fn until_ready(&mut self, within: Duration) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            if let Ok((200, _)) = self.get("/readyz").await {
                return Ok(begun.elapsed());
            }
            if let Some(status) = self.ended()? {
                bail!("the worker ended: {status}\n{}", self.log_tail());
            }
            ensure!(
                begun.elapsed() < within,
                "the worker is not ready within {within:?}\n{}",
                self.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks the worker's health: status and body of `/livez`, `/readyz` or `/startupz`.
    ///
    /// # Errors
    /// When nobody answers within five seconds.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let ask = async {
            let mut stream = TcpStream::connect(self.health).await?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let status = answer.split(' ').nth(1).context("a status line")?.parse()?;
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            Ok((status, body.to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(5), ask).await?
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the worker has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ensure!(self.exit.is_none(), "the worker has ended");
        Ok(signal::kill(
            Pid::from_raw(self.pid().cast_signed()),
            signal,
        )?)
    }

    /// Asks the worker to finish (SIGTERM), and waits until it has; returns its exit code.
    ///
    /// # Errors
    /// When it does not end in time, or was killed.
    pub async fn stop(&mut self) -> Result<i32> {
        self.signal(Signal::SIGTERM)?;
        self.until_ended(PATIENCE).await
    }

    /// Kills the worker (SIGKILL), as the kernel does when memory runs out.
    ///
    /// # Errors
    /// None in practice.
    pub fn kill(&mut self) -> Result<()> {
        if self.exit.is_none() {
            self.child.kill()?;
            self.exit = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Waits until the worker has ended of its own accord; returns its exit code.
    ///
    /// # Errors
    /// When it does not end in time, or was killed.
    pub async fn until_ended(&mut self, within: Duration) -> Result<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return status
                    .code()
                    .with_context(|| format!("the worker: {status}\n{}", self.log_tail()));
            }
            ensure!(
                begun.elapsed() < within,
                "the worker has not ended within {within:?}\n{}",
                self.log_tail()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// How the worker ended, if it has.
    ///
    /// # Errors
    /// None in practice.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait()?;
        }
        Ok(self.exit)
    }

    /// The worker's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves its health.
    #[must_use]
    pub const fn health(&self) -> SocketAddr {
        self.health
    }

    /// Everything that the worker has logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of the log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// A number from `/proc/<pid>/status`: `VmRSS` and `VmHWM` are in KiB, `Threads` is a count.
    ///
    /// # Errors
    /// When the worker has ended, or the system is not Linux.
    pub fn status(&self, field: &str) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let value = line.context("no such field")?.trim_start_matches(':');
        Ok(value.trim().trim_end_matches(" kB").parse()?)
    }

    /// Processor time that the worker has used so far, in user and kernel mode together.
    ///
    /// # Errors
    /// When the worker has ended, or the system is not Linux.
    pub fn processor_time(&self) -> Result<Duration> {
        processor_time(self.pid())
    }
}

impl Drop for Worker {
    #[expect(clippy::print_stderr, reason = "what a failed test is explained by")]
    fn drop(&mut self) {
        self.kill().ok();
        if thread::panicking() {
            eprintln!("--- the end of the worker's log\n{}", self.log_tail());
        }
    }
}

/// Processor time that a process has used so far, in user and kernel mode together.
///
/// # Errors
/// When it has ended, or the system is not Linux.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields 14 and 15, counted from behind the name, which may hold anything; in 1/100 s.
    let (_, fields) = text.rsplit_once(") ").context("a name")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The url of a store in a folder.
#[must_use]
pub fn store_in(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("store.db").display())
}
