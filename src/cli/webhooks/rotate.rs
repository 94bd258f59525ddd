//! `groupmq webhooks rotate`: a new secret for an endpoint.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::contract::{SigningSecret, Timestamp, WebhookState};
use crate::store::endpoints::{Endpoint, Origin};

use super::{WebhookAdmin, now, state};

/// So many secrets sign at the same time, at most: each is a part of one header.
const MAX_SECRETS: usize = 8;

/// How often it is tried again because somebody else changed the endpoint meanwhile.
const MAX_ATTEMPTS: u32 = 5;

/// A new secret.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    /// The endpoint's name.
    name: String,
    /// For how long the earlier secrets sign beside the new one.
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
            let until = until.map_err(|_| Failure::Usage("--keep: is too far away".to_owned()))?;
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
            "{} was changed by somebody else meanwhile; try again",
            self.name
        )))
    }

    fn print_result(&self, secret: &SigningSecret, until: Timestamp) -> Result<Exit, Failure> {
        output::line(&if self.json {
            json!({ "secret": secret, "earlierUntil": until }).to_string()
        } else {
            format!("{secret}\nThe earlier ones sign beside it until {until}.")
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
            "{name} signs with secrets of its own: put the new one beside the old one in `secrets`, \
             {place}, and take the old one out later"
        )));
    }
    let live = |until: Option<i64>| until.is_none_or(|until| until > now.0.as_millisecond());
    let signing = endpoint.secrets.iter().filter(|it| live(it.until)).count();
    if signing >= MAX_SECRETS {
        return Err(Failure::Usage(format!(
            "{signing} secrets of {name} sign already; wait until the earliest has run out \
             (`groupmq webhooks show {name} --secrets`)"
        )));
    }
    Ok(())
}
