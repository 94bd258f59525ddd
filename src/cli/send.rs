//! `groupmq send`: sends a command and prints its reply.

use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::amqp::{Client, Names, Outgoing, Target};
use crate::config::Config;
use crate::contract::{Reply, ReplyStatus};

use super::exit::{Exit, Failure};
use super::output;

/// The options of `groupmq send`.
#[derive(Debug, Args)]
pub(super) struct Send {
    /// The command's type: `CreateGroup`, `PromoteAdmin`, …
    #[arg(value_name = "TYPE")]
    command_type: String,
    /// The session: the WhatsApp account that executes the command.
    #[arg(long, default_value = "default")]
    session: String,
    /// The payload: JSON, @FILE, or - for stdin.
    #[arg(long, default_value = "{}")]
    payload: String,
    /// The command's id; generated if absent. A command sent again with the same id has no second effect.
    #[arg(long)]
    id: Option<String>,
    /// The timeout for the reply.
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// The command expires if the worker has not started it after this time.
    #[arg(long, value_parser = duration)]
    expires_in: Option<Duration>,
    /// Print the reply as JSON.
    #[arg(long)]
    json: bool,
    /// A payload without its option, quoted or not, to say where it belongs.
    #[arg(hide = true)]
    misplaced: Vec<String>,
}

/// Reads a duration with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "must be a duration with a unit, such as 30s".to_owned())
}

impl Send {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        let names = Names::new(&config.topology.prefix);
        let message = self.message(&names)?;
        let client = Client::connect(&Target::new(config.amqp)).await?;
        let reply = client.call(message, self.timeout).await?;
        client.close().await;
        if self.json {
            output::line(&String::from_utf8_lossy(&reply.body))?;
        }
        let reply: Reply =
            serde_json::from_slice(&reply.body).context("the reply cannot be parsed")?;
        if !self.json {
            output::line(&readable(&reply))?;
        }
        Ok(match reply.status {
            ReplyStatus::Ok => Exit::Ok,
            ReplyStatus::Error => Exit::ErrorReply,
        })
    }

    fn message(&self, names: &Names) -> Result<Outgoing, Failure> {
        if !self.misplaced.is_empty() {
            let right = format!("groupmq send {} --payload '{{…}}'", self.command_type);
            return Err(Failure::Usage(format!(
                "nothing may follow the type but options; a payload is given with --payload: {right}"
            )));
        }
        let id = self
            .id
            .clone()
            .unwrap_or_else(|| Uuid::now_v7().to_string());
        let mut body = Map::from_iter([("payload".to_owned(), payload(&self.payload)?)]);
        if let Some(limit) = self.expires_in {
            let at = jiff::Timestamp::now()
                .checked_add(limit)
                .map_err(|_| Failure::Usage("--expires-in: is too long".to_owned()))?;
            body.insert("expiresAt".to_owned(), json!(format!("{at:.3}")));
        }
        Ok(message(names, &self.session, &self.command_type, id, body))
    }
}

/// The message of a command, with the rest of its body.
pub(super) fn message(
    names: &Names,
    session: &str,
    command_type: &str,
    id: String,
    rest: Map<String, Value>,
) -> Outgoing {
    let mut body = Map::from_iter([
        ("id".to_owned(), json!(id)),
        ("type".to_owned(), json!(command_type)),
        ("session".to_owned(), json!(session)),
    ]);
    body.extend(rest);
    Outgoing {
        exchange: names.commands(),
        routing_key: session.to_owned(),
        message_id: id,
        message_type: command_type.to_owned(),
        body: Value::Object(body).to_string().into_bytes(),
        ..Outgoing::default()
    }
}

/// Reads the argument of `--payload`: JSON, `@FILE`, or `-` for stdin.
pub(super) fn payload(given: &str) -> Result<Value, Failure> {
    let text = match (given, given.strip_prefix('@')) {
        ("-", _) => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::Usage(format!("--payload -: {error}")))?;
            text
        }
        (_, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| Failure::Usage(format!("--payload @{file}: {error}")))?,
        (inline, None) => inline.to_owned(),
    };
    // Some editors and shells write a byte order mark, which the worker ignores too.
    serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| Failure::Usage(format!("--payload: is not JSON: {error}")))
}

/// The reply as text.
fn readable(reply: &Reply) -> String {
    let mut lines = vec![format!(
        "{} {} ({}{})",
        reply.command_type.as_deref().unwrap_or("command"),
        reply.status.as_str(),
        reply.engine.as_str(),
        if reply.replayed { ", replayed" } else { "" },
    )];
    if let Some(result) = &reply.result {
        let value: Value = serde_json::from_str(result.get()).unwrap_or_default();
        lines.push(serde_json::to_string_pretty(&value).unwrap_or_default());
    }
    if let Some(error) = &reply.error {
        lines.push(format!("{}: {}", error.code.as_str(), error.message));
        let details = error.further_details().iter();
        lines.extend(details.map(|it| format!("  {}: {}", it.path, it.reason)));
    }
    lines.join("\n")
}
