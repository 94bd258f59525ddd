//! Counting and timing the requests of a run.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// The longest time that is told apart, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// Times are kept to this number of digits.
const DIGITS: u8 = 3;

/// The outcome of a request that was done.
pub(super) const OK: &str = "ok";

/// A part of a request's way whose time is measured, from the time when the request was due unless it says
/// otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Until the broker's confirm.
    Confirm,
    /// Until the reply.
    Reply,
    /// Until the first event that the command caused.
    Event,
    /// Until the end of the answer to an HTTP request.
    Answer,
    /// Until the event has been delivered to all endpoints.
    Delivered,
    /// From the event to its delivery to one endpoint.
    Delivery,
}

impl Stage {
    /// The name in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Reply => "reply",
            Self::Event => "event",
            Self::Answer => "answer",
            Self::Delivered => "delivered",
            Self::Delivery => "delivery",
        }
    }
}

/// What was counted and timed of some requests.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) outcomes: BTreeMap<String, u64>,
    /// Requests without an answer within the timeout.
    pub(super) lost: u64,
    /// Requests whose answer was not waited for, since the run was interrupted or failed.
    pub(super) unanswered: u64,
    stages: Vec<(Stage, Times)>,
}

impl Tally {
    pub(super) fn new(stages: &[Stage]) -> anyhow::Result<Self> {
        let stages = stages.iter().map(|it| Ok((*it, Times::new()?)));
        Ok(Self {
            sent: 0,
            outcomes: BTreeMap::new(),
            lost: 0,
            unanswered: 0,
            stages: stages.collect::<anyhow::Result<_>>()?,
        })
    }

    pub(super) fn count(&mut self, outcome: &str) {
        match self.outcomes.get_mut(outcome) {
            Some(count) => *count += 1,
            None => drop(self.outcomes.insert(outcome.to_owned(), 1)),
        }
    }

    pub(super) fn time(&mut self, stage: Stage, since: Instant, now: Instant) {
        let known = self.stages.iter_mut().find(|(known, _)| *known == stage);
        if let Some((_, times)) = known {
            times.add(since, now);
        }
    }

    pub(super) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.sent += other.sent;
        self.lost += other.lost;
        self.unanswered += other.unanswered;
        for (outcome, count) in &other.outcomes {
            *self.outcomes.entry(outcome.clone()).or_default() += count;
        }
        for ((_, times), (_, others)) in self.stages.iter_mut().zip(&other.stages) {
            times.0.add(&others.0)?;
        }
        Ok(())
    }

    pub(super) fn stages(&self) -> impl Iterator<Item = (Stage, &Times)> {
        self.stages.iter().map(|(stage, times)| (*stage, times))
    }
}

/// A histogram of times, in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, DIGITS)?))
    }

    pub(super) fn add(&mut self, since: Instant, now: Instant) {
        let micros = now.saturating_duration_since(since).as_micros();
        // A longer time counts as the longest; none is left out.
        self.0
            .saturating_record(u64::try_from(micros).unwrap_or(LONGEST));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of all times does not exceed, in microseconds.
    pub(super) fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    pub(super) fn max(&self) -> u64 {
        self.0.max()
    }
}
