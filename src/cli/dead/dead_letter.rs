//! A dead letter, as text and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use crate::amqp::{Incoming, header};
use crate::cli::output::printable;

/// The properties of a dead letter.
#[derive(Debug)]
pub(super) struct DeadLetter {
    pub(super) id: String,
    pub(super) command_type: String,
    pub(super) session: String,
    pub(super) code: String,
    reason: String,
    first_seen: String,
}

impl DeadLetter {
    pub(super) fn read(message: &Incoming) -> Self {
        let header = |name: &str| message.headers.get(name).cloned().unwrap_or_default();
        let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
        let field = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let property = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let session = field("session").unwrap_or_else(|| header(header::ROUTING_KEY));
        Self {
            id: field("id")
                .or_else(|| property(&message.message_id))
                .unwrap_or_default(),
            command_type: field("type")
                .or_else(|| property(&message.message_type))
                .unwrap_or_default(),
            session,
            // Without our header, the broker dead-lettered it (x-delivery-limit).
            code: message
                .headers
                .get(header::CODE)
                .cloned()
                .unwrap_or_else(|| "DELIVERY_LIMIT".to_owned()),
            reason: header(header::REASON),
            first_seen: header(header::FIRST_SEEN),
        }
    }

    pub(super) fn age(&self, now: jiff::Timestamp) -> Option<Duration> {
        let seen: jiff::Timestamp = self.first_seen.parse().ok()?;
        Duration::try_from(now.duration_since(seen)).ok()
    }

    pub(super) fn heading() -> String {
        format!(
            "{:<24}  {:<18}  {:<12}  {:<20}  {:<36}  REASON",
            "FIRST SEEN", "CODE", "SESSION", "TYPE", "ID"
        )
    }

    /// One line of the table.
    pub(super) fn row(&self) -> String {
        format!(
            "{:<24}  {:<18}  {:<12}  {:<20}  {:<36}  {}",
            printable(&self.first_seen, 24),
            printable(&self.code, 18),
            printable(&self.session, 24),
            printable(&self.command_type, 24),
            printable(&self.id, 48),
            printable(&self.reason, 120),
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id,
            "type": self.command_type,
            "session": self.session,
            "code": self.code,
            "reason": self.reason,
            "firstSeen": self.first_seen,
        })
    }
}
