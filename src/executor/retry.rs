//! When to try again: within the lane at first, then by deferring the command to a delay tier.
//!
//! This is the one place that uses `backoff`, which is unmaintained, and of it only the policy:
//! pure arithmetic over an interval. The loop around it is ours.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// The waits between attempts within the lane.
#[derive(Debug)]
pub(super) struct ShortRetries {
    policy: ExponentialBackoff,
    /// What is left to be waited.
    budget: Duration,
}

impl ShortRetries {
    /// Waits that begin with `first` and are no longer than `within`, all together.
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

    /// How long to wait before the next attempt; none once the command is to be deferred.
    ///
    /// What the engine asks for is never cut short.
    pub(super) fn next(&mut self, wish: Option<Duration>) -> Option<Duration> {
        let wait = self.policy.next_backoff()?.max(wish.unwrap_or_default());
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
        fn the_engines_wish_is_never_cut_short(wish in 0_u64..10_000) {
            let wish = Duration::from_millis(wish);
            if let Some(wait) = retries(100, 20_000).next(Some(wish)) {
                prop_assert!(wait >= wish);
            }
        }
    }

    #[test]
    fn a_wish_longer_than_the_budget_means_rest() {
        assert_eq!(retries(100, 1_000).next(Some(Duration::from_secs(5))), None);
    }
}
