//! The progress of a change of the number of shards, so that it can resume after an interruption.
//!
//! `reshard` decides what each phase does.

use super::Error;
use super::db::{Pool, Value};

/// The next phase of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Collect what is in the shards.
    Collect,
    /// Declare the shards again.
    LayOut,
    /// Publish the collected and the held messages to them.
    Fill,
    /// Open them, and publish the remaining messages.
    Open,
}

/// A change in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The number of shards before.
    pub from: u16,
    /// The number of shards after.
    pub to: u16,
    /// The next phase.
    pub phase: Phase,
    /// The first ticket of a lane that has none yet; higher than any before the change.
    pub ticket: u64,
}

/// A handle to the table of changes, one per topology prefix; cheap to clone.
#[derive(Debug, Clone)]
pub struct Resharding {
    pool: Pool,
}

impl Resharding {
    pub(super) const fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Begins a change, unless one is in progress; returns the one in progress, with its own ticket.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn begin(
        &self,
        prefix: &str,
        from: u16,
        to: u16,
        ticket: u64,
    ) -> Result<Change, Error> {
        let doing = "beginning to change the shards";
        let values = vec![
            Value::from(prefix),
            Value::Int(from.into()),
            Value::Int(to.into()),
            Value::Int(i64::try_from(ticket).unwrap_or(i64::MAX)),
        ];
        let sql = "INSERT INTO resharding (prefix, shards_from, shards_to, phase, ticket) \
                   VALUES ($1, $2, $3, 0, $4) ON CONFLICT (prefix) DO NOTHING";
        self.pool.execute(doing, sql, values).await?;
        let sql = "SELECT shards_from, shards_to, phase, ticket FROM resharding WHERE prefix = $1";
        let rows = self
            .pool
            .fetch(doing, sql, vec![Value::from(prefix)])
            .await?;
        let Some(row) = rows.first() else {
            return Ok(Change {
                from,
                to,
                phase: Phase::Collect,
                ticket,
            });
        };
        let count = |column| {
            let count: i64 = row.get(column)?;
            Ok::<_, Error>(u16::try_from(count).unwrap_or_default())
        };
        Ok(Change {
            from: count(0)?,
            to: count(1)?,
            phase: match row.get::<i64>(2)? {
                0 => Phase::Collect,
                1 => Phase::LayOut,
                2 => Phase::Fill,
                _ => Phase::Open,
            },
            ticket: u64::try_from(row.get::<i64>(3)?).unwrap_or_default(),
        })
    }

    /// Records that all phases before this one are done; the phase never decreases.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn enter(&self, prefix: &str, phase: Phase) -> Result<(), Error> {
        let number = match phase {
            Phase::Collect => 0,
            Phase::LayOut => 1,
            Phase::Fill => 2,
            Phase::Open => 3,
        };
        let sql = "UPDATE resharding SET phase = $2 WHERE prefix = $1 AND phase < $2";
        let values = vec![Value::from(prefix), Value::Int(number)];
        let doing = "changing the shards";
        self.pool.execute(doing, sql, values).await.map(drop)
    }

    /// Records that no change is in progress.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn end(&self, prefix: &str) -> Result<(), Error> {
        let sql = "DELETE FROM resharding WHERE prefix = $1";
        let doing = "ending the change of the shards";
        let values = vec![Value::from(prefix)];
        self.pool.execute(doing, sql, values).await.map(drop)
    }
}
