//! The waits between attempts while a command keeps its lane.
//!
//! Only this module uses `backoff`, which is unmaintained, and only its policy: pure arithmetic over an
//! interval. The loop around it is ours.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// The waits between attempts within the lane.
#[derive(Debug)]
pub(super) struct ShortRetries {
    policy: ExponentialBackoff,
    /// The remaining time for waits.
    budget: Duration,
}

impl ShortRetries {
    /// Waits that begin with `first` and add up to at most `within`.
    pub(super) fn new(first: Duration, within: Duration) -> Self {
        let policy = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_multiplier(2.0)
            .with_randomization_factor(0.3)
            // The budget ends it; backoff's own limit of 15 minutes must not.
            .with_max_elapsed_time(None)
            .build();
        Self {
            policy,
            budget: within,
        }
    }

    /// The wait before the next attempt; none once the command is to be deferred.
    ///
    /// A wait that the engine requests is never shortened.
    pub(super) fn next(&mut self, requested: Option<Duration>) -> Option<Duration> {
        let wait = self
            .policy
            .next_backoff()?
            .max(requested.unwrap_or_default());
        self.budget = self.budget.checked_sub(wait)?;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retries(first: u64, within: u64) -> ShortRetries {
        let millis = Duration::from_millis;
        ShortRetries::new(millis(first), millis(within))
    }

    proptest! {
        #[test]
        fn all_waits_together_stay_within_the_budget(first in 1_u64..500, within in 0_u64..5_000) {
            let mut retries = retries(first, within);
            let mut total = Duration::ZERO;
            while let Some(wait) = retries.next(None) {
                total += wait;
            }
            prop_assert!(total <= Duration::from_millis(within));
        }

        #[test]
        fn a_requested_wait_is_never_shortened(requested in 0_u64..10_000) {
            let requested = Duration::from_millis(requested);
            if let Some(wait) = retries(100, 20_000).next(Some(requested)) {
                prop_assert!(wait >= requested);
            }
        }
    }

    #[test]
    fn a_requested_wait_longer_than_the_budget_means_deferral() {
        assert_eq!(retries(100, 1_000).next(Some(Duration::from_secs(5))), None);
    }
}
