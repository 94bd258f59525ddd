//! Which workers are alive, so that a command left behind by a dead one can be told from a command
//! that another one is executing.
//!
//! Each worker writes the time every [`BEAT`]. One whose time has not changed for ten seconds, by the watch
//! of whoever looks, is dead: the clocks of two machines are never compared, since one that is wrong by
//! minutes would have a living worker's command begun once more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// The latest beat of each worker that was asked about, and since when it has been the latest.
#[derive(Debug, Clone, Default)]
pub(super) struct Beats {
    // A std mutex: held for a look and never across an await.
    latest: Arc<Mutex<BTreeMap<String, (i64, Instant)>>>,
}

impl Beats {
    /// For how long a worker has been silent, as far as is known here, if this is its latest beat.
    fn silence(&self, worker: &str, beat: i64, now: Instant) -> Duration {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        // Whose row is gone by now is not asked about any more.
        latest.retain(|_, (_, since)| now.saturating_duration_since(*since) < FORGOTTEN);
        let known = latest.entry(worker.to_owned()).or_insert((beat, now));
        if known.0 != beat {
            *known = (beat, now);
        }
        now.saturating_duration_since(known.1)
    }
}

/// The table of workers, and this one's place in it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Workers {
    pool: Pool,
    clock: Arc<dyn Clock>,
    beats: Beats,
    me: Arc<str>,
}

impl Workers {
    pub(super) fn new(pool: Pool, clock: Arc<dyn Clock>, beats: Beats, me: Arc<str>) -> Self {
        Self {
            pool,
            clock,
            beats,
            me,
        }
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
        let silence = self.beats.silence(worker, row.get(0)?, Instant::now());
        Ok(silence < SILENCE)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_silent_while_its_beat_stays_the_same_whatever_its_clock_says() {
        let (beats, begun) = (Beats::default(), Instant::now());
        let silence = |beat: i64, after: u64| {
            let now = begun + Duration::from_secs(after);
            beats.silence("somebody", beat, now).as_secs()
        };
        // Ten minutes behind, or ahead, or set back meanwhile: what counts is that it goes on.
        assert_eq!(silence(1_000, 0), 0);
        assert_eq!(silence(1_000, 2), 2);
        assert_eq!(silence(601_000, 3), 0);
        assert_eq!(silence(5_000, 5), 0);
        assert_eq!(silence(5_000, 15), 10);
        let now = begun + Duration::from_secs(15);
        assert_eq!(beats.silence("another", 5_000, now), Duration::ZERO);
    }
}
