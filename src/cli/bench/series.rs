//! The runs of one `groupmq bench`: the groups before them, one run after the other, the report after them.

use anyhow::Context as _;

use super::chart;
use super::flight::Flight;
use super::groups::{Groups, Place};
use super::load::{Measured, Plan, Run, Transport};
use super::report::{About, Report};
use super::setup::Setup;
use crate::amqp::Caller;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::lifecycle::Signals;

/// What is the same for all runs.
#[derive(Debug)]
pub(super) struct Series<'a> {
    pub(super) about: About<'a>,
    pub(super) setup: Setup<'a>,
}

impl Series<'_> {
    /// Creates groups, does the runs, deletes the groups and prints the report.
    pub(super) async fn run(
        &self,
        caller: &mut Caller<'_>,
        transport: &mut impl Transport,
    ) -> Result<Exit, Failure> {
        let mut signals = Signals::listen().context("cannot handle signals")?;
        let groups = Groups {
            setup: &self.setup,
            sessions: &self.about.options.sessions,
        };
        let mut created = Vec::new();
        let mut runs = Vec::new();
        let count = if self.about.mix.needs_groups() {
            usize::try_from(self.about.options.groups).unwrap_or(0)
        } else {
            0
        };
        let prepared = groups
            .create(caller, count, &mut signals, &mut created)
            .await;
        let ended = match prepared {
            Ok(()) => {
                let places = self.places(&created);
                self.measure(transport, &places, &mut signals, &mut runs)
                    .await
            }
            failed => failed,
        };
        if !self.about.options.keep_groups {
            groups.delete(caller, &created, &mut signals).await;
        }
        if !runs.is_empty() {
            self.print(&runs)?;
        }
        ended.map(|()| Exit::Ok)
    }

    fn places(&self, created: &[(crate::contract::SessionName, String)]) -> Vec<Place> {
        let place = |session: String, group: String, of: usize| Place {
            session,
            group,
            of: of as u64,
        };
        if created.is_empty() {
            let sessions = &self.about.options.sessions;
            let each = sessions.iter().map(ToString::to_string);
            return each
                .map(|session| place(session, String::new(), sessions.len()))
                .collect();
        }
        let each = created.iter().cloned();
        each.map(|(session, group)| place(session.to_string(), group, created.len()))
            .collect()
    }

    /// Does one run after the other; adds what each measured, whatever ends it.
    async fn measure(
        &self,
        transport: &mut impl Transport,
        places: &[Place],
        signals: &mut Signals,
        runs: &mut Vec<Measured>,
    ) -> Result<(), Failure> {
        let plan = Plan {
            mix: self.about.mix,
            places,
            warm_up: self.about.options.warm_up,
            duration: self.about.options.duration,
            timeout: self.about.options.timeout,
        };
        let mut flight = Flight::default();
        let runs_wanted = self.about.options.paces();
        let last = runs_wanted.len() - 1;
        for (number, pace) in runs_wanted.into_iter().enumerate() {
            let run = Run::new(&plan, pace, transport, &mut flight, signals)?;
            let (measured, ended) = run.run().await;
            let (interrupted, losses) = (measured.interrupted, measured.lost());
            runs.push(measured);
            ended?;
            if interrupted {
                break;
            }
            if losses > 0 && number < last {
                output::note(&format!(
                    "stopped after {pace}: {losses} commands had no reply in time, and would disturb the next run"
                ));
                break;
            }
        }
        Ok(())
    }

    fn print(&self, runs: &[Measured]) -> Result<(), Failure> {
        let report = Report::new(&self.about, runs)?;
        if let Some(file) = &self.about.options.svg {
            std::fs::write(file, chart::draw(&report))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        if self.about.options.json {
            let json = serde_json::to_string_pretty(&report).context("the report")?;
            return output::line(&json);
        }
        output::line(&report.to_string())
    }
}
