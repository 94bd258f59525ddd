//! `groupmq webhooks rotate`: a new secret for an endpoint.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::contract::{SigningSecret, Timestamp, WebhookState};
use crate::store::endpoints::{Endpoint, Origin};

use super::{WebhookAdmin, now, state};

/// The maximum number of secrets that sign at the same time: their signatures share one header.
const MAX_SECRETS: usize = 8;

/// The number of attempts if the endpoint is changed at the same time.
const MAX_ATTEMPTS: u32 = 5;

/// The options of `groupmq webhooks rotate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    /// The endpoint's name.
    name: String,
    /// How long the earlier secrets sign together with the new one.
    #[arg(long, default_value = "24h", value_parser = crate::cli::send::duration)]
    keep: Duration,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Rotate {
    pub(super) async fn run(&self, admin: &WebhookAdmin) -> Result<Exit, Failure> {
        for _ in 0..MAX_ATTEMPTS {
            let endpoint = admin.find(&self.name).await?;
            let now = now();
            may_rotate(&endpoint, now)?;
            let until = now.0.checked_add(self.keep);
            let until = until.map_err(|_| Failure::Usage("--keep: is too long".to_owned()))?;
            let secret = SigningSecret::generate(rand::random());
            let rotated = admin
                .endpoints
                .rotate(&endpoint, secret.clone(), now, Timestamp(until))
                .await?;
            if rotated {
                return self.print_result(&secret, Timestamp(until));
            }
        }
        Err(Failure::Usage(format!(
            "{} was changed at the same time; try again",
            self.name
        )))
    }

    fn print_result(&self, secret: &SigningSecret, until: Timestamp) -> Result<Exit, Failure> {
        output::line(&if self.json {
            json!({ "secret": secret, "earlierUntil": until }).to_string()
        } else {
            format!("{secret}\nThe earlier secrets also sign until {until}.")
        })?;
        Ok(Exit::Ok)
    }
}

fn may_rotate(endpoint: &Endpoint, now: Timestamp) -> Result<(), Failure> {
    let name = &endpoint.name;
    if endpoint.state == WebhookState::Removing {
        return Err(state::being_removed(name));
    }
    if !endpoint.settings.secrets.is_empty() {
        let place = match endpoint.origin {
            Origin::Configuration => "in the configuration ([[webhooks]])",
            Origin::Command => "with SetWebhook",
            Origin::Operator => "with `groupmq webhooks set`",
        };
        return Err(Failure::Usage(format!(
            "{name} has its own secrets: add the new one to `secrets` {place}, and remove the old one later"
        )));
    }
    let live = |until: Option<i64>| until.is_none_or(|until| until > now.0.as_millisecond());
    let signing = endpoint.secrets.iter().filter(|it| live(it.until)).count();
    if signing >= MAX_SECRETS {
        return Err(Failure::Usage(format!(
            "{name} already has {signing} secrets that sign; wait until the earliest has expired \
             (`groupmq webhooks show {name} --secrets`)"
        )));
    }
    Ok(())
}
