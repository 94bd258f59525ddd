//! The report of `groupmq bench`: as JSON, and as text. docs/performance.md describes the JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::load::Measured;
use super::measure::{OK, Tally, Times};
use super::pace::Pace;
use super::series::Series;

/// An open loop was held if at most this share of the commands was handed over later than `HELD_WITHIN`.
const HELD_QUANTILE: f64 = 0.99;

/// In microseconds.
const HELD_WITHIN: u64 = 10_000;

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// `commands`
    kind: &'static str,
    /// The version of groupmq that measured.
    groupmq: &'static str,
    broker: Option<String>,
    sessions: usize,
    groups_per_session: u32,
    mix: BTreeMap<&'static str, u32>,
    warm_up_seconds: f64,
    timeout_seconds: f64,
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
    seconds: f64,
    /// Replies a second within the measured time.
    pub(super) replies_per_second: f64,
    interrupted: bool,
    repeated_replies: u64,
    pub(super) total: Counts,
    commands: BTreeMap<&'static str, Counts>,
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
    sent: u64,
    outcomes: BTreeMap<String, u64>,
    lost: u64,
    unanswered: u64,
    /// The times of each stage, by its name.
    pub(super) stages: BTreeMap<&'static str, Quantiles>,
}

/// Times in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quantiles {
    count: u64,
    pub(super) p50_us: u64,
    p90_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    max_us: u64,
}

impl Report {
    pub(super) fn new(series: &Series<'_>, runs: &[Measured]) -> anyhow::Result<Self> {
        let options = series.options;
        let names: Vec<_> = series.mix.commands().map(|it| it.as_str()).collect();
        let answer = runs.first().and_then(|it| it.stages.first());
        let reports = runs.iter().map(|it| RunReport::new(it, &names));
        Ok(Self {
            kind: series.kind,
            groupmq: env!("CARGO_PKG_VERSION"),
            broker: series.broker.clone(),
            sessions: options.sessions.len(),
            groups_per_session: options.groups,
            mix: series.mix.weights().collect(),
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
        let replies_per_second = if seconds > 0.0 {
            measured.answered_within as f64 / seconds
        } else {
            0.0
        };
        let counts = measured.kinds.iter().map(Counts::new);
        Ok(Self {
            pace: PaceReport::new(measured),
            seconds,
            replies_per_second,
            interrupted: measured.interrupted,
            repeated_replies: measured.repeated,
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

    fn ok(&self) -> u64 {
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = self.broker.as_deref().unwrap_or("unknown broker");
        let mix = self
            .mix
            .iter()
            .map(|(name, weight)| format!("{name}={weight}"));
        let mix: Vec<_> = mix.collect();
        writeln!(f, "{broker}, groupmq {}, {}", self.groupmq, mix.join(","))?;
        writeln!(
            f,
            "{} session(s) with {} groups each, after {} s of warm-up",
            self.sessions, self.groups_per_session, self.warm_up_seconds
        )?;
        for run in &self.runs {
            write!(f, "\n{run}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, rate) = (self.seconds, self.replies_per_second);
        let pace = match self.pace {
            PaceReport::Closed { in_flight } => format!("{in_flight} in flight"),
            PaceReport::Open { rate, .. } => format!("{rate} a second"),
        };
        let interrupted = if self.interrupted {
            ", interrupted"
        } else {
            ""
        };
        writeln!(
            f,
            "{pace}, {seconds:.1} s{interrupted}: {rate:.0} replies/s"
        )?;
        if let PaceReport::Open {
            held: false,
            unsent,
            late,
            ..
        } = &self.pace
        {
            let late = milliseconds(late.p99_us);
            writeln!(
                f,
                "! The load generator did not keep to its schedule: {unsent} commands were not sent, and 1 % of the \
                 others more than {late} ms late, which their times include."
            )?;
        }
        let counts = || {
            let each = self.commands.iter().map(|(name, counts)| (*name, counts));
            std::iter::once(("all", &self.total)).chain(each)
        };
        writeln!(
            f,
            "{:<24}{:>10}{:>10}{:>10}{:>10}",
            "commands", "sent", "ok", "errors", "lost"
        )?;
        for (name, counts) in counts() {
            counts.row(name, f)?;
        }
        for (outcome, count) in self.total.outcomes.iter().filter(|(it, _)| *it != OK) {
            writeln!(f, "  {outcome}: {count}")?;
        }
        if self.total.unanswered > 0 {
            writeln!(f, "  {} replies were not waited for", self.total.unanswered)?;
        }
        if self.repeated_replies > 0 {
            writeln!(
                f,
                "  {} replies came again or too late",
                self.repeated_replies
            )?;
        }
        writeln!(
            f,
            "{:<24}{:<8}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "milliseconds until", "", "count", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, counts) in counts() {
            for (stage, times) in &counts.stages {
                write!(f, "{name:<24}{stage:<8}")?;
                times.row(f)?;
            }
        }
        Ok(())
    }
}

impl Counts {
    fn row(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers: u64 = self.outcomes.values().sum();
        let (sent, ok, lost) = (self.sent, self.ok(), self.lost);
        writeln!(
            f,
            "{name:<24}{sent:>10}{ok:>10}{:>10}{lost:>10}",
            answers - ok
        )
    }
}

impl Quantiles {
    fn row(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10}", self.count)?;
        for micros in [
            self.p50_us,
            self.p90_us,
            self.p99_us,
            self.p999_us,
            self.max_us,
        ] {
            write!(f, "{:>10}", milliseconds(micros))?;
        }
        writeln!(f)
    }
}

/// Microseconds as milliseconds with two digits.
pub(super) fn milliseconds(micros: u64) -> String {
    let hundredths = (micros + 5) / 10;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
