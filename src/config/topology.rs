//! `[topology]`: exchanges and queues on the broker.

use std::time::Duration;

use figment::value::Value;

use super::read::{Section, duration, from_words, list, number, parsed, text};

/// `[topology]`: exchanges and queues on the broker.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The prefix of all names.
    pub prefix: String,
    /// Whether this process declares them.
    pub mode: TopologyMode,
    /// The number of command queues.
    pub shards: u16,
    /// The interval of the check while the process runs.
    pub interval: Duration,
    /// The delays of deferred commands, in ascending order; each is a queue.
    pub delay_tiers: Vec<Duration>,
    /// These and the delays of webhook deliveries: all tiers that have a queue.
    pub tiers: Vec<Duration>,
}

/// Whether this process declares exchanges and queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TopologyMode {
    /// This process declares what is missing.
    #[default]
    Declare,
    /// This process only checks that they exist.
    Passive,
    /// This process neither declares nor checks them.
    Off,
}

from_words!(
    TopologyMode,
    "must be declare, passive or off",
    "declare" => Declare,
    "passive" => Passive,
    "off" => Off
);

impl Topology {
    /// Adds further tiers.
    pub(super) fn with_tiers(mut self, more: &[Duration]) -> Self {
        self.tiers = [&self.delay_tiers, more].concat();
        self.tiers.sort_unstable();
        self.tiers.dedup();
        self
    }

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let prefix = section.required("prefix", |value| {
            let prefix = text(value)?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            let fits = (1..=64).contains(&prefix.len()) && prefix.bytes().all(plain);
            // RabbitMQ reserves names that start with amq.
            if fits && !prefix.starts_with("amq.") {
                Ok(prefix)
            } else {
                Err(
                    "must be 1 to 64 letters, digits, '.', '_' or '-', and not start with amq."
                        .into(),
                )
            }
        });
        let topology = Self {
            prefix,
            mode: section.required("mode", parsed),
            shards: section.required("shards", number(1..=256)),
            interval: section.required(
                "interval",
                duration(Duration::from_secs(1)..=Duration::from_hours(1)),
            ),
            delay_tiers: section.required("delay_tiers", delay_tiers),
            tiers: Vec::new(),
        };
        section.finish();
        topology
    }
}

pub(super) fn delay_tiers(value: &Value) -> Result<Vec<Duration>, String> {
    let read: Vec<jiff::SignedDuration> = list(value)?;
    let tiers: Vec<_> = read
        .into_iter()
        .filter_map(|tier| Duration::try_from(tier).ok())
        .collect();
    let rising = tiers.windows(2).all(|pair| pair.first() < pair.last());
    let sensible = Duration::from_millis(10)..=Duration::from_hours(24);
    if tiers.is_empty() || !rising || !tiers.iter().all(|tier| sensible.contains(tier)) {
        return Err(
            "must be ascending durations from 10ms to 24h, such as [\"1s\", \"5s\"]".to_owned(),
        );
    }
    Ok(tiers)
}
