//! `groupmq webhooks set`: creates or changes an endpoint that belongs to no session.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::{output, send};
use crate::contract::{Command, SessionPattern, SetWebhook, SigningSecret, WebhookId};
use crate::executor::{Decoder, RawCommand};
use crate::store::endpoints::{NewEndpoint, Origin};

use super::{WebhookAdmin, lookup};

/// The maximum number of session patterns.
const MAX_PATTERNS: usize = 32;

/// The options of `groupmq webhooks set`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Set {
    /// The endpoint's id, which is its name.
    id: String,
    /// The settings: the payload of `SetWebhook` without `id`, and `sessions` (patterns; default: all). JSON, @FILE,
    /// or - for stdin.
    #[arg(long)]
    payload: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Set {
    pub(super) async fn run(&self, admin: &WebhookAdmin) -> Result<Exit, Failure> {
        let id: WebhookId = self
            .id
            .parse()
            .map_err(|error| Failure::Usage(format!("the id {error}")))?;
        let (wanted, sessions) = self.read()?;
        let there = admin.endpoints.get(id.as_str()).await?;
        if there.is_some_and(|there| there.origin == Origin::Configuration) {
            return Err(Failure::Usage(format!(
                "{id} is declared in the configuration ([[webhooks]]); change it there"
            )));
        }
        let new = NewEndpoint {
            session: None,
            id,
            origin: Origin::Operator,
            settings: wanted.settings(sessions),
            secret: SigningSecret::generate(rand::random()),
        };
        let endpoint = admin.endpoints.set(new).await?;
        admin.fanout.sync(&endpoint.name).await?;
        if self.json {
            output::line(&Value::Object(lookup::endpoint_json(&endpoint)).to_string())?;
        } else {
            let state = endpoint.state.as_str();
            output::line(&format!("{} is set; state: {state}", endpoint.name))?;
        }
        Ok(Exit::Ok)
    }

    /// Validates the payload as the worker validates that of a `SetWebhook`, and reports all problems.
    fn read(&self) -> Result<(SetWebhook, Vec<SessionPattern>), Failure> {
        let Value::Object(mut payload) = send::payload(&self.payload)? else {
            return Err(Failure::Usage("--payload: must be an object".to_owned()));
        };
        let mut wrong = Vec::new();
        let sessions = sessions(payload.shift_remove("sessions"), &mut wrong);
        if payload.insert("id".to_owned(), json!(self.id)).is_some() {
            wrong.push("/id must not be in the payload; it is the argument".to_owned());
        }
        let wanted = decode(&payload, &mut wrong);
        match wanted {
            Some(wanted) if wrong.is_empty() => Ok((wanted, sessions)),
            _ => Err(Failure::Usage(format!("--payload: {}", wrong.join("\n  ")))),
        }
    }
}

fn decode(payload: &Map<String, Value>, wrong: &mut Vec<String>) -> Option<SetWebhook> {
    let decoder = Decoder::new();
    let body = json!({ "id": "set", "type": "SetWebhook", "session": "any", "payload": payload });
    let read = decoder.decode(&RawCommand {
        body: body.to_string().as_bytes(),
        ..RawCommand::default()
    });
    match read {
        Ok(accepted) => match accepted.command {
            Command::SetWebhook(wanted) => Some(wanted),
            _ => None,
        },
        Err(rejected) => {
            wrong.extend(rejected.error.details.iter().map(|detail| {
                let path = detail.path.strip_prefix("/payload").unwrap_or(&detail.path);
                format!("{path} {}", detail.reason)
            }));
            None
        }
    }
}

fn sessions(given: Option<Value>, wrong: &mut Vec<String>) -> Vec<SessionPattern> {
    let given = match given {
        None => return vec![SessionPattern::every()],
        Some(Value::Array(given)) if (1..=MAX_PATTERNS).contains(&given.len()) => given,
        Some(_) => {
            wrong.push(format!(
                "/sessions must be a list of 1 to {MAX_PATTERNS} patterns"
            ));
            return Vec::new();
        }
    };
    let mut sessions = Vec::new();
    for (index, pattern) in given.iter().enumerate() {
        match pattern.as_str().unwrap_or_default().parse() {
            Ok(pattern) => sessions.push(pattern),
            Err(error) => wrong.push(format!("/sessions/{index} {error}")),
        }
    }
    sessions
}
