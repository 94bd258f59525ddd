//! `[delivery]`: delivery of events to webhook endpoints.

use std::time::Duration;

use super::read::{Section, duration, from_words, number, parsed};
use super::topology::delay_tiers;

/// `[delivery]`: delivery of events to webhook endpoints.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Default of the maximum number of concurrent deliveries to an endpoint.
    pub concurrency: u16,
    /// Default of the timeout of an attempt.
    pub timeout: Duration,
    /// The waits between attempts; the last one repeats until `max_age`.
    pub schedule: Vec<Duration>,
    /// A delivery is given up this long after its first attempt.
    pub max_age: Duration,
    /// The longest wait that an endpoint may ask for.
    pub retry_after_max: Duration,
    /// The number of consecutive failures that opens an endpoint's breaker.
    pub failures: u32,
    /// The wait before the first probe of a failing endpoint …
    pub probe_min: Duration,
    /// … and the longest one.
    pub probe_max: Duration,
    /// An endpoint that has been failing for this long is disabled.
    pub disable_after: Duration,
    /// The interval of reading the endpoints from the store.
    pub refresh: Duration,
    /// How long the delivery log keeps attempts.
    pub log_retention: Duration,
    /// The process aborts at this point of every delivery (for tests).
    pub crash: Option<DeliveryCrash>,
}

/// A point of a delivery at which the process can abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryCrash {
    /// Before the request is sent.
    BeforeRequest,
    /// After the endpoint has answered, before the answer is processed.
    AfterRequest,
    /// After the broker has confirmed the deferred delivery or dead letter, before the original is acknowledged.
    AfterPublish,
}

from_words!(
    DeliveryCrash,
    "must be before-request, after-request or after-publish",
    "before-request" => BeforeRequest,
    "after-request" => AfterRequest,
    "after-publish" => AfterPublish
);

impl Delivery {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let moment = Duration::from_millis(10);
        let hour = Duration::from_hours(1);
        let week = 7 * 24 * hour;
        let delivery = Self {
            concurrency: section.required("concurrency", number(1..=64)),
            timeout: section.required("timeout", duration(moment..=Duration::from_mins(1))),
            schedule: section.required("schedule", delay_tiers),
            max_age: section.required("max_age", duration(moment..=5 * week)),
            retry_after_max: section.required("retry_after_max", duration(moment..=week)),
            failures: section.required("failures", number(1..=1_000)),
            probe_min: section.required("probe_min", duration(moment..=24 * hour)),
            probe_max: section.required("probe_max", duration(moment..=24 * hour)),
            disable_after: section.required("disable_after", duration(moment..=52 * week)),
            refresh: section.required("refresh", duration(moment..=hour)),
            log_retention: section.required("log_retention", duration(moment..=52 * week)),
            crash: section.optional("crash", parsed),
        };
        if delivery.probe_max < delivery.probe_min {
            section.problem("probe_max", "must not be shorter than probe_min");
        }
        section.finish();
        delivery
    }
}
