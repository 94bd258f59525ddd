//! The recent outcomes of an endpoint's deliveries in one process: when to open its breaker.

use std::collections::VecDeque;

/// The breaker opens if at least `MAX_FAILURES` of the last `WINDOW` outcomes are failures.
const WINDOW: usize = 20;
const MAX_FAILURES: usize = WINDOW / 2;

/// The recent outcomes.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether each outcome was a failure of the endpoint, the latest last.
    latest: VecDeque<bool>,
    consecutive: u32,
}

impl Health {
    /// Records an outcome that is no failure of the endpoint.
    pub(super) fn record_success(&mut self) {
        self.note(false);
        self.consecutive = 0;
    }

    /// Records a failure of the endpoint; true if the breaker must be opened.
    pub(super) fn record_failure(&mut self, max_consecutive: u32) -> bool {
        self.note(true);
        self.consecutive = self.consecutive.saturating_add(1);
        let failures = self.latest.iter().filter(|failed| **failed).count();
        self.consecutive >= max_consecutive
            || (self.latest.len() == WINDOW && failures >= MAX_FAILURES)
    }

    fn note(&mut self, failed: bool) {
        if self.latest.len() == WINDOW {
            self.latest.pop_front();
        }
        self.latest.push_back(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it() {
        let mut health = Health::default();
        for _ in 0..4 {
            assert!(!health.record_failure(5));
        }
        assert!(health.record_failure(5));
    }

    #[test]
    fn half_of_the_last_twenty_open_it_and_fewer_do_not() {
        let mut health = Health::default();
        let mut opened = (0..60).map(|n| {
            if n % 3 == 0 {
                health.record_failure(5)
            } else {
                health.record_success();
                false
            }
        });
        assert!(!opened.any(|opened| opened), "a third is not too much");

        let mut health = Health::default();
        let mut opened = Vec::new();
        for n in 0..20 {
            if n % 2 == 0 {
                health.record_success();
            } else {
                opened.push(health.record_failure(5));
            }
        }
        assert_eq!(
            opened.iter().filter(|opened| **opened).count(),
            1,
            "{opened:?}"
        );
        assert_eq!(opened.last(), Some(&true));
    }

    #[test]
    fn a_success_ends_a_row() {
        let mut health = Health::default();
        for _ in 0..4 {
            for _ in 0..2 {
                assert!(!health.record_failure(3));
            }
            health.record_success();
        }
    }
}
