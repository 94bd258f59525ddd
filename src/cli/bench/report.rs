//! The report of `groupmq bench`, as it is printed as JSON; docs/performance.md describes it. `text` prints it for people.

use std::collections::BTreeMap;

use serde::Serialize;

use super::load::Measured;
use super::measure::{OK, Stage, Tally, Times};
use super::mix::Mix;
use super::options::LoadOptions;
use super::pace::Pace;
use crate::contract::CommandType;

/// An open loop was held if at most this share of the commands was handed over later than `HELD_WITHIN`.
const HELD_QUANTILE: f64 = 0.99;

/// In microseconds.
const HELD_WITHIN: u64 = 10_000;

/// What the report says of the load.
#[derive(Debug)]
pub(super) struct About<'a> {
    /// The name of the subcommand.
    pub(super) kind: &'static str,
    pub(super) options: &'a LoadOptions,
    pub(super) mix: &'a Mix,
    /// The number of webhook endpoints of each session, if these are measured.
    pub(super) endpoints: Option<u32>,
    /// The broker, by its own description.
    pub(super) broker: Option<String>,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// `commands`
    pub(super) kind: &'static str,
    /// The version of groupmq that measured.
    pub(super) groupmq: &'static str,
    pub(super) broker: Option<String>,
    pub(super) sessions: usize,
    pub(super) groups_per_session: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoints_per_session: Option<u32>,
    pub(super) mix: BTreeMap<&'static str, u32>,
    pub(super) warm_up_seconds: f64,
    pub(super) timeout_seconds: f64,
    pub(super) runs: Vec<RunReport>,
    /// The stage that ends with the answer.
    #[serde(skip)]
    pub(super) answer: &'static str,
}

/// What one run came to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunReport {
    #[serde(flatten)]
    pub(super) pace: PaceReport,
    /// The measured time.
    pub(super) seconds: f64,
    /// Answers a second within the measured time.
    pub(super) per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deliveries_per_second: Option<f64>,
    pub(super) interrupted: bool,
    pub(super) repeated: u64,
    pub(super) total: Counts,
    pub(super) commands: BTreeMap<&'static str, Counts>,
}

/// How a run was paced, and whether that was held.
#[derive(Debug, Serialize)]
#[serde(
    tag = "loop",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(super) enum PaceReport {
    Closed {
        in_flight: usize,
    },
    Open {
        rate: f64,
        /// Whether the load generator kept to its schedule.
        held: bool,
        /// Commands that were due and not sent.
        unsent: u64,
        /// How late commands were handed over.
        late: Quantiles,
    },
}

/// What was counted and timed of some commands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) outcomes: BTreeMap<String, u64>,
    pub(super) lost: u64,
    pub(super) unanswered: u64,
    /// The times of each stage, by its name.
    pub(super) stages: BTreeMap<&'static str, Quantiles>,
}

/// Times in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quantiles {
    pub(super) count: u64,
    pub(super) p50_us: u64,
    pub(super) p90_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) max_us: u64,
}

impl Report {
    pub(super) fn new(about: &About<'_>, runs: &[Measured]) -> anyhow::Result<Self> {
        let options = about.options;
        let names: Vec<_> = about.mix.commands().map(CommandType::as_str).collect();
        let answer = runs.first().and_then(|it| it.stages.first());
        let reports = runs.iter().map(|it| RunReport::new(it, &names));
        Ok(Self {
            kind: about.kind,
            groupmq: env!("CARGO_PKG_VERSION"),
            broker: about.broker.clone(),
            sessions: options.sessions.len(),
            groups_per_session: options.groups,
            endpoints_per_session: about.endpoints,
            mix: about.mix.weights().collect(),
            warm_up_seconds: options.warm_up.as_secs_f64(),
            timeout_seconds: options.timeout.as_secs_f64(),
            runs: reports.collect::<anyhow::Result<_>>()?,
            answer: answer.map_or("", |it| it.name()),
        })
    }
}

impl RunReport {
    fn new(measured: &Measured, names: &[&'static str]) -> anyhow::Result<Self> {
        let mut total = Tally::new(measured.stages)?;
        for tally in &measured.kinds {
            total.add(tally)?;
        }
        let seconds = measured.time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let delivers = measured.stages.contains(&Stage::Delivery);
        let counts = measured.kinds.iter().map(Counts::new);
        Ok(Self {
            pace: PaceReport::new(measured),
            seconds,
            per_second: per_second(measured.answered_within),
            deliveries_per_second: delivers.then(|| per_second(measured.delivered_within)),
            interrupted: measured.interrupted,
            repeated: measured.repeated,
            total: Counts::new(&total),
            commands: names.iter().copied().zip(counts).collect(),
        })
    }
}

impl PaceReport {
    fn new(measured: &Measured) -> Self {
        match measured.pace {
            Pace::Closed { in_flight } => Self::Closed { in_flight },
            Pace::Open { rate } => Self::Open {
                rate,
                held: measured.unsent == 0 && measured.late.quantile(HELD_QUANTILE) <= HELD_WITHIN,
                unsent: measured.unsent,
                late: Quantiles::new(&measured.late),
            },
        }
    }
}

impl Counts {
    fn new(tally: &Tally) -> Self {
        let stages = tally.stages();
        let stages = stages.map(|(stage, times)| (stage.name(), Quantiles::new(times)));
        Self {
            sent: tally.sent,
            outcomes: tally.outcomes.clone(),
            lost: tally.lost,
            unanswered: tally.unanswered,
            stages: stages.collect(),
        }
    }

    pub(super) fn ok(&self) -> u64 {
        self.outcomes.get(OK).copied().unwrap_or(0)
    }
}

impl Quantiles {
    fn new(times: &Times) -> Self {
        Self {
            count: times.count(),
            p50_us: times.quantile(0.5),
            p90_us: times.quantile(0.9),
            p99_us: times.quantile(0.99),
            p999_us: times.quantile(0.999),
            max_us: times.max(),
        }
    }
}
