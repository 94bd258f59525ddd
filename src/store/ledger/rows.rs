//! The ledger's table: rows loaded for a batch, changed in memory, and written back.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::{Begun, Fingerprint, Found, Key, Limits, Record};
use crate::contract::{InvalidId, Timestamp};
use crate::store::Error;
use crate::store::db::sql;
use crate::store::db::{self, Link, Pool, Value};

const TABLE: &str = "ledger";

/// One command.
#[derive(Debug, Clone)]
pub(in crate::store) struct Row {
    pub(in crate::store) fingerprint: Fingerprint,
    pub(super) owner: String,
    /// The last time.
    started_at: i64,
    /// How often it was started without an end that anybody saw, and when first.
    starts: i64,
    first_started_at: i64,
    /// When it was finished and the record as JSON; none while it is `started`.
    finished: Option<(i64, String)>,
}

impl Row {
    pub(in crate::store) const fn started(
        fingerprint: Fingerprint,
        owner: String,
        now: i64,
    ) -> Self {
        Self {
            fingerprint,
            owner,
            started_at: now,
            starts: 1,
            first_started_at: now,
            finished: None,
        }
    }

    /// The same command in another's name.
    pub(super) fn owned_by(self, owner: String) -> Self {
        Self { owner, ..self }
    }

    /// The same command, started once more.
    pub(super) fn begun_again(self, started_at: i64) -> Self {
        Self {
            started_at,
            starts: self.starts + 1,
            ..self
        }
    }

    /// The same command, whose last start did nothing; none if there was no other.
    pub(super) fn begun_once_less(self) -> Option<Self> {
        let starts = self.starts - 1;
        (starts > 0).then_some(Self { starts, ..self })
    }

    /// The same command, done.
    pub(in crate::store) fn done(mut self, record: &Record) -> Result<Self, Error> {
        let text = serde_json::to_string(record).map_err(|e| Error::corrupt(TABLE, e))?;
        self.finished = Some((record.at.0.as_millisecond(), text));
        Ok(self)
    }

    /// The record, where the command is done.
    pub(in crate::store) fn record(&self) -> Result<Option<Record>, Error> {
        let Some((_, text)) = &self.finished else {
            return Ok(None);
        };
        serde_json::from_str(text)
            .map(Some)
            .map_err(|e| Error::corrupt(TABLE, e))
    }

    pub(super) fn begun(&self) -> Begun {
        let at = |at| Timestamp(jiff::Timestamp::from_millisecond(at).unwrap_or_default());
        Begun {
            first: at(self.first_started_at),
            last: at(self.started_at),
            times: u32::try_from(self.starts).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn is_started_by(&self, owner: &str) -> bool {
        self.finished.is_none() && self.owner == owner
    }

    fn read(row: &db::Row) -> Result<(Key, Self), Error> {
        let key = Key {
            session: text(&row.get::<String>(0)?)?,
            command_id: text(&row.get::<String>(1)?)?,
        };
        let fingerprint: Vec<u8> = row.get(2)?;
        let started_at = row.get(4)?;
        let finished: Option<i64> = row.get(5)?;
        let record: Option<String> = row.get(6)?;
        let first: Option<i64> = row.get(8)?;
        let row = Self {
            // Never longer or shorter; were it, it would equal no command's.
            fingerprint: fingerprint.try_into().unwrap_or_default(),
            owner: row.get(3)?,
            started_at,
            starts: row.get(7)?,
            first_started_at: first.unwrap_or(started_at),
            finished: finished.zip(record),
        };
        Ok((key, row))
    }

    fn values(self, key: &Key) -> [Value; 10] {
        let state = if self.finished.is_some() {
            "done"
        } else {
            "started"
        };
        let (finished_at, record) = self.finished.unzip();
        [
            Value::Text(key.session.to_string()),
            Value::Text(key.command_id.to_string()),
            Value::Bytes(self.fingerprint.to_vec()),
            Value::from(state),
            Value::Text(self.owner),
            Value::Int(self.started_at),
            Value::MaybeInt(finished_at),
            Value::MaybeText(record),
            Value::Int(self.starts),
            Value::Int(self.first_started_at),
        ]
    }
}

fn text<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|e| Error::corrupt(TABLE, serde::de::Error::custom(e)))
}

/// The rows of a batch.
#[derive(Debug, Default)]
pub(in crate::store) struct Rows(BTreeMap<Key, Slot>);

#[derive(Debug)]
struct Slot {
    /// The table had the row when the batch began.
    stored: bool,
    changed: bool,
    row: Option<Row>,
}

impl Rows {
    /// Loads, and where possible locks, the rows of these commands.
    pub(in crate::store) async fn load(link: &mut Link, keys: Vec<Key>) -> Result<Self, Error> {
        let empty = || Slot {
            stored: false,
            changed: false,
            row: None,
        };
        let mut rows: BTreeMap<Key, Slot> = keys.into_iter().map(|key| (key, empty())).collect();
        let keys: Vec<_> = rows.keys().map(key_values).collect();
        for (count, values) in sql::key_lists(&keys) {
            let sql = format!(
                "SELECT session, command_id, fingerprint, owner, started_at, finished_at, record, \
                 starts, first_started_at FROM ledger WHERE (session, command_id) IN (VALUES {}) \
                 ORDER BY session, command_id{}",
                link.placeholders(count, 2),
                link.for_update(),
            );
            let found = link.fetch(sql, values).await;
            for row in &found.map_err(|error| Error::of("reading the ledger", error))? {
                let (key, row) = Row::read(row)?;
                rows.insert(
                    key,
                    Slot {
                        stored: true,
                        changed: false,
                        row: Some(row),
                    },
                );
            }
        }
        Ok(Self(rows))
    }

