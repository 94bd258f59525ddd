//! A virtual host on the shared broker, a worker, and programs that talk to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use groupmq_test_support::rabbitmq::RabbitMq;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long anything may take, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct World {
    broker: &'static RabbitMq,
    vhost: String,
}

impl World {
    pub(crate) async fn new(name: &str) -> Self {
        let broker = RabbitMq::shared().await.unwrap();
        let vhost = format!("clients-{name}-{}", std::process::id());
        broker.ctl(&["add_vhost", &vhost]).await.unwrap();
        Self { broker, vhost }
    }

    /// Runs `rabbitmqctl`, about this virtual host where it is about one.
    pub(crate) async fn ctl(&self, arguments: &[String]) {
        let mut arguments = arguments.to_vec();
        if arguments[0].ends_with("permissions") {
            arguments.splice(1..1, ["-p".to_owned(), self.vhost.clone()]);
        }
        self.broker.ctl(&arguments).await.unwrap();
    }

    pub(crate) fn url(&self, user: &str, password: &str) -> String {
        self.broker.url_as(user, password, &self.vhost)
    }

    /// Creates exchanges and queues, and starts a worker. What is sent before it is up waits for it.
    pub(crate) async fn start_worker(&self, user: &str, password: &str) -> Worker {
        let url = self.url(user, password);
        Program::shell("groupmq topology apply").run(&url).await;
        Worker::start(&url)
    }

    pub(crate) async fn remove(self) {
        self.broker
            .ctl(&["delete_vhost", &self.vhost])
            .await
            .unwrap();
    }
}

/// `groupmq run`, with a new database; killed when it is dropped.
pub(crate) struct Worker {
    process: Child,
    _folder: TempDir,
}

impl Worker {
    fn start(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("groupmq.db");
        let process = groupmq(url, Command::new(env!("CARGO_BIN_EXE_groupmq")))
            .arg("run")
            .env(
                "GROUPMQ_STORE__URL",
                format!("sqlite:{}", database.display()),
            )
            .env("GROUPMQ_OPS__LISTEN", "127.0.0.1:0")
            .env("GROUPMQ_LOG__FILTER", "warn")
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            process,
            _folder: folder,
        }
    }

    /// Stops it as an operator would.
    pub(crate) async fn stop(mut self) {
        let id = self.process.id().unwrap().try_into().unwrap();
        kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        let status = ended.unwrap().unwrap();
        assert!(status.success(), "the worker ended with {status}");
    }
}

/// A command with groupmq's settings: this broker, and nothing that the caller happens to have set.
fn groupmq(url: &str, mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GROUPMQ_") {
            command.env_remove(name);
        }
    }
    command.env("GROUPMQ_AMQP__URL", url);
    command
}

/// A program of a stranger's, in a folder of its own.
pub(crate) struct Program {
    folder: TempDir,
    command: String,
    environment: Vec<(String, String)>,
}

impl Program {
    fn new(command: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            command: command.to_owned(),
            environment: Vec::new(),
        }
    }

    /// With a file in its folder.
    pub(crate) fn beside(self, name: &str, content: &str) -> Self {
        fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    /// With a variable in its environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A line in a shell.
    pub(crate) fn shell(line: &str) -> Self {
        Self::new(line)
    }

    pub(crate) fn python(program: &str) -> Self {
        let this = Self::new("python produce.py");
        fs::write(this.folder.path().join("produce.py"), program).unwrap();
        this
    }

    pub(crate) fn node(program: &str) -> Self {
        let this = Self::new("node produce.mjs");
        fs::write(this.folder.path().join("produce.mjs"), program).unwrap();
        let packages = installed("tests/tools/node_modules");
        std::os::unix::fs::symlink(packages, this.folder.path().join("node_modules")).unwrap();
        this
    }

    /// Runs it; it must succeed. Returns what it prints.
    pub(crate) async fn run(&self, url: &str) -> String {
        let output = self.output(url).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{}: {}\n{}{}",
            self.command,
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs it; it may fail. Returns what it prints.
    pub(crate) async fn run_any(&self, url: &str) -> String {
        String::from_utf8_lossy(&self.output(url).await.stdout).into_owned()
    }

    async fn output(&self, url: &str) -> Output {
        let python = installed("target/venv/bin");
        let binary = Path::new(env!("CARGO_BIN_EXE_groupmq")).parent().unwrap();
        let system = std::env::var_os("PATH").unwrap_or_default();
        let path = [python, binary.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&system));
        let running = groupmq(url, Command::new("bash"))
            .args(["-c", &self.command])
            .current_dir(self.folder.path())
            .env("PATH", std::env::join_paths(path).unwrap())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, running).await;
        output
            .unwrap_or_else(|_| panic!("{} does not end", self.command))
            .unwrap()
    }
}

/// Something that the set-up installs.
fn installed(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(
        path.exists(),
        "{} is missing: run `make test`, which installs it",
        path.display()
    );
    path
}
