//! `groupmq webhooks replay`: republishes dead letters of deliveries to the endpoint's queue.

use std::collections::BTreeMap;

use clap::Args;

use crate::amqp::{Incoming, Names, Outgoing, header};
use crate::cli::exit::{Exit, Failure};
use crate::cli::replay::Replay;
use crate::cli::send;
use crate::contract::{Timestamp, WebhookState};

use super::{WebhookAdmin, now, state};

/// Selects dead letters; all conditions must hold.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayDeliveries {
    /// The endpoint.
    name: String,
    /// Only the event with this id.
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Only deliveries first attempted at or after this time: RFC 3339, or an age such as 2h.
    #[arg(long, value_name = "TIME|DURATION", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only deliveries first attempted before this time: RFC 3339, or an age.
    #[arg(long, value_name = "TIME|DURATION", value_parser = moment)]
    until: Option<Timestamp>,
    /// Maximum number per second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Only print how many would be republished.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Parses a time or an age.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong = "must be a time such as 2026-11-23T10:00:00Z, or an age such as 2h";
    let ago = send::duration(text).map_err(|_| wrong.to_owned())?;
    let then = now().0.checked_sub(ago);
    then.map(Timestamp).map_err(|_| wrong.to_owned())
}

impl ReplayDeliveries {
    pub(super) async fn run(self, admin: &WebhookAdmin) -> Result<Exit, Failure> {
        let endpoint = admin.find(&self.name).await?;
        if endpoint.state == WebhookState::Removing {
            return Err(state::being_removed(&self.name));
        }
        if !self.dry_run {
            // The endpoint's queue must exist.
            admin.fanout.sync(&self.name).await?;
        }
        let client = admin.client().await?;
        let replay = Replay {
            client: &client,
            queue: admin.names.dead_webhooks(),
            rate: self.rate,
            dry_run: self.dry_run,
            json: self.json,
        };
        // A dead letter has no body if the broker did not accept it; there is nothing to publish.
        let matches = |message: &Incoming| !message.body.is_empty() && self.matches(message);
        let done = replay
            .run(matches, |message| {
                original(message, &self.name, &admin.names)
            })
            .await;
        client.close().await;
        done
    }

    fn matches(&self, letter: &Incoming) -> bool {
        let header = |name: &str| letter.headers.get(name).map(String::as_str);
        let first_seen: Option<Timestamp> =
            header(header::FIRST_SEEN).and_then(|text| text.parse().ok());
        header(header::WEBHOOK) == Some(self.name.as_str())
            && self
                .event
                .as_ref()
                .is_none_or(|wanted| letter.message_id.as_ref() == Some(wanted))
            && self
                .since
                .is_none_or(|since| first_seen.is_some_and(|seen| seen >= since))
            && self
                .until
                .is_none_or(|until| first_seen.is_some_and(|seen| seen < until))
    }
}

/// The event as it was first published, without its delivery state, to one endpoint's queue.
fn original(letter: &Incoming, endpoint: &str, names: &Names) -> Outgoing {
    let headers: BTreeMap<_, _> = letter
        .headers
        .iter()
        .filter(|(name, _)| !name.starts_with("groupmq-") && !header::is_for_the_broker(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Outgoing {
        routing_key: names.webhook(endpoint),
        message_id: letter.message_id.clone().unwrap_or_default(),
        message_type: letter.message_type.clone().unwrap_or_default(),
        correlation_id: letter.correlation_id.clone(),
        headers,
        body: letter.body.clone(),
        mandatory: true,
        ..Outgoing::default()
    }
}
