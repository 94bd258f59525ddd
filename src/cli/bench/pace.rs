//! When the requests of a run are due.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// What decides when the next request is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// Closed loop: the next one once fewer than this number have no answer.
    Closed { in_flight: usize },
    /// Open loop: this number a second, whatever comes back.
    Open { rate: f64 },
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { in_flight } => write!(f, "{in_flight} in flight"),
            Self::Open { rate } => write!(f, "{rate}/s"),
        }
    }
}

/// The plan of one run: a warm-up that is not measured, then the measured time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) pace: Pace,
    begun: Instant,
    warm_up: Duration,
    duration: Duration,
    sent: u64,
}

impl Schedule {
    pub(super) const fn new(
        pace: Pace,
        begun: Instant,
        warm_up: Duration,
        duration: Duration,
    ) -> Self {
        Self {
            pace,
            begun,
            warm_up,
            duration,
            sent: 0,
        }
    }

    /// The beginning of the measured time.
    pub(super) fn measured_from(&self) -> Instant {
        self.begun + self.warm_up
    }

    /// The end of the measured time.
    pub(super) fn end(&self) -> Instant {
        self.measured_from() + self.duration
    }

    /// The length of the measured time.
    pub(super) const fn measured_time(&self) -> Duration {
        self.duration
    }

    /// Ends the measured time now, if it has not ended.
    pub(super) fn stop(&mut self, now: Instant) {
        let measured = now.saturating_duration_since(self.measured_from());
        self.duration = self.duration.min(measured);
    }

    /// Whether a request that was due then counts.
    pub(super) fn is_measured(&self, due: Instant) -> bool {
        due >= self.measured_from()
    }

    /// When the next request is due; none while too many have no answer.
    pub(super) fn due(&self, now: Instant, unanswered: usize) -> Option<Instant> {
        match self.pace {
            Pace::Closed { in_flight } => (unanswered < in_flight).then_some(now),
            Pace::Open { rate } => Some(self.slot(rate, self.sent)),
        }
    }

    /// Records that a request was sent.
    pub(super) const fn sent(&mut self) {
        self.sent += 1;
    }

    /// How many requests of an open loop were due before the end and not sent.
    pub(super) fn unsent(&self) -> u64 {
        let Pace::Open { rate } = self.pace else {
            return 0;
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and far below 2^52"
        )]
        let all = ((self.warm_up + self.duration).as_secs_f64() * rate).ceil() as u64;
        all.saturating_sub(self.sent)
    }

    fn slot(&self, rate: f64, number: u64) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let after = number as f64 / rate;
        self.begun + Duration::from_secs_f64(after)
    }
}
