//! Outages of the store: told once and then now and then, and waited for without pressing it.
//!
//! The writer and the pool report how each transaction and each query went. Work that failed waits
//! here: while the store is down, one piece of it at a time tries again, and once that one got
//! through all go on. Reading and writing fail apart: a full disk or a database that is read-only
//! still answers questions.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{MutexGuard, watch};
use tokio::time::Instant;

use super::Error;
use crate::observability::events;

/// How long between two attempts while the store is down.
const REST: Duration = Duration::from_millis(500);

/// How long nothing more is said about an outage that was spoken of.
const SILENCE: Duration = Duration::from_secs(30);

/// A store that was back for less than this was not: a disk that is nearly full takes one change and
/// refuses the next.
const STEADY: Duration = Duration::from_secs(5);

/// What is done with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// What is known of the store's state.
#[derive(Debug)]
pub(super) struct Outages {
    // A std mutex: held for a few assignments and never across an await.
    known: Mutex<Known>,
    is_down: watch::Sender<bool>,
    line: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Known {
    reading: Option<Error>,
    writing: Option<Error>,
    /// When the outage began, or the last one.
    since: Instant,
    /// When the last one ended.
    back_at: Option<Instant>,
    /// How often something failed since then.
    failures: u64,
    /// When an outage was last spoken of.
    told_at: Option<Instant>,
    /// Somebody was told that it is down, and not yet that it is back.
    is_told: bool,
}

/// Leave to try whether the store is back; to be held while trying.
#[derive(Debug)]
pub struct Probe<'a>(#[expect(dead_code, reason = "held for its drop")] Option<MutexGuard<'a, ()>>);

impl Default for Outages {
    fn default() -> Self {
        let known = Known {
            reading: None,
            writing: None,
            since: Instant::now(),
            back_at: None,
            failures: 0,
            told_at: None,
            is_told: false,
        };
        Self {
            known: Mutex::new(known),
            is_down: watch::Sender::new(false),
            line: tokio::sync::Mutex::default(),
        }
    }
}

impl Outages {
    /// Takes note of how something went.
    pub(super) fn note<T>(&self, access: Access, outcome: &Result<T, Error>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(_) => known.went_well(access),
            Err(error) if error.is_outage() => known.failed(access, error),
            // The database answered, if not as wished.
            Err(_) => {}
        }
        let is_down = known.is_down();
        self.is_down.send_if_modified(|was| {
            let changed = *was != is_down;
            *was = is_down;
            changed
        });
    }

    /// Why the store cannot be written to, as far as is known.
    pub(super) fn of_writing(&self) -> Option<Error> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.writing.clone()
    }

    /// Waits, after a failure, until the store is back or it is the caller's turn to find out.
    ///
    /// # Cancellation
    /// Dropping the future gives the turn up.
    pub(super) async fn over(&self) -> Probe<'_> {
        // Even where others get through meanwhile: what fails alone must not try in a circle.
        tokio::time::sleep(REST).await;
        let mut is_down = self.is_down.subscribe();
        let turn = async {
            let turn = self.line.lock().await;
            tokio::time::sleep(REST).await;
            turn
        };
        // Each branch can be dropped: one only looks, the other leaves the line.
        tokio::select! {
            _ = is_down.wait_for(|is_down| !is_down) => Probe(None),
            turn = turn => Probe(Some(turn)),
        }
    }
}

impl Known {
    const fn is_down(&self) -> bool {
        self.reading.is_some() || self.writing.is_some()
    }

    fn failed(&mut self, access: Access, error: &Error) {
        events::store_failed(error);
        if !self.is_down() && self.back_at.is_none_or(|at| at.elapsed() >= STEADY) {
            self.since = Instant::now();
            self.failures = 0;
            self.told_at = None;
        }
        self.failures += 1;
        let known = match access {
            Access::Read => &mut self.reading,
            Access::Write => &mut self.writing,
        };
        *known = Some(error.clone());
        if self.told_at.is_none_or(|at| at.elapsed() >= SILENCE) {
            self.told_at = Some(Instant::now());
            self.is_told = true;
            events::store_unavailable(error, self.since.elapsed(), self.failures);
        }
    }

    fn went_well(&mut self, access: Access) {
        let was_down = self.is_down();
        self.reading = None;
        // A transaction reads before it writes; a query shows nothing about writing.
        if access == Access::Write {
            self.writing = None;
        }
        if !was_down || self.is_down() {
            return;
        }
        self.back_at = Some(Instant::now());
        if self.is_told {
            self.is_told = false;
            events::store_available_again(self.since.elapsed(), self.failures);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    fn down() -> Result<(), Error> {
        Err(Error::timed_out("testing"))
    }

    impl Outages {
        /// When it was last spoken of, and whether as being down.
        fn told(&self) -> (Option<Instant>, bool) {
            let known = self.known.lock().unwrap();
            (known.told_at, known.is_told)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_store_is_down_one_at_a_time_tries_and_then_all_go_on() {
        let outages = Arc::new(Outages::default());
        outages.note(Access::Write, &down());
        let begun = Instant::now();
        let tries = AtomicU32::new(0);
        let work = async || {
            loop {
                let _probe = outages.over().await;
                tries.fetch_add(1, Ordering::Relaxed);
                let is_back = begun.elapsed() > Duration::from_mins(1);
                let outcome = if is_back { Ok(()) } else { down() };
                outages.note(Access::Write, &outcome);
                if is_back {
                    break;
                }
            }
        };
        join_all((0..300).map(|_| work())).await;
        // Two a second for a minute, and then one for each.
        let tries = tries.into_inner();
        assert!((400..=425).contains(&tries), "{tries}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_spoken_of_at_once_then_seldom_and_its_end_once() {
        let outages = Outages::default();
        outages.note(Access::Write, &down());
        let (first, is_down) = outages.told();
        assert!(first.is_some() && is_down);
        for _ in 0..50 {
            tokio::time::advance(Duration::from_millis(500)).await;
            outages.note(Access::Write, &down());
        }
        assert_eq!(outages.told().0, first);
        tokio::time::advance(Duration::from_secs(10)).await;
        outages.note(Access::Write, &down());
        assert_ne!(outages.told().0, first);
        outages.note(Access::Write, &Ok(()));
        assert!(!outages.told().1);
        // Down again at once: not worth a line until it lasts.
        outages.note(Access::Write, &down());
        assert!(!outages.told().1);
        tokio::time::advance(SILENCE).await;
        outages.note(Access::Write, &down());
        assert!(outages.told().1);
        // Another one.
        outages.note(Access::Write, &Ok(()));
        tokio::time::advance(STEADY).await;
        outages.note(Access::Write, &down());
        assert!(outages.told().1);
    }

    #[test]
    fn a_store_that_can_only_be_read_is_down() {
        let outages = Outages::default();
        outages.note(Access::Read, &down());
        outages.note(Access::Write, &down());
        outages.note(Access::Read, &Ok(()));
        assert!(outages.of_writing().is_some() && *outages.is_down.borrow());
        outages.note(Access::Write, &Ok(()));
        assert!(outages.of_writing().is_none() && !*outages.is_down.borrow());
        // Nobody may read for a long time: what is written shows as much.
        outages.note(Access::Read, &down());
        assert!(*outages.is_down.borrow());
        outages.note(Access::Write, &Ok(()));
        assert!(!*outages.is_down.borrow());
    }

    #[test]
    fn a_refused_statement_says_nothing_about_the_store() {
        let outages = Outages::default();
        outages.note(Access::Write, &Err::<(), _>(Error::NotClaimed));
        assert!(!*outages.is_down.borrow());
    }
}