    /// The row of a command that was loaded.
    pub(in crate::store) fn get(&self, key: &Key) -> Option<&Row> {
        self.0.get(key).and_then(|slot| slot.row.as_ref())
    }

    /// Adds or replaces a row.
    pub(in crate::store) fn put(&mut self, key: &Key, row: Row) {
        self.set(key, Some(row));
    }

    /// Deletes a row.
    pub(super) fn remove(&mut self, key: &Key) {
        self.set(key, None);
    }

    fn set(&mut self, key: &Key, row: Option<Row>) {
        let stored = self.0.get(key).is_some_and(|slot| slot.stored);
        self.0.insert(
            key.clone(),
            Slot {
                stored,
                changed: true,
                row,
            },
        );
    }

    /// Writes the differences.
    pub(in crate::store) async fn write(self, link: &mut Link) -> Result<(), Error> {
        let (mut new, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, slot) in self.0.into_iter().filter(|(_, slot)| slot.changed) {
            match (slot.row, slot.stored) {
                (Some(row), false) => new.push(row.values(&key)),
                (Some(row), true) => changed.push(row.values(&key)),
                (None, true) => gone.push(key_values(&key)),
                (None, false) => {}
            }
        }
        // A plain INSERT: where another worker was faster, it fails and the batch runs again.
        for (rows, values) in sql::row_lists(new) {
            run(link, insert(link, rows), values).await?;
        }
        for (rows, values) in sql::row_lists(changed) {
            let sql = insert(link, rows)
                + " ON CONFLICT (session, command_id) DO UPDATE SET state = excluded.state, \
                   owner = excluded.owner, started_at = excluded.started_at, \
                   finished_at = excluded.finished_at, record = excluded.record, \
                   starts = excluded.starts, first_started_at = excluded.first_started_at";
            run(link, sql, values).await?;
        }
        for (count, values) in sql::key_lists(&gone) {
            let keys = link.placeholders(count, 2);
            let sql = format!("DELETE FROM ledger WHERE (session, command_id) IN (VALUES {keys})");
            run(link, sql, values).await?;
        }
        Ok(())
    }
}

fn insert(link: &Link, rows: usize) -> String {
    format!(
        "INSERT INTO ledger (session, command_id, fingerprint, state, owner, started_at, \
         finished_at, record, starts, first_started_at) VALUES {}",
        link.placeholders(rows, 10)
    )
}

async fn run(link: &mut Link, sql: String, values: Vec<Value>) -> Result<(), Error> {
    let done = link.execute(sql, values).await;
    done.map(drop)
        .map_err(|error| Error::of("writing the ledger", error))
}

fn key_values(key: &Key) -> [Value; 2] {
    [
        Value::from(key.session.as_str()),
        Value::from(key.command_id.as_str()),
    ]
}

/// Deletes up to `at_most` rows that are older than `limits`, the oldest first.
pub(in crate::store) async fn purge(
    link: &mut Link,
    limits: Limits,
    at_most: u32,
) -> Result<u64, Error> {
    // The first condition is the index's; few rows that meet it are `started`.
    let sql = format!(
        "DELETE FROM ledger WHERE (session, command_id) IN (SELECT session, command_id \
         FROM ledger WHERE COALESCE(finished_at, started_at) < $1 \
         AND (finished_at IS NOT NULL OR started_at < $2) \
         ORDER BY COALESCE(finished_at, started_at) LIMIT $3{})",
        link.for_update_skip_locked(),
    );
    let Limits { finished, started } = limits;
    let values = vec![
        Value::Int(finished.0.as_millisecond()),
        Value::Int(started.0.as_millisecond()),
        Value::Int(i64::from(at_most)),
    ];
    let deleted = link.execute(sql, values).await;
    deleted.map_err(|error| Error::of("purging the ledger", error))
}

/// About how many rows there are, without counting them.
pub(super) async fn size(pool: &Pool) -> Result<u64, Error> {
    // SQLite numbers rows as they come, and the purge deletes the oldest, but for the few that were
    // never finished. PostgreSQL's statistics are what its last vacuum found; -1 before the first one.
    let sql = if pool.is_postgres() {
        "SELECT CASE WHEN reltuples < 10000 THEN (SELECT COUNT(*) FROM ledger) \
         ELSE reltuples::bigint END FROM pg_class WHERE oid = 'ledger'::regclass"
    } else {
        "SELECT COALESCE((SELECT MAX(rowid) FROM ledger) - COALESCE( \
         (SELECT rowid FROM ledger WHERE finished_at IS NOT NULL ORDER BY rowid LIMIT 1), \
         (SELECT MIN(rowid) FROM ledger)) + 1, 0)"
    };
    let rows = pool.fetch("measuring the ledger", sql, Vec::new()).await?;
    let size: i64 = rows.first().map_or(Ok(0), |row| row.get(0))?;
    Ok(u64::try_from(size).unwrap_or_default())
}

/// What became of one command.
pub(super) async fn find(pool: &Pool, key: &Key) -> Result<Option<Found>, Error> {
    let sql = "SELECT session, command_id, fingerprint, owner, started_at, finished_at, record, \
               starts, first_started_at FROM ledger WHERE session = $1 AND command_id = $2";
    let rows = pool
        .fetch("reading the ledger", sql, key_values(key).into())
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (_, row) = Row::read(row)?;
    Ok(Some(row.record()?.map_or(Found::Started, Found::Done)))
}
