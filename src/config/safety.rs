//! `[safety]`: the rate limits of accounts.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Engine;
use super::read::{Section, duration, from_words, number, parsed};

/// `[safety]`: the rate limits of accounts, by kind of operation.
#[derive(Debug, Clone, Copy)]
pub struct Safety {
    /// Whether the limits apply.
    pub limits: Limits,
    /// Creation of groups.
    pub create_group: Bucket,
    /// Participants added to groups.
    pub add_participants: Bucket,
    /// All other commands that change a group.
    pub change: Bucket,
    /// Commands that only read.
    pub read: Bucket,
    /// The first pause if WhatsApp requests one without a duration.
    pub pause_min: Duration,
    /// The longest of those pauses.
    pub pause_max: Duration,
}

/// When the limits apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Limits {
    /// If the engine acts on real accounts.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Its capacity.
    pub burst: NonZeroU32,
    /// The time in which it gains one token.
    pub refill: Duration,
}

from_words!(Limits, "must be auto, on or off", "auto" => Auto, "on" => On, "off" => Off);

impl Safety {
    /// Whether operations on this engine are limited.
    #[must_use]
    pub const fn limits(&self, engine: &Engine) -> bool {
        match (self.limits, engine) {
            (Limits::On, _) | (Limits::Auto, Engine::Waha(_)) => true,
            // Accounts of the sandbox cannot be banned.
            (Limits::Off, _) | (Limits::Auto, Engine::Sandbox(_)) => false,
        }
    }

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let pauses = Duration::from_millis(1)..=Duration::from_hours(24);
        let safety = Self {
            limits: section.required("limits", parsed),
            create_group: Bucket::read(section.section("create_group")),
            add_participants: Bucket::read(section.section("add_participants")),
            change: Bucket::read(section.section("change")),
            read: Bucket::read(section.section("read")),
            pause_min: section.required("pause_min", duration(pauses.clone())),
            pause_max: section.required("pause_max", duration(pauses)),
        };
        if safety.pause_min > safety.pause_max {
            section.problem("pause_max", "must not be shorter than pause_min");
        }
        section.finish();
        safety
    }
}

impl Bucket {
    fn read(mut section: Section<'_>) -> Self {
        let refills = Duration::from_millis(1)..=Duration::from_hours(24);
        let burst = section.required("burst", number(1..=1_000_000));
        let bucket = Self {
            burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
            refill: section.required("refill", duration(refills)),
        };
        section.finish();
        bucket
    }
}
