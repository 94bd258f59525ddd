//! Lanes in which commands rest: what has to survive the worker for a group's order to hold.
//!
//! A lane is here from the first deferral until the last resting command is done. Who may go when is
//! the worker's business.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Error;
use super::commit::{Needs, Queue};
use super::db::{Link, Pool, Row, Value};
use super::sql;
use crate::contract::{GroupId, SessionName, Timestamp};

/// Whose order it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    /// The session whose commands they are.
    pub session: SessionName,
    /// The group they are about.
    pub group: GroupId,
}

/// Commands of a lane that rest, by their tickets `head..=tail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resting {
    /// The ticket that is next.
    pub head: u64,
    /// The ticket given out last.
    pub tail: u64,
    /// How long the next one rests; what follows it rests behind it, in the same queue.
    pub tier: Duration,
    /// When the next one should be back.
    pub due: Timestamp,
}

/// The way to the lanes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lanes {
    queue: Queue,
    pool: Pool,
}

impl Lanes {
    pub(super) const fn new(queue: Queue, pool: Pool) -> Self {
        Self { queue, pool }
    }

    /// Every lane in which something rests.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn load(&self) -> Result<Vec<(LaneKey, Resting)>, Error> {
        let sql = "SELECT session, group_id, head, tail, tier_ms, due_at FROM lanes";
        let rows = self.pool.fetch("reading lanes", sql, Vec::new()).await?;
        rows.iter().map(read).collect()
    }

    /// Records how a lane stands; `None` once nothing rests in it.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn put(&self, key: LaneKey, resting: Option<Resting>) -> Result<(), Error> {
        self.queue
            .submit(Needs::default(), move |rows| {
                rows.lanes.0.insert(key.clone(), resting);
                Ok(())
            })
            .await
    }
}

/// The lanes that a batch changes; the last word on each counts.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<LaneKey, Option<Resting>>);

impl Rows {
    pub(super) async fn write(self, link: &mut Link) -> Result<(), Error> {
        let (mut resting, mut gone) = (Vec::new(), Vec::new());
        for (key, row) in self.0 {
            match row {
                Some(row) => resting.push(values(&key, &row)),
                None => gone.push(key_values(&key)),
            }
        }
        for (count, values) in sql::row_lists(resting) {
            let sql = format!(
                "INSERT INTO lanes (session, group_id, head, tail, tier_ms, due_at) VALUES {} \
                 ON CONFLICT (session, group_id) DO UPDATE SET head = excluded.head, \
                 tail = excluded.tail, tier_ms = excluded.tier_ms, due_at = excluded.due_at",
                link.placeholders(count, 6)
            );
            run(link, sql, values).await?;
        }
        for (count, values) in sql::key_lists(&gone) {
            let keys = link.placeholders(count, 2);
            let sql = format!("DELETE FROM lanes WHERE (session, group_id) IN (VALUES {keys})");
            run(link, sql, values).await?;
        }
        Ok(())
    }
}

async fn run(link: &mut Link, sql: String, values: Vec<Value>) -> Result<(), Error> {
    let done = link.execute(sql, values).await;
    done.map(drop)
        .map_err(|error| Error::of("writing lanes", error))
}

fn key_values(key: &LaneKey) -> [Value; 2] {
    [
        Value::from(key.session.as_str()),
        Value::from(key.group.as_str()),
    ]
}

fn values(key: &LaneKey, row: &Resting) -> [Value; 6] {
    let [session, group] = key_values(key);
    let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let tier = i64::try_from(row.tier.as_millis()).unwrap_or(i64::MAX);
    let due = row.due.0.as_millisecond();
    [
        session,
        group,
        int(row.head),
        int(row.tail),
        Value::Int(tier),
        Value::Int(due),
    ]
}

fn read(row: &Row) -> Result<(LaneKey, Resting), Error> {
    let number =
        |column| Ok::<_, Error>(u64::try_from(row.get::<i64>(column)?).unwrap_or_default());
    let corrupt = |error| Error::corrupt("lanes", serde::de::Error::custom(error));
    let key = LaneKey {
        session: row.get::<String>(0)?.parse().map_err(corrupt)?,
        group: row.get::<String>(1)?.parse().map_err(corrupt)?,
    };
    let due = jiff::Timestamp::from_millisecond(row.get(5)?).unwrap_or_default();
    let resting = Resting {
        head: number(2)?,
        tail: number(3)?,
        tier: Duration::from_millis(number(4)?),
        due: Timestamp(due),
    };
    Ok((key, resting))
}
