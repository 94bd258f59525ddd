//! What is in hand: how many commands, and since when the oldest one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::observability::events;

/// How often the age of the oldest is told.
const EVERY: Duration = Duration::from_secs(1);

/// Commands in hand, by arrival; clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight {
    // A std mutex: held for a set operation and never across an await.
    since: Arc<Mutex<Arrivals>>,
}

#[derive(Debug, Default)]
struct Arrivals {
    open: BTreeSet<(Instant, u64)>,
    next: u64,
}

/// A command in hand, until dropped.
#[derive(Debug)]
pub(super) struct Aboard {
    all: InFlight,
    arrival: (Instant, u64),
}

impl InFlight {
    /// Counts one that has just arrived.
    pub(super) fn board(&self) -> Aboard {
        let mut arrivals = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = (Instant::now(), arrivals.next);
        arrivals.next += 1;
        arrivals.open.insert(arrival);
        drop(arrivals);
        events::command_arrived();
        Aboard {
            all: self.clone(),
            arrival,
        }
    }

    /// For how long the oldest has been in hand.
    fn oldest(&self) -> Duration {
        let arrivals = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = arrivals.open.first();
        oldest.map_or(Duration::ZERO, |(since, _)| since.elapsed())
    }

    /// Tells now and then how old the oldest is; never ends.
    pub(super) async fn watch(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            events::oldest_in_flight(self.oldest());
        }
    }
}

impl Aboard {
    /// For how long it has been in hand.
    pub(super) fn age(&self) -> Duration {
        self.arrival.0.elapsed()
    }
}

impl Drop for Aboard {
    fn drop(&mut self) {
        let mut arrivals = self
            .all
            .since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
        let first = all.board();
        std::thread::sleep(Duration::from_millis(20));
        let second = all.board();
        assert!(all.oldest() >= Duration::from_millis(20));
        let younger = second.age();
        drop(first);
        assert!(all.oldest() >= younger);
        assert!(all.oldest() < second.age() + Duration::from_millis(1));
        drop(second);
        assert_eq!(all.oldest(), Duration::ZERO);
    }
}
