//! The command line. One file per command; exit codes are part of the interface.

mod apply;
mod bench;
mod calls;
mod completions;
mod config;
mod dead;
mod doctor;
mod events;
mod exit;
mod healthcheck;
mod output;
mod replay;
mod run;
mod schemas;
mod send;
mod store;
mod topology;
mod webhooks;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Sources};

use exit::{Exit, Failure};

/// Manage WhatsApp groups from a RabbitMQ queue: commands in, replies and events out.
#[derive(Debug, Parser)]
#[command(name = "groupmq", version, after_help = exit::HELP)]
struct Cli {
    /// Configuration file (TOML); `groupmq config print --default` shows every setting.
    #[arg(long, global = true, value_name = "FILE", env = "GROUPMQ_CONFIG")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the process with the roles of the configuration.
    Run,
    /// Send a command and print its reply.
    Send(send::Send),
    /// Make groups as files describe them.
    Apply(apply::Apply),
    /// Print events.
    #[command(subcommand)]
    Events(events::Events),
    /// Measure how much this broker and its workers do, with load on the sandbox.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// List, show, replay or purge dead letters of commands.
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Manage webhook endpoints, and replay their dead letters.
    #[command(subcommand)]
    Webhooks(webhooks::Webhooks),
    /// Show or create exchanges and queues.
    #[command(subcommand)]
    Topology(topology::Topology),
    /// Migrate the store, or adopt a new one.
    #[command(subcommand)]
    Store(store::Store),
    /// Check or print the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Write the JSON Schemas and the AsyncAPI document.
    Schemas(schemas::Schemas),
    /// Check everything that a worker needs, and suggest a remedy for each failure.
    Doctor(doctor::Doctor),
    /// Query the readiness of a running process; for images without a shell.
    Healthcheck,
    /// Print a completion script for a shell.
    Completions(completions::Completions),
}

/// Parses and executes the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help to stdout and errors to stderr. A failure to print cannot be reported.
            error.print().ok();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            }
            .into();
        }
    };
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::print_error(&failure);
            failure.exit().into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let sources = Sources::from_process(cli.config);
    match cli.command {
        Command::Schemas(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Config(command) => command.run(&sources),
        Command::Run => run::run(load(&sources)?),
        Command::Send(command) => block_on(command.run(load(&sources)?)),
        Command::Apply(command) => block_on(command.run(load(&sources)?)),
        Command::Events(command) => block_on(command.run(load(&sources)?)),
        Command::Bench(command) => block_on(command.run(load(&sources)?)),
        Command::Dead(command) => block_on(command.run(load(&sources)?)),
        Command::Webhooks(command) => block_on(command.run(load(&sources)?)),
        Command::Topology(command) => block_on(command.run(load(&sources)?)),
        Command::Store(command) => block_on(command.run(load(&sources)?)),
        Command::Doctor(command) => block_on(command.run(load(&sources)?)),
        Command::Healthcheck => block_on(healthcheck::run(load(&sources)?)),
    }
}

fn load(sources: &Sources) -> Result<Config, Failure> {
    sources.load().map_err(Failure::Config)
}

/// Runs a command on a small runtime.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(error.into()))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}
