//! The log of webhook deliveries: every attempt and its outcome, for operators.
//!
//! Nothing depends on it: it is written late and in batches, and attempts that cannot be written are dropped.

use std::time::Duration;

use super::Error;
use super::db::sql;
use super::db::{Pool, Row, Value, millis};
use crate::contract::Timestamp;

/// One attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The endpoint.
    pub endpoint: String,
    /// The event, which is the delivery's `webhook-id` too.
    pub event_id: String,
    /// The event's name.
    pub event: String,
    /// Counts from 1 for each delivery.
    pub attempt: u32,
    /// The request's own id.
    pub request_id: String,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The outcome: `delivered`, `failed`, …
    pub outcome: String,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The beginning of the answer, or a description of the failure.
    pub answer: Option<String>,
}

/// Selects attempts; all conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Of this endpoint.
    pub endpoint: Option<String>,
    /// Of this event.
    pub event_id: Option<String>,
    /// With another outcome than this.
    pub other_than: Option<String>,
    /// At most this many, the latest first.
    pub limit: u32,
}

/// A handle to the log; cheap to clone.
#[derive(Debug, Clone)]
pub struct Deliveries {
    pool: Pool,
}

impl Deliveries {
    pub(super) const fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Adds attempts.
    ///
    /// # Errors
    /// When the store cannot be used; some of them may be written.
    pub async fn add(&self, attempts: Vec<Attempt>) -> Result<(), Error> {
        let rows = attempts.into_iter().map(values).collect();
        for (count, values) in sql::row_lists(rows) {
            let sql = format!(
                "INSERT INTO webhook_deliveries (endpoint, event_id, event, attempt, request_id, \
                 at, duration_ms, outcome, status, answer) VALUES {}",
                self.pool.placeholders(count, 10)
            );
            self.pool.execute("logging deliveries", sql, values).await?;
        }
        Ok(())
    }

    /// Looks attempts up, the latest first.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn find(&self, wanted: DeliveryFilter) -> Result<Vec<Attempt>, Error> {
        let rows = self
            .pool
            .fetch(
                "reading deliveries",
                "SELECT endpoint, event_id, event, attempt, request_id, at, duration_ms, outcome, \
                 status, answer FROM webhook_deliveries \
                 WHERE ($1 = '' OR endpoint = $1) AND ($2 = '' OR event_id = $2) \
                 AND ($3 = '' OR outcome <> $3) ORDER BY at DESC, attempt DESC LIMIT $4",
                vec![
                    Value::Text(wanted.endpoint.unwrap_or_default()),
                    Value::Text(wanted.event_id.unwrap_or_default()),
                    Value::Text(wanted.other_than.unwrap_or_default()),
                    Value::Int(wanted.limit.into()),
                ],
            )
            .await?;
        rows.iter().map(read).collect()
    }

    /// Removes some of the attempts that began before a time; returns how many.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn purge(&self, before: Timestamp, at_most: u32) -> Result<u64, Error> {
        let slice = if self.pool.is_postgres() {
            "ctid IN (SELECT ctid FROM webhook_deliveries WHERE at < $1 LIMIT $2)"
        } else {
            "rowid IN (SELECT rowid FROM webhook_deliveries WHERE at < $1 LIMIT $2)"
        };
        self.pool
            .execute(
                "purging deliveries",
                format!("DELETE FROM webhook_deliveries WHERE {slice}"),
                vec![
                    Value::Int(before.0.as_millisecond()),
                    Value::Int(at_most.into()),
                ],
            )
            .await
    }
}

fn values(attempt: Attempt) -> [Value; 10] {
    [
        Value::Text(attempt.endpoint),
        Value::Text(attempt.event_id),
        Value::Text(attempt.event),
        Value::Int(attempt.attempt.into()),
        Value::Text(attempt.request_id),
        Value::Int(attempt.at.0.as_millisecond()),
        millis(attempt.took),
        Value::Text(attempt.outcome),
        Value::MaybeInt(attempt.status.map(i64::from)),
        Value::MaybeText(attempt.answer),
    ]
}

fn read(row: &Row) -> Result<Attempt, Error> {
    let at = jiff::Timestamp::from_millisecond(row.get(5)?).unwrap_or_default();
    let took: i64 = row.get(6)?;
    let status: Option<i64> = row.get(8)?;
    Ok(Attempt {
        endpoint: row.get(0)?,
        event_id: row.get(1)?,
        event: row.get(2)?,
        attempt: u32::try_from(row.get::<i64>(3)?).unwrap_or_default(),
        request_id: row.get(4)?,
        at: Timestamp(at),
        took: Duration::from_millis(u64::try_from(took).unwrap_or_default()),
        outcome: row.get(7)?,
        status: status.and_then(|status| u16::try_from(status).ok()),
        answer: row.get(9)?,
    })
}
