//! Groups as the sessions of an external engine know them, and the notifications that were applied, so that each
//! notification produces its events once.
//!
//! The notification, the change of the group's state and the resulting events are one transaction: see
//! [`KnownGroups::apply`]. The engine decides what a group's state contains and which events follow; here the state
//! is JSON. The events are stored in [`super::pending_events`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::Error;
use super::batch::{ReadSet, Table, TableRow, WriteBatcher};
use super::db::{self, Lock, Pool, Value};
use super::pending_events::{EventRow, Headers};
use crate::contract::{Event, GroupId, SessionName, Timestamp};

/// A group as a session knows it; without a group, the session's own row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KnownKey {
    /// The session.
    pub session: SessionName,
    /// The group.
    pub group: Option<GroupId>,
}

/// A notification to apply.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Its id, if the same notification may arrive again.
    pub id: Option<String>,
    /// When it arrived.
    pub at: Timestamp,
    /// The rows that it may change.
    pub rows: Vec<KnownKey>,
}

/// A handle to the known groups; cheap to clone.
#[derive(Debug, Clone)]
pub struct KnownGroups {
    batcher: WriteBatcher,
    pool: Pool,
    events_added: Arc<Notify>,
}

/// The rows that a step reads and changes, and the events that it adds.
#[derive(Debug)]
pub struct StateRows<'a> {
    rows: &'a Table<KnownRow>,
    /// What the step has put.
    changes: BTreeMap<KnownKey, String>,
    events: Vec<EventRow>,
}

impl KnownGroups {
    pub(super) const fn new(batcher: WriteBatcher, pool: Pool, events_added: Arc<Notify>) -> Self {
        Self {
            batcher,
            pool,
            events_added,
        }
    }

    /// Runs `step`, which turns a notification into changes and events, in one transaction; none if the
    /// notification was applied before.
    ///
    /// `step` may run several times, and must depend on nothing but the rows. One that fails changes
    /// nothing.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe where the notification has an id.
    pub async fn apply<F, T>(&self, what: Notification, step: F) -> Result<Option<T>, Error>
    where
        F: Fn(&mut StateRows<'_>) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let Notification { id, at, rows } = what;
        let needs = ReadSet::default()
            .with::<KnownRow>(rows)
            .with::<SeenRow>(id.clone());
        let at = at.0.as_millisecond();
        let taken = self.batcher.submit(needs, move |rows| {
            let seen = rows.table::<SeenRow>()?;
            if id.as_ref().is_some_and(|id| seen.get(id).is_some()) {
                return Ok((None, false));
            }
            let mut state = StateRows {
                rows: rows.table()?,
                changes: BTreeMap::new(),
                events: Vec::new(),
            };
            let done = step(&mut state)?;
            let StateRows {
                changes, events, ..
            } = state;
            let has_events = !events.is_empty();
            let known = rows.table()?;
            for (key, state) in changes {
                known.put(key, KnownRow(state));
            }
            let pending = rows.table()?;
            for event in events {
                pending.append(event);
            }
            if let Some(id) = &id {
                rows.table()?.put(id.clone(), SeenRow(at));
            }
            Ok((Some(done), has_events))
        });
        let (done, has_events) = taken.await?;
        if has_events {
            self.events_added.notify_one();
        }
        Ok(done)
    }

    /// The groups that a session knows, or knew.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn of_session(&self, session: &SessionName) -> Result<Vec<GroupId>, Error> {
        let rows = self
            .pool
            .fetch(
                KnownRow::READING,
                "SELECT group_id FROM known_groups WHERE session = $1 AND group_id <> '' \
                 ORDER BY group_id",
                vec![Value::from(session.as_str())],
            )
            .await?;
        rows.iter()
            .map(|row| row.parse(0, KnownRow::TABLE))
            .collect()
    }

    /// Removes notifications that arrived before `before`.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn forget(&self, before: Timestamp) -> Result<(), Error> {
        self.pool
            .execute(
                "removing old notifications",
                "DELETE FROM seen_notifications WHERE seen_at < $1",
                vec![Value::Int(before.0.as_millisecond())],
            )
            .await
            .map(drop)
    }
}

impl StateRows<'_> {
    /// The state of a group, or of the session.
    ///
    /// # Errors
    /// When it cannot be parsed.
    pub fn get<T: DeserializeOwned>(&self, key: &KnownKey) -> Result<Option<T>, Error> {
        let stored = || self.rows.get(key).map(|row| &row.0);
        let state = self.changes.get(key).or_else(stored);
        state
            .map(|state| serde_json::from_str(state))
            .transpose()
            .map_err(|error| Error::corrupt(KnownRow::TABLE, error))
    }

    /// Replaces the state of a group, or of the session.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn put<T: Serialize>(&mut self, key: &KnownKey, state: &T) -> Result<(), Error> {
        let state =
            serde_json::to_string(state).map_err(|error| Error::corrupt(KnownRow::TABLE, error))?;
        if self.rows.get(key).is_some_and(|row| row.0 == state) {
            self.changes.remove(key);
        } else {
            self.changes.insert(key.clone(), state);
        }
        Ok(())
    }

    /// Adds an event with its headers, after all earlier ones of its group.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn publish(&mut self, event: &Event, headers: &Headers) -> Result<(), Error> {
        self.events.push(EventRow::new(event, headers)?);
        Ok(())
    }
}

/// What a session knows of a group, as JSON.
#[derive(Debug)]
pub(super) struct KnownRow(String);

impl TableRow for KnownRow {
    type Key = KnownKey;

    const TABLE: &'static str = "known_groups";
    const KEY: &'static [&'static str] = &["session", "group_id"];
    const COLUMNS: &'static [&'static str] = &["state"];
    const READING: &'static str = "reading known groups";
    const WRITING: &'static str = "writing known groups";

    fn key_values(key: &KnownKey) -> Vec<Value> {
        let group = key.group.as_ref();
        let group = group.map_or_else(|| Value::from(""), |group| group.shared().into());
        vec![Value::from(key.session.shared()), group]
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        Ok(vec![Value::Text(self.0)])
    }

    fn read(row: &db::Row) -> Result<(KnownKey, Self), Error> {
        let is_session = row.get::<String>(1)?.is_empty();
        let key = KnownKey {
            session: row.parse(0, Self::TABLE)?,
            group: (!is_session)
                .then(|| row.parse(1, Self::TABLE))
                .transpose()?,
        };
        Ok((key, Self(row.get(2)?)))
    }
}

/// When a notification was applied, in milliseconds since 1970.
#[derive(Debug)]
pub(super) struct SeenRow(i64);

impl TableRow for SeenRow {
    type Key = String;

    const TABLE: &'static str = "seen_notifications";
    const KEY: &'static [&'static str] = &["id"];
    const COLUMNS: &'static [&'static str] = &["seen_at"];
    const LOCK: Lock = Lock::None;
    const READING: &'static str = "reading seen notifications";
    const WRITING: &'static str = "writing seen notifications";

    fn key_values(id: &String) -> Vec<Value> {
        vec![Value::from(id.as_str())]
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        Ok(vec![Value::Int(self.0)])
    }

    fn read(row: &db::Row) -> Result<(String, Self), Error> {
        Ok((row.get(0)?, Self(row.get(1)?)))
    }
}
