//! Which workers are alive, so that a command left behind by a dead one can be told from a command
//! that another one is executing.
//!
//! Each worker writes the time every [`BEAT`]; one that has been silent for ten seconds is dead. The
//! clocks of the machines have to agree to within a few seconds.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::Error;
use super::db::{Pool, Value};
use crate::clock::Clock;

/// How often a worker says that it is alive.
pub const BEAT: Duration = Duration::from_secs(2);

/// After so long a silence it is not.
const SILENCE: Duration = Duration::from_secs(10);

/// Rows of workers that have been silent for so long are removed.
const FORGOTTEN: Duration = Duration::from_hours(1);

/// The table of workers, and this one's place in it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Workers {
    pool: Pool,
    clock: Arc<dyn Clock>,
    me: Arc<str>,
}

impl Workers {
    pub(super) fn new(pool: Pool, clock: Arc<dyn Clock>, me: Arc<str>) -> Self {
        Self { pool, clock, me }
    }

    /// A name for a worker that is just starting; no other has or had it.
    pub(super) fn name() -> Arc<str> {
        Uuid::new_v4().to_string().into()
    }

    /// This worker's name.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// Says that this worker is alive; to be called every [`BEAT`].
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn beat(&self) -> Result<(), Error> {
        let now = self.clock.now().as_millisecond();
        self.pool
            .execute(
                "saying that this worker is alive",
                "INSERT INTO workers (id, beat_at) VALUES ($1, $2) \
                 ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at",
                vec![Value::from(self.me()), Value::Int(now)],
            )
            .await?;
        let forgotten = now.saturating_sub(millis(FORGOTTEN));
        self.pool
            .execute(
                "forgetting dead workers",
                "DELETE FROM workers WHERE beat_at < $1",
                vec![Value::Int(forgotten)],
            )
            .await
            .map(drop)
    }

    /// Says that this worker has ended: what it left behind can be taken over at once.
    ///
    /// # Errors
    /// When the store cannot be used; the others then find out by its silence.
    pub async fn leave(&self) -> Result<(), Error> {
        self.pool
            .execute(
                "saying that this worker has ended",
                "DELETE FROM workers WHERE id = $1",
                vec![Value::from(self.me())],
            )
            .await
            .map(drop)
    }

    /// Whether a worker is alive.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn is_alive(&self, worker: &str) -> Result<bool, Error> {
        let rows = self
            .pool
            .fetch(
                "asking whether a worker is alive",
                "SELECT beat_at FROM workers WHERE id = $1",
                vec![Value::from(worker)],
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        let silent = self.clock.now().as_millisecond() - row.get::<i64>(0)?;
        Ok(silent < millis(SILENCE))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
