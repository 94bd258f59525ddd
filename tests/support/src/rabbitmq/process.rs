//! The operating system's side of a node: start, wait until it answers, signal, reap.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nix::sys::signal;
use nix::unistd::Pid;

use super::node_script;

/// A machine that compiles at the same time is slow.
const START_DEADLINE: Duration = Duration::from_secs(90);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Terminate,
    Kill,
}

/// A running node. Dropping it kills the node.
#[derive(Debug)]
pub(super) struct Process {
    orders: mpsc::Sender<Signal>,
    /// `None` once it has been joined.
    keeper: Option<JoinHandle<Result<()>>>,
}

impl Process {
    /// Returns when the node accepts AMQP connections, on its port for TLS too if it has one.
    pub(super) fn start(dir: &Path, port: u16) -> Result<Self> {
        let mut command = node_command();
        command.arg("run").arg(dir).arg(port.to_string());
        // One scheduler: starts a second sooner, and leaves the other cores to the tests.
        command.env("ERL_AFLAGS", "+S 1");
        let process = Self::spawn(command, format!("rabbitmq-{port}"))?;
        let configured = fs::read_to_string(dir.join("conf.d/50-test.conf")).unwrap_or_default();
        let has_tls = configured.contains("listeners.ssl");
        // RabbitMQ 4 opens the port for TLS after the other one.
        let tls_is_open =
            || !has_tls || TcpStream::connect((Ipv4Addr::LOCALHOST, port + 3)).is_ok();
        if !process.until(|| answers(port) && tls_is_open()) {
            bail!(
                "the RabbitMQ node on port {port} did not start\n{}",
                log_tail(dir)
            );
        }
        Ok(process)
    }

    /// Starts a port mapper for several nodes.
    pub(super) fn mapper(dir: &Path, port: u16) -> Result<Self> {
        let mut command = node_command();
        command.arg("mapper").arg(dir).arg(port.to_string());
        let process = Self::spawn(command, format!("mapper-{port}"))?;
        if !process.until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            bail!("the port mapper on port {port} did not start");
        }
        Ok(process)
    }

    fn spawn(mut command: Command, name: String) -> Result<Self> {
        // A group of its own: Ctrl-C ends the tests, and they end the node, together with its helpers.
        command.process_group(0).stdin(Stdio::null());
        let (orders, received) = mpsc::channel();
        // The node lives as long as the *thread* that spawned it (see `node_command`), so that must
        // not be a test's thread.
        let keeper = thread::Builder::new()
            .name(name)
            .spawn(move || keep(command.spawn()?, &received))?;
        Ok(Self {
            orders,
            keeper: Some(keeper),
        })
    }

    /// Waits until it is so; `false` when the process has ended, or takes too long.
    fn until(&self, is_so: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + START_DEADLINE;
        while !is_so() {
            let ended = self.keeper.as_ref().is_none_or(JoinHandle::is_finished);
            if ended || Instant::now() > deadline {
                return false;
            }
            thread::sleep(POLL * 3);
        }
        true
    }

    /// Returns when the node is gone.
    pub(super) fn end(mut self, signal: Signal) -> Result<()> {
        self.signal_and_join(signal)
    }

    fn signal_and_join(&mut self, signal: Signal) -> Result<()> {
        // Fails if the node is gone already.
        self.orders.send(signal).ok();
        match self.keeper.take() {
            Some(keeper) => keeper
                .join()
                .map_err(|_| anyhow!("the node's keeper panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_and_join(Signal::Kill).ok();
    }
}

/// The script becomes the node, so the child is the Erlang VM itself. Where there is a `setpriv`, the
/// kernel kills the child when the thread that spawned it ends, whatever the reason.
fn node_command() -> Command {
    let script = node_script();
    let setpriv = ["/usr/bin/setpriv", "/bin/setpriv"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    match setpriv {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]).arg(script);
            command
        }
        None => Command::new(script),
    }
}

/// Owns the child from start to end, so that no signal goes to a process that merely inherited its
/// number.
fn keep(mut child: Child, orders: &mpsc::Receiver<Signal>) -> Result<()> {
    let group = Pid::from_raw(child.id().cast_signed());
    let mut kill_at = None;
    loop {
        if child.try_wait()?.is_some() {
            // The port mapper shares the group and must not hold the port against the next start.
            signal::killpg(group, signal::Signal::SIGKILL).ok();
            return Ok(());
        }
        match orders.recv_timeout(POLL) {
            Ok(Signal::Terminate) => {
                signal::kill(group, signal::Signal::SIGTERM)?;
                kill_at = Some(Instant::now() + STOP_DEADLINE);
            }
            Ok(Signal::Kill) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                signal::killpg(group, signal::Signal::SIGKILL)?;
                child.wait()?;
                return Ok(());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if kill_at.is_some_and(|deadline| Instant::now() > deadline) {
            signal::killpg(group, signal::Signal::SIGKILL)?;
            child.wait()?;
            bail!("the RabbitMQ node ignored SIGTERM for {STOP_DEADLINE:?} and was killed");
        }
    }
}

/// Whether an AMQP broker greets us: RabbitMQ listens only when it is ready to serve.
pub(super) fn answers(port: u16) -> bool {
    let greeting = || -> std::io::Result<[u8; 11]> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut start = [0; 11];
        stream.read_exact(&mut start)?;
        Ok(start)
    };
    // A method frame on channel 0, with Connection.Start (class 10, method 10).
    greeting().is_ok_and(|start| start.starts_with(&[1, 0, 0]) && start.ends_with(&[0, 10, 0, 10]))
}

fn log_tail(dir: &Path) -> String {
    ["startup.log", "node.log"]
        .map(|name| {
            let text = fs::read_to_string(dir.join("log").join(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            format!(
                "--- {name}\n{}",
                lines[lines.len().saturating_sub(25)..].join("\n")
            )
        })
        .join("\n")
}
