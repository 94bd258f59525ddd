//! How long a delivery is deferred before the next attempt, and in which delay queue.
//!
//! A wait is never shortened: it is made of one or more delay tiers in a row, and the last one is rounded up.

use std::time::Duration;

use crate::config::Delivery;
use crate::contract::{Retries, RetryPolicy};

/// Jitter: each wait is extended by a random share up to this, so that deliveries that failed together are
/// not retried together.
const JITTER: f64 = 0.2;

/// A tier may exceed the wait by up to this factor.
const CLOSE_ENOUGH: f64 = 1.3;

/// The wait after an attempt; none if it was the last one.
///
/// `attempts` is the number of attempts so far, `age` the time since the first of them, `asked` the endpoint's
/// `Retry-After`.
pub(super) fn wait(
    own: Option<&Retries>,
    settings: &Delivery,
    attempts: u32,
    age: Duration,
    asked: Option<Duration>,
) -> Option<Duration> {
    let planned = match own {
        None => {
            let last = settings.schedule.last().copied();
            let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
            settings.schedule.get(index).copied().or(last)?
        }
        Some(own) if attempts > own.attempts => return None,
        Some(own) => {
            let first = Duration::from_secs(own.delay_seconds.into());
            match own.policy {
                RetryPolicy::Constant => first,
                RetryPolicy::Linear => first.saturating_mul(attempts),
                RetryPolicy::Exponential => {
                    let doublings = attempts.saturating_sub(1).min(30);
                    first.saturating_mul(2_u32.saturating_pow(doublings))
                }
            }
        }
    };
    let planned = within_max_age(settings, age, planned)?;
    let jittered = planned.mul_f64(1.0 + rand::random_range(0.0..=JITTER));
    // Not earlier than the endpoint asks for, up to the configured maximum.
    let asked = asked.unwrap_or_default().min(settings.retry_after_max);
    Some(jittered.max(asked))
}

/// The wait, or none if the delivery would be older than `max_age` after it.
pub(super) fn within_max_age(
    settings: &Delivery,
    age: Duration,
    wait: Duration,
) -> Option<Duration> {
    (age.saturating_add(wait) <= settings.max_age).then_some(wait)
}

/// The tier for the remaining wait: one that is about as long, otherwise the longest one that is not longer.
/// `tiers` are ascending and not empty.
pub(super) fn tier(tiers: &[Duration], left: Duration) -> Duration {
    let shortest = tiers.first().copied().unwrap_or_default();
    let near = tiers
        .iter()
        .copied()
        .find(|tier| *tier >= left && tier.as_secs_f64() <= left.as_secs_f64() * CLOSE_ENOUGH);
    let below = tiers.iter().copied().rev().find(|tier| *tier <= left);
    near.or(below).unwrap_or(shortest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> Delivery {
        let sources = crate::config::Sources::default();
        sources.load().unwrap().delivery
    }

    fn seconds(all: &[u64]) -> Vec<Duration> {
        all.iter().copied().map(Duration::from_secs).collect()
    }

    #[test]
    fn the_schedule_is_that_of_standard_webhooks_and_ends_after_three_days() {
        let settings = settings();
        let (mut age, mut attempts) = (Duration::ZERO, 1);
        let mut waits = Vec::new();
        while let Some(wait) = wait(None, &settings, attempts, age, None) {
            age += wait;
            attempts += 1;
            waits.push(wait.as_secs_f64());
        }
        let planned = [5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 10_800.0, 21_600.0];
        for (wait, planned) in waits.iter().zip(planned) {
            assert!((planned..=planned * 1.2).contains(wait), "{waits:?}");
        }
        assert!(
            age <= settings.max_age && age > settings.max_age / 2,
            "{age:?}"
        );
    }

    #[test]
    fn waha_s_policies_grow_as_they_say_and_end() {
        let policy = |policy| Retries {
            policy,
            delay_seconds: 2,
            attempts: 3,
        };
        for (own, planned) in [
            (policy(RetryPolicy::Constant), [2.0, 2.0, 2.0]),
            (policy(RetryPolicy::Linear), [2.0, 4.0, 6.0]),
            (policy(RetryPolicy::Exponential), [2.0, 4.0, 8.0]),
        ] {
            for (attempts, planned) in (1..).zip(planned) {
                let wait = wait(Some(&own), &settings(), attempts, Duration::ZERO, None);
                let wait = wait.unwrap().as_secs_f64();
                assert!((planned..=planned * 1.2).contains(&wait), "{own:?} {wait}");
            }
            assert_eq!(wait(Some(&own), &settings(), 4, Duration::ZERO, None), None);
        }
    }

    #[test]
    fn a_wish_of_the_endpoint_is_kept_and_an_absurd_one_is_cut() {
        let settings = settings();
        let asked = |asked| wait(None, &settings, 1, Duration::ZERO, Some(asked)).unwrap();
        assert_eq!(asked(Duration::from_secs(700)), Duration::from_secs(700));
        assert_eq!(asked(Duration::from_hours(9_000)), settings.retry_after_max);
        assert!(asked(Duration::ZERO) >= Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn rests_add_up_to_the_wait_and_little_more(wait in 1_u64..400_000) {
            let tiers = seconds(&[1, 5, 30, 120, 600, 1800, 3600, 10_800, 21_600, 43_200]);
            let wait = Duration::from_secs(wait);
            let (mut rested, mut rests) = (Duration::ZERO, 0);
            while rested < wait {
                rested += tier(&tiers, wait.saturating_sub(rested));
                rests += 1;
            }
            prop_assert!(rested.as_secs_f64() <= wait.as_secs_f64() * CLOSE_ENOUGH + 1.0);
            prop_assert!(rests <= 45, "{rests} rests for {wait:?}");
        }
    }
}
