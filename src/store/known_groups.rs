//! Groups as the sessions of an engine beyond the store know them, and the notifications that were
//! taken in: what turns a notification into events, once.
//!
//! A notification, the change of what is known, and the events that follow are one transaction: see
//! [`KnownGroups::take`]. What a group's state looks like, and what follows from a notification, is
//! the engine's business; here it is JSON. The events wait in [`super::pending_events`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::commit::{ReadSet, WriteBatcher};
use super::db::sql;
use super::db::{self, Link, Pool, Value};
use super::pending_events::Headers;
use super::{Error, pending_events};
use crate::contract::{Event, GroupId, SessionName, Timestamp};

const TABLE: &str = "known_groups";

/// A group as a session knows it; without a group, the session's own row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KnownKey {
    /// The session.
    pub session: SessionName,
    /// The group.
    pub group: Option<GroupId>,
}

/// What a notification is about.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Its id, where the same one may come again.
    pub id: Option<String>,
    /// When it came.
    pub at: Timestamp,
    /// The rows that it may change.
    pub rows: Vec<KnownKey>,
}

/// The way to the groups that are known; cheap to clone.
#[derive(Debug, Clone)]
pub struct KnownGroups {
    queue: WriteBatcher,
    pool: Pool,
    news: Arc<Notify>,
}

/// What a step sees and does.
#[derive(Debug)]
pub struct StateRows<'a> {
    rows: &'a mut Rows,
    published: usize,
}

impl KnownGroups {
    pub(super) const fn new(queue: WriteBatcher, pool: Pool, news: Arc<Notify>) -> Self {
        Self { queue, pool, news }
    }

    /// Has `step` turn a notification into events, in one transaction with what it changes; none
    /// where the notification came before.
    ///
    /// `step` may run several times, and must depend on nothing but the rows. One that fails changes
    /// nothing.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe where the notification has an id.
    pub async fn take<F, T>(&self, what: Notification, step: F) -> Result<Option<T>, Error>
    where
        F: Fn(&mut StateRows<'_>) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let Notification { id, at, rows } = what;
        let needs = ReadSet {
            known: rows,
            notification: id.clone(),
            ..ReadSet::default()
        };
        let at = at.0.as_millisecond();
        let taken = self.queue.submit(needs, move |rows| {
            let rows = &mut rows.known;
            if id.as_ref().is_some_and(|id| rows.has_seen(id)) {
                return Ok((None, 0));
            }
            let (before, events) = (rows.known.clone(), rows.events.len());
            let mut known = StateRows { rows, published: 0 };
            match step(&mut known) {
                Ok(done) => {
                    let published = known.published;
                    if let Some(id) = &id {
                        rows.seen.insert(id.clone(), Some(at));
                    }
                    Ok((Some(done), published))
                }
                Err(error) => {
                    rows.known = before;
                    rows.events.truncate(events);
                    Err(error)
                }
            }
        });
        let (done, published) = taken.await?;
        if published > 0 {
            self.news.notify_one();
        }
        Ok(done)
    }

    /// The groups that a session knows, or knew.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn of(&self, session: &SessionName) -> Result<Vec<GroupId>, Error> {
        let rows = self
            .pool
            .fetch(
                "reading the groups that are known",
                "SELECT group_id FROM known_groups WHERE session = $1 AND group_id <> '' \
                 ORDER BY group_id",
                vec![Value::from(session.as_str())],
            )
            .await?;
        rows.iter()
            .map(|row| text(&row.get::<String>(0)?))
            .collect()
    }

    /// Forgets notifications that came before `before`.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn forget(&self, before: Timestamp) -> Result<(), Error> {
        self.pool
            .execute(
                "forgetting old notifications",
                "DELETE FROM seen_notifications WHERE seen_at < $1",
                vec![Value::Int(before.0.as_millisecond())],
            )
            .await
            .map(drop)
    }
}

impl StateRows<'_> {
    /// What is known of a group, or of the session.
    ///
    /// # Errors
    /// When it does not read.
    pub fn get<T: DeserializeOwned>(&self, key: &KnownKey) -> Result<Option<T>, Error> {
        let slot = self
            .rows
            .known
            .get(key)
            .and_then(|slot| slot.state.as_ref());
        slot.map(|state| serde_json::from_str(state))
            .transpose()
            .map_err(|error| Error::corrupt(TABLE, error))
    }

    /// Keeps what is known now.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn put<T: Serialize>(&mut self, key: &KnownKey, state: &T) -> Result<(), Error> {
        let state = serde_json::to_string(state).map_err(|error| Error::corrupt(TABLE, error))?;
        let slot = self.rows.known.entry(key.clone()).or_default();
        slot.changed |= slot.state.as_ref() != Some(&state);
        slot.state = Some(state);
        Ok(())
    }

    /// Has an event published with some headers, behind all earlier ones of its group.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn publish(&mut self, event: &Event, headers: &Headers) -> Result<(), Error> {
        self.rows.events.push(pending_events::row(event, headers)?);
        self.published += 1;
        Ok(())
    }
}

