//! Commands in flight: how many, how old the oldest one is, and whether one hangs.
//!
//! A command may wait long for its turn, the store or the broker; its time in the executor is bounded by
//! deadlines. A command that exceeds all of them by far hangs because of a bug: then liveness fails, so
//! that the process is restarted and the broker redelivers the command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::observability::events;

/// The interval of publishing the age of the oldest as a metric.
const EVERY: Duration = Duration::from_secs(1);

/// Commands in flight, by arrival; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight {
    // A std mutex: held for a set operation and never across an await.
    since: Arc<Mutex<Arrivals>>,
}

#[derive(Debug, Default)]
struct Arrivals {
    open: BTreeSet<(Instant, u64)>,
    /// Those in the executor, by their number, and since when.
    executing: BTreeMap<u64, Instant>,
    next: u64,
}

/// A command in the executor, until dropped.
#[derive(Debug)]
pub(super) struct Executing<'a>(&'a InFlightGuard);

/// A command in flight, until dropped.
#[derive(Debug)]
pub(super) struct InFlightGuard {
    all: InFlight,
    arrival: (Instant, u64),
}

impl InFlight {
    /// Adds a command that has just arrived.
    pub(super) fn track(&self) -> InFlightGuard {
        let mut arrivals = self.since.lock();
        let arrival = (Instant::now(), arrivals.next);
        arrivals.next += 1;
        arrivals.open.insert(arrival);
        drop(arrivals);
        events::command_arrived();
        InFlightGuard {
            all: self.clone(),
            arrival,
        }
    }

    /// The age of the oldest.
    fn oldest(&self) -> Duration {
        let arrivals = self.since.lock();
        let oldest = arrivals.open.first();
        oldest.map_or(Duration::ZERO, |(since, _)| since.elapsed())
    }

    /// The age of the longest running execution.
    fn longest_execution(&self) -> Duration {
        let arrivals = self.since.lock();
        let first = arrivals.executing.values().min();
        first.map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Periodically reports the age of the oldest, and in `moving` whether no execution has exceeded
    /// `limit`; never ends.
    pub(super) async fn watch(self, limit: Duration, moving: watch::Sender<bool>) {
        loop {
            tokio::time::sleep(EVERY).await;
            events::oldest_in_flight(self.oldest());
            let is_moving = self.longest_execution() < limit;
            let changed = |before: &mut bool| std::mem::replace(before, is_moving) != is_moving;
            if moving.send_if_modified(changed) && !is_moving {
                events::command_hangs(limit);
            }
        }
    }
}

impl InFlightGuard {
    /// Its age.
    pub(super) fn age(&self) -> Duration {
        self.arrival.0.elapsed()
    }

    /// Marks it as being in the executor from now on.
    pub(super) fn execute(&self) -> Executing<'_> {
        let mut arrivals = self.arrivals();
        arrivals.executing.insert(self.arrival.1, Instant::now());
        drop(arrivals);
        Executing(self)
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.all.since.lock()
    }
}

impl Drop for Executing<'_> {
    fn drop(&mut self) {
        let Self(guard) = self;
        guard.arrivals().executing.remove(&guard.arrival.1);
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut arrivals = self.arrivals();
        arrivals.open.remove(&self.arrival);
        drop(arrivals);
        events::command_left();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_until_it_is_done() {
        let all = InFlight::default();
        assert_eq!(all.oldest(), Duration::ZERO);
        let first = all.track();
        std::thread::sleep(Duration::from_millis(20));
        let second = all.track();
        assert!(all.oldest() >= Duration::from_millis(20));
        let younger = second.age();
        drop(first);
        assert!(all.oldest() >= younger);
        assert!(all.oldest() < second.age() + Duration::from_millis(1));
        drop(second);
        assert_eq!(all.oldest(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_hangs_in_the_executor_is_noticed_until_it_is_gone() {
        let all = InFlight::default();
        let (moving, mut is_moving) = watch::channel(true);
        let limit = Duration::from_millis(40);
        let watching = all.clone().watch(limit, moving);
        let scene = async {
            let waits = all.track();
            let hangs = all.track();
            let executing = hangs.execute();
            // By the real clock, which the paused one does not move.
            std::thread::sleep(limit);
            assert!(!*is_moving.wait_for(|it| !it).await.unwrap());
            drop(executing);
            // The other one may wait without a limit.
            assert!(*is_moving.wait_for(|it| *it).await.unwrap());
            drop(waits);
        };
        tokio::select! {
            () = watching => {}
            () = scene => {}
        }
    }
}
