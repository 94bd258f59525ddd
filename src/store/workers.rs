//! The heartbeats of the workers: they distinguish a command that a dead worker left behind from one that a live
//! worker is executing.
//!
//! Each worker writes the time every [`HEARTBEAT_INTERVAL`]. A worker whose time has not changed for ten seconds, by
//! the clock of the reader, is dead. The clocks of two machines are never compared: one that is wrong by minutes
//! would cause a live worker's command to be started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use super::Error;
use super::db::{Pool, Value};
use crate::clock::Clock;

/// How often a worker writes its heartbeat.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// A worker without a heartbeat for this long is dead.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// Rows of workers without a heartbeat for this long are removed.
const PURGE_AFTER: Duration = Duration::from_hours(1);

/// The latest heartbeat of each worker that was looked up, and when it was first seen here.
#[derive(Debug, Clone, Default)]
pub(super) struct Heartbeats {
    // A std mutex: held for a lookup and never across an await.
    latest: Arc<Mutex<BTreeMap<String, (i64, Instant)>>>,
}

impl Heartbeats {
    /// The time since a worker's heartbeat changed, as far as is known here, if this is its latest.
    fn silence(&self, worker: &str, heartbeat: i64, now: Instant) -> Duration {
        let mut latest = self.latest.lock();
        // Workers whose rows have been removed by now are not looked up again.
        latest.retain(|_, (_, since)| now.saturating_duration_since(*since) < PURGE_AFTER);
        let known = latest.entry(worker.to_owned()).or_insert((heartbeat, now));
        if known.0 != heartbeat {
            *known = (heartbeat, now);
        }
        now.saturating_duration_since(known.1)
    }
}

/// A handle to the table of workers; cheap to clone.
#[derive(Debug, Clone)]
pub struct Workers {
    pool: Pool,
    clock: Arc<dyn Clock>,
    heartbeats: Heartbeats,
    me: Arc<str>,
}

impl Workers {
    pub(super) fn new(
        pool: Pool,
        clock: Arc<dyn Clock>,
        heartbeats: Heartbeats,
        me: Arc<str>,
    ) -> Self {
        Self {
            pool,
            clock,
            heartbeats,
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

    /// Writes this worker's heartbeat; to be called every [`HEARTBEAT_INTERVAL`].
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn heartbeat(&self) -> Result<(), Error> {
        let now = self.clock.now().as_millisecond();
        self.pool
            .execute(
                "writing this worker's heartbeat",
                "INSERT INTO workers (id, beat_at) VALUES ($1, $2) \
                 ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at",
                vec![Value::from(self.me()), Value::Int(now)],
            )
            .await?;
        let forgotten = now.saturating_sub(millis(PURGE_AFTER));
        self.pool
            .execute(
                "removing dead workers",
                "DELETE FROM workers WHERE beat_at < $1",
                vec![Value::Int(forgotten)],
            )
            .await
            .map(drop)
    }

    /// Removes this worker: other workers can take over at once what it left behind.
    ///
    /// # Errors
    /// When the store cannot be used; the others then wait until it counts as dead.
    pub async fn deregister(&self) -> Result<(), Error> {
        self.pool
            .execute(
                "removing this worker",
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
                "reading a worker's heartbeat",
                "SELECT beat_at FROM workers WHERE id = $1",
                vec![Value::from(worker)],
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(false);
        };
        let silence = self.heartbeats.silence(worker, row.get(0)?, Instant::now());
        Ok(silence < DEAD_AFTER)
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
        let (heartbeats, begun) = (Heartbeats::default(), Instant::now());
        let silence = |beat: i64, after: u64| {
            let now = begun + Duration::from_secs(after);
            heartbeats.silence("somebody", beat, now).as_secs()
        };
        // Ten minutes behind, or ahead, or set back meanwhile: what counts is that it goes on.
        assert_eq!(silence(1_000, 0), 0);
        assert_eq!(silence(1_000, 2), 2);
        assert_eq!(silence(601_000, 3), 0);
        assert_eq!(silence(5_000, 5), 0);
        assert_eq!(silence(5_000, 15), 10);
        let now = begun + Duration::from_secs(15);
        assert_eq!(heartbeats.silence("another", 5_000, now), Duration::ZERO);
    }
}