/// The rows of a batch.
#[derive(Debug, Default)]
pub(super) struct Rows {
    known: BTreeMap<KnownKey, Slot>,
    /// Notifications asked about: when they were seen, if now.
    seen: BTreeMap<String, Option<i64>>,
    /// Those that had been seen when the batch began.
    earlier: Vec<String>,
    /// Events to be added, in their order.
    events: Vec<pending_events::Row>,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    stored: bool,
    changed: bool,
    state: Option<String>,
}

impl Rows {
    fn has_seen(&self, id: &String) -> bool {
        self.earlier.contains(id) || self.seen.get(id).is_some_and(Option::is_some)
    }

    /// Loads, and where possible locks, rows and notifications.
    pub(super) async fn load(
        link: &mut Link,
        keys: Vec<KnownKey>,
        notifications: Vec<String>,
    ) -> Result<Self, Error> {
        let failed = |error| Error::of("reading the groups that are known", error);
        let mut rows = Self {
            known: keys.into_iter().map(|key| (key, Slot::default())).collect(),
            seen: notifications.into_iter().map(|id| (id, None)).collect(),
            ..Self::default()
        };
        let keys: Vec<_> = rows.known.keys().map(key_values).collect();
        for (count, values) in sql::key_lists(&keys) {
            let sql = format!(
                "SELECT session, group_id, state FROM known_groups \
                 WHERE (session, group_id) IN (VALUES {}) ORDER BY session, group_id{}",
                link.placeholders(count, 2),
                link.for_update(),
            );
            for row in &link.fetch(sql, values).await.map_err(failed)? {
                let slot = Slot {
                    stored: true,
                    changed: false,
                    state: Some(row.get(2)?),
                };
                rows.known.insert(key(row)?, slot);
            }
        }
        let ids: Vec<_> = rows
            .seen
            .keys()
            .map(|id| [Value::from(id.as_str())])
            .collect();
        for (count, values) in sql::key_lists(&ids) {
            let ids = link.placeholders(count, 1);
            let sql = format!("SELECT id FROM seen_notifications WHERE id IN (VALUES {ids})");
            for row in &link.fetch(sql, values).await.map_err(failed)? {
                rows.earlier.push(row.get(0)?);
            }
        }
        Ok(rows)
    }

    /// Writes the differences, and the events behind all others.
    pub(super) async fn write(self, link: &mut Link) -> Result<(), Error> {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for (key, slot) in self.known.into_iter().filter(|(_, slot)| slot.changed) {
            let [session, group] = key_values(&key);
            let row = [session, group, Value::Text(slot.state.unwrap_or_default())];
            if slot.stored { &mut changed } else { &mut new }.push(row);
        }
        let insert = |link: &Link, rows| {
            let places = link.placeholders(rows, 3);
            format!("INSERT INTO known_groups (session, group_id, state) VALUES {places}")
        };
        // A plain INSERT: where another worker was faster, it fails and the batch runs again.
        for (rows, values) in sql::row_lists(new) {
            run(link, insert(link, rows), values).await?;
        }
        for (rows, values) in sql::row_lists(changed) {
            let sql = insert(link, rows)
                + " ON CONFLICT (session, group_id) DO UPDATE SET state = excluded.state";
            run(link, sql, values).await?;
        }
        let seen = self.seen.into_iter().filter_map(|(id, at)| Some((id, at?)));
        let seen = seen.map(|(id, at)| [Value::Text(id), Value::Int(at)]);
        for (rows, values) in sql::row_lists(seen.collect()) {
            let places = link.placeholders(rows, 2);
            let sql = format!("INSERT INTO seen_notifications (id, seen_at) VALUES {places}");
            run(link, sql, values).await?;
        }
        pending_events::add(link, self.events).await
    }
}

async fn run(link: &mut Link, sql: String, values: Vec<Value>) -> Result<(), Error> {
    let done = link.execute(sql, values).await;
    done.map(drop)
        .map_err(|error| Error::of("writing the groups that are known", error))
}

fn key_values(key: &KnownKey) -> [Value; 2] {
    let group = key.group.as_ref().map_or("", GroupId::as_str);
    [Value::from(key.session.as_str()), Value::from(group)]
}

fn key(row: &db::Row) -> Result<KnownKey, Error> {
    let group: String = row.get(1)?;
    Ok(KnownKey {
        session: text(&row.get::<String>(0)?)?,
        group: if group.is_empty() {
            None
        } else {
            Some(text(&group)?)
        },
    })
}

fn text<T: std::str::FromStr<Err = crate::contract::InvalidId>>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|error| Error::corrupt(TABLE, serde::de::Error::custom(error)))
}
