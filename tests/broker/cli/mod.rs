//! What a person types: output, and exit codes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use groupmq_test_support::worker::Options;

use super::scene::options;

mod apply;
mod bench;
mod config;
mod events;
mod interrupted;
mod killed;
mod send;
mod topology;
mod webhooks;

/// How a command ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command of the binary.
pub(crate) async fn run(options: &Options, arguments: &[&str]) -> Ran {
    run_with(options, arguments, "").await
}

/// Runs a command of the binary with an input.
async fn run_with(options: &Options, arguments: &[&str], input: &str) -> Ran {
    output_of(options.command(arguments), input.to_owned()).await
}

/// Runs a command with an input.
async fn output_of(mut command: Command, input: String) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).env_remove("COLUMNS");
    let wait = move || {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing may have ended already.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(wait).await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Options of a command that reaches no broker.
fn alone() -> Options {
    options("amqp://guest:hunter2@127.0.0.1:1/%2f", "groupmq")
}
