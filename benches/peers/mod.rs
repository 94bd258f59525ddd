//! What groupmq is measured against: workers that do the least, each a process of its own.

pub(crate) mod bare;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// A worker that reads `BENCH_QUEUE` of the broker `BENCH_URL`, with `BENCH_IN_FLIGHT` commands at once, and
/// publishes its events to the exchange `BENCH_EVENTS`.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    /// What is sent for a command.
    pub(crate) body: fn(&Value) -> String,
    /// A slow one gets a part of the commands only: one of so many.
    pub(crate) one_of: usize,
}

impl Peer {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

/// The command itself.
pub(crate) fn plain(command: &Value) -> String {
    command.to_string()
}

/// A message of Celery's protocol 1, which names a task.
fn task(command: &Value) -> String {
    let id = &command["id"];
    json!({ "task": "command", "id": id, "args": [command], "kwargs": {} }).to_string()
}

/// The bare loop, which is this very program.
pub(crate) fn bare_loop() -> Peer {
    Peer {
        name: "bare lapin loop",
        program: std::env::current_exe().unwrap(),
        arguments: vec!["peer".to_owned(), "bare".to_owned()],
        body: plain,
        one_of: 1,
    }
}

/// The peers of other languages that can be installed here; says which can't.
pub(crate) fn installed(target: &Path) -> Vec<Peer> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let folder = target.join("bench-peers");
    let done = Command::new(own.join("install.sh")).arg(&folder).status();
    if !done.unwrap().success() {
        println!("The peers' packages could not all be installed: see above.");
    }
    let text = |path: PathBuf| path.display().to_string();
    let node = |name, package: &str| Peer {
        name,
        program: "node".into(),
        arguments: vec![text(folder.join(package).join("worker.mjs"))],
        body: plain,
        one_of: 1,
    };
    let python = |name, package: &str, body, one_of| Peer {
        name,
        program: folder.join(package).join("bin/python"),
        arguments: vec![text(own.join(package).join("worker.py"))],
        body,
        one_of,
    };
    let peers = [
        ("amqplib", node("Node, amqplib", "amqplib")),
        ("nestjs", node("Node, NestJS", "nestjs")),
        ("aio_pika", python("Python, aio-pika", "aio_pika", plain, 4)),
        ("celery", python("Python, Celery", "celery", task, 20)),
    ];
    let is_installed = |package: &str| folder.join(package).join("installed").exists();
    let (ready, missing): (Vec<_>, Vec<_>) = peers
        .into_iter()
        .partition(|(package, _)| is_installed(package));
    for (_, peer) in missing {
        println!("{} is not installed and is left out.", peer.name);
    }
    ready.into_iter().map(|(_, peer)| peer).collect()
}
