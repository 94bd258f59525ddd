//! How far a change of the number of shards has come, so that it can go on after it was cut off.
//!
//! What is done in each phase is `reshard`'s business.

use super::Error;
use super::db::{Pool, Value};

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Collect what is in the shards.
    Collect,
    /// Make the shards anew.
    LayOut,
    /// Fill them with what was collected and held.
    Fill,
    /// Open them, and send the rest after.
    Open,
}

/// A change that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// How many shards there were.
    pub from: u16,
    /// How many there will be.
    pub to: u16,
    /// What is to be done next.
    pub phase: Phase,
    /// The first ticket of a lane that has none yet; higher than any before the change.
    pub ticket: u64,
}

/// The table of such changes, one for each topology prefix; cheap to clone.
#[derive(Debug, Clone)]
pub struct Resharding {
    pool: Pool,
}

impl Resharding {
    pub(super) const fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Begins a change, unless one is under way; hands back the one that is, with its own ticket.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
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

    /// Records that everything before a phase is done; never goes back.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
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

    /// Records that no change is under way.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn end(&self, prefix: &str) -> Result<(), Error> {
        let sql = "DELETE FROM resharding WHERE prefix = $1";
        let doing = "ending the change of the shards";
        let values = vec![Value::from(prefix)];
        self.pool.execute(doing, sql, values).await.map(drop)
    }
}
