//! The outbox: events that belong to no command, until the broker has confirmed them. [`super::known_groups`] adds
//! them in one transaction with the change that they report; `ops` publishes them, one worker at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Error;
use super::batch::TableRow;
use super::db::{Pool, Value};
use crate::contract::Event;

/// They are published in the order of their positions, so few are missing between the first and the last.
pub(super) const SIZE: &str = "SELECT COALESCE((SELECT MAX(position) FROM pending_events) \
     - (SELECT MIN(position) FROM pending_events) + 1, 0)";

/// A handle to the pending events; cheap to clone.
#[derive(Debug, Clone)]
pub struct PendingEvents {
    pool: Pool,
    events_added: Arc<Notify>,
}

/// A pending event and its position.
#[derive(Debug, Clone)]
pub struct PendingEvent {
    /// Its position; smaller ones are published first.
    pub position: i64,
    /// The event.
    pub event: Event,
    /// The headers with which it is published.
    pub headers: Headers,
}

/// Headers of a message.
pub type Headers = BTreeMap<String, String>;

/// An event and its headers, as a batch adds them behind all others.
#[derive(Debug)]
pub(super) struct EventRow {
    event: String,
    headers: String,
}

impl EventRow {
    pub(super) fn new(event: &Event, headers: &Headers) -> Result<Self, Error> {
        let corrupt = |error| Error::corrupt(EventRow::TABLE, error);
        Ok(Self {
            event: serde_json::to_string(event).map_err(corrupt)?,
            headers: serde_json::to_string(headers).map_err(corrupt)?,
        })
    }
}

impl TableRow for EventRow {
    /// The order within the batch: the table numbers its rows itself.
    type Key = usize;

    const TABLE: &'static str = "pending_events";
    const KEY: &'static [&'static str] = &[];
    const COLUMNS: &'static [&'static str] = &["event", "headers"];
    const WRITING: &'static str = "adding pending events";

    fn key_values(_: &usize) -> Vec<Value> {
        Vec::new()
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        Ok(vec![Value::Text(self.event), Value::Text(self.headers)])
    }
}

impl PendingEvents {
    pub(super) const fn new(pool: Pool, events_added: Arc<Notify>) -> Self {
        Self { pool, events_added }
    }

    /// The oldest pending events.
    ///
    /// # Errors
    /// When the store cannot be used, or a row cannot be parsed.
    pub async fn oldest(&self, at_most: u32) -> Result<Vec<PendingEvent>, Error> {
        let rows = self
            .pool
            .fetch(
                "reading pending events",
                "SELECT position, event, headers FROM pending_events ORDER BY position LIMIT $1",
                vec![Value::Int(i64::from(at_most))],
            )
            .await?;
        let pending = rows.iter().map(|row| {
            let corrupt = |error| Error::corrupt(EventRow::TABLE, error);
            Ok(PendingEvent {
                position: row.get(0)?,
                event: serde_json::from_str(&row.get::<String>(1)?).map_err(corrupt)?,
                headers: serde_json::from_str(&row.get::<String>(2)?).map_err(corrupt)?,
            })
        });
        pending.collect()
    }

    /// Removes events that the broker has confirmed.
    ///
    /// By position, one by one: with several workers, an event may become visible later than one with a higher
    /// position.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn confirmed(&self, events: &[PendingEvent]) -> Result<(), Error> {
        let places: Vec<_> = events.iter().map(|it| it.position.to_string()).collect();
        let places = format!("[{}]", places.join(","));
        let sql = if self.pool.is_postgres() {
            "DELETE FROM pending_events WHERE position IN \
             (SELECT value::bigint FROM json_array_elements_text(($1::text)::json))"
        } else {
            "DELETE FROM pending_events WHERE position IN (SELECT value FROM json_each($1))"
        };
        self.pool
            .execute("removing published events", sql, vec![Value::Text(places)])
            .await
            .map(drop)
    }

    /// About how many pending events there are, without counting them: after an outage they may be very many, and
    /// this is asked again with each batch that is published.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn size(&self) -> Result<u64, Error> {
        let rows = self
            .pool
            .fetch("measuring pending events", SIZE, Vec::new());
        let size: i64 = rows.await?.first().map_or(Ok(0), |row| row.get(0))?;
        Ok(u64::try_from(size).unwrap_or_default())
    }

    /// Resolves when this worker has added events since the last call, or at once if it has before.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn events_added(&self) {
        self.events_added.notified().await;
    }
}
