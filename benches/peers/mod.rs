//! What groupmq is measured against: workers that do the least, each a process of its own.

pub(crate) mod bare;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A worker that reads `BENCH_QUEUE` of the broker `BENCH_URL`, with `BENCH_IN_FLIGHT` commands at once, and
/// publishes its events to the exchange `BENCH_EVENTS`.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Peer {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

/// The bare loop, which is this very program.
pub(crate) fn bare_loop() -> Peer {
    Peer {
        name: "bare lapin loop",
        program: std::env::current_exe().unwrap(),
        arguments: vec!["peer".to_owned(), "bare".to_owned()],
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
    let peers = [
        (
            folder.join("amqplib/installed"),
            Peer {
                name: "Node, amqplib",
                program: "node".into(),
                arguments: vec![text(folder.join("amqplib/worker.mjs"))],
            },
        ),
        (
            folder.join("venv/installed"),
            Peer {
                name: "Python, aio-pika",
                program: folder.join("venv/bin/python"),
                arguments: vec![text(own.join("aio_pika/worker.py"))],
            },
        ),
    ];
    let (ready, missing): (Vec<_>, Vec<_>) = peers.into_iter().partition(|(mark, _)| mark.exists());
    for (_, peer) in missing {
        println!("{} is not installed and is left out.", peer.name);
    }
    ready.into_iter().map(|(_, peer)| peer).collect()
}
