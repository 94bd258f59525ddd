//! The report of `groupmq bench` for people.

use std::fmt;

use super::measure::OK;
use super::report::{Counts, PaceReport, Quantiles, Report, RunReport};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = self.broker.as_deref().unwrap_or("unknown broker");
        let mix = self.mix.iter();
        let mix: Vec<_> = mix
            .map(|(name, weight)| format!("{name}={weight}"))
            .collect();
        writeln!(f, "{broker}, groupmq {}, {}", self.groupmq, mix.join(","))?;
        write!(
            f,
            "sessions: {}, groups in each: {}",
            self.sessions, self.groups_per_session
        )?;
        if let Some(endpoints) = self.endpoints_per_session {
            write!(f, ", endpoints of each: {endpoints}")?;
        }
        writeln!(f, ", warm-up: {} s", self.warm_up_seconds)?;
        for run in &self.runs {
            write!(f, "\n{run}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, per_second) = (self.seconds, self.per_second);
        match self.pace {
            PaceReport::Closed { in_flight } => write!(f, "{in_flight} in flight")?,
            PaceReport::Open { rate, .. } => write!(f, "{rate} a second")?,
        }
        write!(f, ", {seconds:.1} s")?;
        if self.interrupted {
            write!(f, ", interrupted")?;
        }
        write!(f, ": {per_second:.0} answers/s")?;
        if let Some(deliveries) = self.deliveries_per_second {
            write!(f, ", {deliveries:.0} deliveries/s")?;
        }
        writeln!(f)?;
        self.pace.warn(f)?;
        self.counts(f)?;
        self.times(f)
    }
}

impl PaceReport {
    fn warn(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Open {
            held: false,
            unsent,
            late,
            ..
        } = self
        else {
            return Ok(());
        };
        let late = milliseconds(late.p99_us);
        writeln!(
            f,
            "! The load generator did not keep to its schedule: {unsent} requests were not sent, and 1 % of the others \
             were sent {late} ms late or later, which their times include."
        )
    }
}

impl RunReport {
    fn counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [sent, ok, errors, lost] = ["sent", "ok", "errors", "lost"];
        writeln!(f, "{:<24}{sent:>10}{ok:>10}{errors:>10}{lost:>10}", "")?;
        for (name, counts) in self.rows() {
            let answers: u64 = counts.outcomes.values().sum();
            let (sent, ok, lost) = (counts.sent, counts.ok(), counts.lost);
            let errors = answers - ok;
            writeln!(f, "{name:<24}{sent:>10}{ok:>10}{errors:>10}{lost:>10}")?;
        }
        let errors = self.total.outcomes.iter().filter(|(it, _)| *it != OK);
        for (outcome, count) in errors {
            writeln!(f, "! {outcome}: {count}")?;
        }
        for (count, what) in [
            (self.total.unanswered, "answers were not waited for"),
            (self.repeated, "answers came again or too late"),
        ] {
            if count > 0 {
                writeln!(f, "! {count} {what}")?;
            }
        }
        Ok(())
    }

    fn times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<24}{:<10}", "milliseconds", "until")?;
        for column in ["count", "p50", "p90", "p99", "p99.9", "max"] {
            write!(f, "{column:>10}")?;
        }
        writeln!(f)?;
        for (name, counts) in self.rows() {
            let stages = counts.stages.iter();
            for (stage, times) in stages.filter(|(_, times)| times.count > 0) {
                write!(f, "{name:<24}{stage:<10}{:>10}", times.count)?;
                times.row(f)?;
            }
        }
        Ok(())
    }

    /// All commands together, and each type if there are several.
    fn rows(&self) -> impl Iterator<Item = (&'static str, &Counts)> {
        let each = self.commands.iter().filter(|_| self.commands.len() > 1);
        let each = each.map(|(name, counts)| (*name, counts));
        std::iter::once(("all", &self.total)).chain(each)
    }
}

impl Quantiles {
    fn row(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
