//! `groupmq webhooks deliveries`: the delivery log.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{self, printable};
use crate::store::deliveries::{Attempt, DeliveryFilter};

use super::WebhookAdmin;

/// The outcome of a successful attempt.
const DELIVERED: &str = "delivered";

/// Selects attempts; all conditions must hold.
#[derive(Debug, Args)]
pub(in crate::cli) struct Deliveries {
    /// Only attempts to this endpoint.
    name: Option<String>,
    /// Only attempts to deliver the event with this id.
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Only failed attempts.
    #[arg(long)]
    failed: bool,
    /// Maximum number of attempts.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
}

impl Deliveries {
    pub(super) async fn run(self, admin: &WebhookAdmin) -> Result<Exit, Failure> {
        let wanted = DeliveryFilter {
            endpoint: self.name,
            event_id: self.event,
            other_than: self.failed.then(|| DELIVERED.to_owned()),
            limit: self.limit,
        };
        let attempts = admin.store.deliveries().find(wanted).await?;
        if !self.json {
            output::line(&format!(
                "{:<24}  {:<24}  {:<22}  {:<36}  {:>3}  {:<9}  {:<6}  {:>7}  ANSWER",
                "AT", "WEBHOOK", "EVENT", "ID", "TRY", "OUTCOME", "STATUS", "TOOK"
            ))?;
        }
        for attempt in &attempts {
            output::line(&if self.json {
                object(attempt).to_string()
            } else {
                row(attempt)
            })?;
        }
        if !self.json {
            output::line(&format!("{} attempts", attempts.len()))?;
        }
        Ok(Exit::Ok)
    }
}

fn row(attempt: &Attempt) -> String {
    let status = attempt.status.map_or_else(String::new, |it| it.to_string());
    format!(
        "{:<24}  {:<24}  {:<22}  {:<36}  {:>3}  {:<9}  {:<6}  {:>4} ms  {}",
        attempt.at.to_string(),
        printable(&attempt.endpoint, 48),
        printable(&attempt.event, 32),
        printable(&attempt.event_id, 48),
        attempt.attempt,
        printable(&attempt.outcome, 16),
        status,
        attempt.took.as_millis(),
        printable(attempt.answer.as_deref().unwrap_or_default(), 120),
    )
}

fn object(attempt: &Attempt) -> Value {
    let took = u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX);
    json!({
        "at": attempt.at,
        "webhook": attempt.endpoint,
        "event": attempt.event,
        "eventId": attempt.event_id,
        "attempt": attempt.attempt,
        "requestId": attempt.request_id,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "tookMs": took,
        "answer": attempt.answer,
    })
}
