//! Store outages: logged at once and then every 30 s; retried by one caller at a time.
//!
//! The writer and the pool report the outcome of each transaction and each query. Callers whose work failed wait
//! here: while the store is down, one caller at a time retries, and once that succeeds all continue. Reads and
//! writes fail separately: a full disk or a read-only database still answers queries.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{MutexGuard, watch};
use tokio::time::Instant;

use super::Error;
use crate::observability::events;

/// The pause before a retry while the store is down.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How often an outage is logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// A recovery shorter than this counts as the same outage: a disk that is nearly full accepts one write and
/// rejects the next.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// The kind of access to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Tracks the outages of one store.
#[derive(Debug)]
pub(super) struct Outages {
    // A std mutex: held for a few assignments and never across an await.
    state: Mutex<State>,
    is_down: watch::Sender<bool>,
    retry: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    reading: Option<Error>,
    writing: Option<Error>,
    /// When the current outage began, or the last one.
    since: Instant,
    /// When the last one ended.
    back_at: Option<Instant>,
    /// The number of failures since then.
    failures: u64,
    /// When an outage was last logged.
    logged_at: Option<Instant>,
    /// The outage was logged, and its end was not yet.
    is_logged: bool,
}

/// The permit to retry after an outage; held during the retry.
#[derive(Debug)]
pub struct RetryPermit<'a>(
    #[expect(dead_code, reason = "held for its drop")] Option<MutexGuard<'a, ()>>,
);

impl Default for Outages {
    fn default() -> Self {
        let state = State {
            reading: None,
            writing: None,
            since: Instant::now(),
            back_at: None,
            failures: 0,
            logged_at: None,
            is_logged: false,
        };
        Self {
            state: Mutex::new(state),
            is_down: watch::Sender::new(false),
            retry: tokio::sync::Mutex::default(),
        }
    }
}

impl Outages {
    /// Records the outcome of a transaction or a query.
    pub(super) fn note<T>(&self, access: Access, outcome: &Result<T, Error>) {
        let mut state = self.state.lock();
        match outcome {
            Ok(_) => state.succeeded(access),
            Err(error) if error.is_outage() => state.failed(access, error),
            // The database answered with a refusal.
            Err(_) => {}
        }
        let is_down = state.is_down();
        self.is_down.send_if_modified(|was| {
            let changed = *was != is_down;
            *was = is_down;
            changed
        });
    }

    /// Why writes fail, as far as is known.
    pub(super) fn write_failure(&self) -> Option<Error> {
        let state = self.state.lock();
        state.writing.clone()
    }

    /// Waits, after a failure, until the store has recovered or the caller gets the permit to retry.
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in the queue for the permit.
    pub(super) async fn wait_for_recovery(&self) -> RetryPermit<'_> {
        // Even if others succeed meanwhile: work that fails alone must not retry in a busy loop.
        tokio::time::sleep(RETRY_PAUSE).await;
        let mut is_down = self.is_down.subscribe();
        let permit = async {
            let permit = self.retry.lock().await;
            tokio::time::sleep(RETRY_PAUSE).await;
            permit
        };
        // Each branch can be dropped: one only reads, the other leaves the queue for the permit.
        tokio::select! {
            _ = is_down.wait_for(|is_down| !is_down) => RetryPermit(None),
            permit = permit => RetryPermit(Some(permit)),
        }
    }
}

impl State {
    const fn is_down(&self) -> bool {
        self.reading.is_some() || self.writing.is_some()
    }

    fn failed(&mut self, access: Access, error: &Error) {
        events::store_failed(error);
        if !self.is_down() && self.back_at.is_none_or(|at| at.elapsed() >= STABLE_AFTER) {
            self.since = Instant::now();
            self.failures = 0;
            self.logged_at = None;
        }
        self.failures += 1;
        let failure = match access {
            Access::Read => &mut self.reading,
            Access::Write => &mut self.writing,
        };
        *failure = Some(error.clone());
        if self.logged_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            self.logged_at = Some(Instant::now());
            self.is_logged = true;
            events::store_unavailable(error, self.since.elapsed(), self.failures);
        }
    }

    fn succeeded(&mut self, access: Access) {
        let was_down = self.is_down();
        self.reading = None;
        // A transaction reads before it writes; a query proves nothing about writes.
        if access == Access::Write {
            self.writing = None;
        }
        if !was_down || self.is_down() {
            return;
        }
        self.back_at = Some(Instant::now());
        if self.is_logged {
            self.is_logged = false;
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
        /// When the outage was last logged, and whether its end was not yet.
        fn logged(&self) -> (Option<Instant>, bool) {
            let state = self.state.lock();
            (state.logged_at, state.is_logged)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_store_is_down_one_caller_at_a_time_retries_and_then_all_continue() {
        let outages = Arc::new(Outages::default());
        outages.note(Access::Write, &down());
        let begun = Instant::now();
        let tries = AtomicU32::new(0);
        let work = async || {
            loop {
                let _permit = outages.wait_for_recovery().await;
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
    async fn an_outage_is_logged_at_once_then_rarely_and_its_end_once() {
        let outages = Outages::default();
        outages.note(Access::Write, &down());
        let (first, is_down) = outages.logged();
        assert!(first.is_some() && is_down);
        for _ in 0..50 {
            tokio::time::advance(Duration::from_millis(500)).await;
            outages.note(Access::Write, &down());
        }
        assert_eq!(outages.logged().0, first);
        tokio::time::advance(Duration::from_secs(10)).await;
        outages.note(Access::Write, &down());
        assert_ne!(outages.logged().0, first);
        outages.note(Access::Write, &Ok(()));
        assert!(!outages.logged().1);
        // Down again at once: logged only if it lasts.
        outages.note(Access::Write, &down());
        assert!(!outages.logged().1);
        tokio::time::advance(LOG_INTERVAL).await;
        outages.note(Access::Write, &down());
        assert!(outages.logged().1);
        // Another one.
        outages.note(Access::Write, &Ok(()));
        tokio::time::advance(STABLE_AFTER).await;
        outages.note(Access::Write, &down());
        assert!(outages.logged().1);
    }

    #[test]
    fn a_store_that_can_only_be_read_is_down() {
        let outages = Outages::default();
        outages.note(Access::Read, &down());
        outages.note(Access::Write, &down());
        outages.note(Access::Read, &Ok(()));
        assert!(outages.write_failure().is_some() && *outages.is_down.borrow());
        outages.note(Access::Write, &Ok(()));
        assert!(outages.write_failure().is_none() && !*outages.is_down.borrow());
        // There may be no reads for a long time: a write proves that reads work.
        outages.note(Access::Read, &down());
        assert!(*outages.is_down.borrow());
        outages.note(Access::Write, &Ok(()));
        assert!(!*outages.is_down.borrow());
    }

    #[test]
    fn a_refused_statement_is_no_outage() {
        let outages = Outages::default();
        outages.note(Access::Write, &Err::<(), _>(Error::NotClaimed));
        assert!(!*outages.is_down.borrow());
    }
}
