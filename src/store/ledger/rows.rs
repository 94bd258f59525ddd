//! The ledger's table.

use std::sync::Arc;

use super::{CommandState, Fingerprint, Key, PurgeLimits, Record, Starts};
use crate::contract::Timestamp;
use crate::store::Error;
use crate::store::batch::{Table, TableRow, WriteBatcher, select};
use crate::store::db::{self, Pool, Value};

const TABLE: &str = "ledger";

/// The commands of a batch.
pub(super) type Rows = Table<Row>;

/// One command.
#[derive(Debug, Clone)]
pub(in crate::store) struct Row {
    pub(super) fingerprint: Fingerprint,
    pub(super) owner: Arc<str>,
    /// The last time.
    started_at: i64,
    /// How often it was started with an outcome that is unknown, and when first.
    starts: i64,
    first_started_at: i64,
    /// When it was finished and the record as JSON; none while it is `started`.
    finished: Option<(i64, String)>,
}

impl Row {
    pub(super) const fn started(fingerprint: Fingerprint, owner: Arc<str>, now: i64) -> Self {
        Self {
            fingerprint,
            owner,
            started_at: now,
            starts: 1,
            first_started_at: now,
            finished: None,
        }
    }

    /// The same command with another owner.
    pub(super) fn owned_by(self, owner: Arc<str>) -> Self {
        Self { owner, ..self }
    }

    /// The same command, started once more.
    pub(super) fn started_again(self, started_at: i64) -> Self {
        Self {
            started_at,
            starts: self.starts + 1,
            ..self
        }
    }

    /// The same command, whose last start did nothing; none if there was no other.
    pub(super) fn started_once_less(self) -> Option<Self> {
        let starts = self.starts - 1;
        (starts > 0).then_some(Self { starts, ..self })
    }

    /// The same command, done.
    pub(super) fn done(mut self, record: &Record) -> Result<Self, Error> {
        let text = serde_json::to_string(record).map_err(|e| Error::corrupt(TABLE, e))?;
        self.finished = Some((record.at.0.as_millisecond(), text));
        Ok(self)
    }

    /// The same command, done at another time, if it is done.
    pub(super) fn finished_at(mut self, at: i64) -> Self {
        if let Some((finished, _)) = &mut self.finished {
            *finished = at;
        }
        self
    }

    /// The record, where the command is done.
    pub(super) fn record(&self) -> Result<Option<Record>, Error> {
        let Some((_, text)) = &self.finished else {
            return Ok(None);
        };
        serde_json::from_str(text)
            .map(Some)
            .map_err(|e| Error::corrupt(TABLE, e))
    }

    pub(super) fn times_started(&self) -> Starts {
        let at = |at| Timestamp(jiff::Timestamp::from_millisecond(at).unwrap_or_default());
        Starts {
            first: at(self.first_started_at),
            last: at(self.started_at),
            times: u32::try_from(self.starts).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn is_started_by(&self, owner: &str) -> bool {
        self.finished.is_none() && *self.owner == *owner
    }
}

impl TableRow for Row {
    type Key = Key;

    const TABLE: &'static str = TABLE;
    const KEY: &'static [&'static str] = &["session", "command_id"];
    const COLUMNS: &'static [&'static str] = &[
        "fingerprint",
        "state",
        "owner",
        "started_at",
        "finished_at",
        "record",
        "starts",
        "first_started_at",
    ];
    const READING: &'static str = "reading the ledger";
    const WRITING: &'static str = "writing the ledger";

    fn key_values(key: &Key) -> Vec<Value> {
        key.values()
    }

    fn values(self) -> Result<Vec<Value>, Error> {
        let state = if self.finished.is_some() {
            "done"
        } else {
            "started"
        };
        let (finished_at, record) = self.finished.unzip();
        Ok(vec![
            Value::Bytes(self.fingerprint.to_vec()),
            Value::from(state),
            Value::Shared(self.owner),
            Value::Int(self.started_at),
            Value::MaybeInt(finished_at),
            Value::MaybeText(record),
            Value::Int(self.starts),
            Value::Int(self.first_started_at),
        ])
    }

    fn read(row: &db::Row) -> Result<(Key, Self), Error> {
        let fingerprint: Vec<u8> = row.get(2)?;
        let started_at = row.get(5)?;
        let finished: Option<i64> = row.get(6)?;
        let record: Option<String> = row.get(7)?;
        let first: Option<i64> = row.get(9)?;
        let command = Self {
            // Never longer or shorter; were it, it would equal no command's.
            fingerprint: fingerprint.try_into().unwrap_or_default(),
            owner: row.get::<String>(4)?.into(),
            started_at,
            starts: row.get(8)?,
            first_started_at: first.unwrap_or(started_at),
            finished: finished.zip(record),
        };
        Ok((Key::read(row, TABLE)?, command))
    }
}

impl Key {
    /// The values of the columns `session` and `command_id`.
    pub(in crate::store) fn values(&self) -> Vec<Value> {
        vec![
            Value::from(self.session.shared()),
            Value::from(self.command_id.shared()),
        ]
    }

    /// Reads them, as the first two columns.
    pub(in crate::store) fn read(row: &db::Row, table: &'static str) -> Result<Self, Error> {
        Ok(Self {
            session: row.parse(0, table)?,
            command_id: row.parse(1, table)?,
        })
    }
}

/// Deletes up to `at_most` rows that are older than `limits`, the oldest first.
pub(super) async fn purge(
    batcher: &WriteBatcher,
    pool: &Pool,
    limits: PurgeLimits,
    at_most: u32,
) -> Result<u64, Error> {
    let lock = if pool.is_postgres() {
        // Not the rows that another worker has locked.
        " FOR UPDATE SKIP LOCKED"
    } else {
        ""
    };
    // The first condition is the index's; few rows that meet it are `started`.
    let sql = format!(
        "DELETE FROM ledger WHERE (session, command_id) IN (SELECT session, command_id \
         FROM ledger WHERE COALESCE(finished_at, started_at) < $1 \
         AND (finished_at IS NOT NULL OR started_at < $2) \
         ORDER BY COALESCE(finished_at, started_at) LIMIT $3{lock})"
    );
    let PurgeLimits { finished, started } = limits;
    let values = vec![
        Value::Int(finished.0.as_millisecond()),
        Value::Int(started.0.as_millisecond()),
        Value::Int(i64::from(at_most)),
    ];
    batcher.execute("purging the ledger", sql, values).await
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
pub(super) async fn find(pool: &Pool, key: &Key) -> Result<Option<CommandState>, Error> {
    let sql = select::<Row>("WHERE session = $1 AND command_id = $2");
    let rows = pool.fetch(Row::READING, sql, key.values()).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (_, row) = Row::read(row)?;
    Ok(Some(
        row.record()?
            .map_or(CommandState::Started, CommandState::Done),
    ))
}
