//! `groupmq apply`: makes groups as files describe them.

mod document;
mod existing;
mod file;
mod number;
mod people;
mod plan;
mod problems;
mod progress;
mod run;
mod table;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::io::{IsTerminal as _, stdin};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::amqp::{Caller, Client, Names, Outgoing, Target};
use crate::config::Config;
use crate::contract::{CommandType, EnsuredGroup, ErrorBody, SessionName};
use crate::executor::decode::Decoder;

use super::calls::{self, Answer, Calls};
use super::exit::{Exit, Failure};
use super::output;
use file::Wanted;
use problems::Problem;

/// The options of `groupmq apply`.
///
/// Each document of a file is a group: the payload of `EnsureGroup`, with `session` and `id` besides.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent options of a command line"
)]
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// The files, YAML or JSON; - for stdin.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The session of groups that name none.
    #[arg(long, default_value = "default")]
    session: SessionName,
    /// Only print the differences.
    #[arg(long)]
    plan: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
    /// Allow the removal of more than half of a group.
    #[arg(long)]
    yes_remove: bool,
    /// The timeout for the next plan; the changes take as long as they take.
    #[arg(long, default_value = "1m", value_parser = super::send::duration)]
    timeout: Duration,
    /// Print the last reply about each group as JSON, with its file and line; everything else goes to stderr.
    #[arg(long)]
    json: bool,
}

/// A group with the differences that there are.
#[derive(Debug)]
struct Planned {
    wanted: Wanted,
    answer: Answer,
    plan: Result<EnsuredGroup, ErrorBody>,
}

impl Planned {
    fn has_changes(&self) -> bool {
        self.plan.as_ref().is_ok_and(|it| !it.changes.is_empty())
    }

    fn removes_most(&self) -> bool {
        let removal = self.plan.as_ref().ok().and_then(plan::removed_of);
        removal.is_some_and(plan::Removal::is_most)
    }
}

impl Apply {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        if !self.plan && !self.yes && !stdin().is_terminal() {
            return Err(Failure::Usage(
                "stdin is no terminal to ask on: --yes applies the changes without confirmation, --plan only prints them"
                    .to_owned(),
            ));
        }
        let decoder = Decoder::new();
        let read = file::read_all(&self.files, &self.session, &decoder);
        note_all(&read.notes);
        refuse(&read.problems)?;
        let names = Names::new(&config.topology.prefix);
        let retention = config.ledger.retention;
        let target = Target::new(config.amqp);
        let client = Client::connect(&target).await?;
        let mut caller = client.caller().await?;
        let planned = self
            .plan_all(&mut caller, &names, read.groups, retention)
            .await?;
        let exit = self.decide(&planned)?;
        if let Some(exit) = exit {
            client.close().await;
            return Ok(exit);
        }
        let run = run::Run {
            names: &names,
            target: &target,
            options: &self,
        };
        let exit = run.apply(&mut caller, planned).await?;
        client.close().await;
        Ok(exit)
    }

    /// Asks for the differences of all groups.
    async fn plan_all(
        &self,
        caller: &mut Caller<'_>,
        names: &Names,
        groups: Vec<Wanted>,
        retention: Duration,
    ) -> Result<Vec<Planned>, Failure> {
        let known = existing::look(caller, names, &groups, retention, self.timeout).await?;
        note_all(&known.notes);
        refuse(&known.problems)?;
        let mut answers: Vec<Option<Answer>> = groups.iter().map(|_| None).collect();
        for (number, answer) in known.refused {
            if let Some(place) = answers.get_mut(number) {
                *place = Some(answer);
            }
        }
        let asked = answers.iter().zip(&groups).enumerate();
        let asked = asked.filter(|(_, (answer, _))| answer.is_none());
        let mut calls = Calls::new(asked.map(|(number, (_, wanted))| {
            let id = Uuid::now_v7().to_string();
            (number, command(names, wanted, id, Some("plan")))
        }));
        while !calls.is_over() {
            let next = async {
                calls.send(caller).await?;
                Ok::<_, Failure>(caller.next().await?)
            };
            let message = tokio::time::timeout(self.timeout, next)
                .await
                .map_err(|_| Failure::NoReply(self.timeout))??;
            if let Some((number, answer)) = calls.take(message)?
                && let Some(place) = answers.get_mut(number)
            {
                *place = Some(answer);
            }
        }
        let answered = groups.into_iter().zip(answers);
        let planned = answered.filter_map(|(wanted, answer)| Some((wanted, answer?)));
        planned
            .map(|(wanted, answer)| {
                Ok(Planned {
                    plan: answer.ensured()?,
                    wanted,
                    answer,
                })
            })
            .collect()
    }

    /// Prints the plan, and decides whether it is carried out; returns how the command ends if not.
    fn decide(&self, planned: &[Planned]) -> Result<Option<Exit>, Failure> {
        for group in planned {
            self.say(&match &group.plan {
                Ok(ensured) => plan::plan(&group.wanted, ensured),
                Err(error) => plan::refusal(&group.wanted, error),
            })?;
        }
        let changed = planned.iter().filter(|it| it.has_changes()).count();
        if self.plan || changed == 0 {
            for group in planned {
                self.print_json(&group.wanted, &group.answer)?;
            }
            let is_refused = planned.iter().any(|it| it.plan.is_err());
            return Ok(Some(if is_refused {
                Exit::ErrorReply
            } else {
                Exit::Ok
            }));
        }
        let removing: Vec<_> = planned.iter().filter(|it| it.removes_most()).collect();
        if !self.yes_remove && !removing.is_empty() {
            let reason =
                "removes more than half of the group: --yes-remove allows that. Nothing was sent";
            let problem = |it: &&Planned| Problem::new(it.wanted.place.clone(), "", reason);
            refuse(&removing.iter().map(problem).collect::<Vec<_>>())?;
        }
        if !self.yes && !output::confirm("Apply these changes?")? {
            return Err(Failure::Usage("nothing was changed".to_owned()));
        }
        Ok(None)
    }

    /// Prints for people, and not where programs read.
    fn say(&self, text: &str) -> Result<(), Failure> {
        if self.json {
            output::note(text);
            Ok(())
        } else {
            output::line(text)
        }
    }

    /// Prints a reply for programs.
    fn print_json(&self, wanted: &Wanted, answer: &Answer) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let reply: Map<String, Value> =
            serde_json::from_slice(&answer.body).context("a reply cannot be parsed")?;
        let mut line = Map::from_iter([
            ("file".to_owned(), json!(wanted.place.file)),
            ("line".to_owned(), json!(wanted.place.line)),
        ]);
        line.extend(reply);
        output::line(&Value::Object(line).to_string())
    }
}

/// The `EnsureGroup` of a group, with a field set if it is wanted.
fn command(names: &Names, wanted: &Wanted, id: String, set: Option<&str>) -> Outgoing {
    let mut payload = wanted.payload.clone();
    payload.extend(set.map(|field| (field.to_owned(), json!(true))));
    let command = CommandType::EnsureGroup;
    calls::command(names, &wanted.session, command, id, payload.into())
}

fn note_all(notes: &[impl Display]) {
    for note in notes {
        output::note(&format!("note: {note}"));
    }
}

/// Ends the command if there are problems.
fn refuse(problems: &[Problem]) -> Result<(), Failure> {
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Err(Failure::Usage(lines.join("\n")))
}
