//! Carries the plan of `groupmq apply` out, and watches it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::progress::{self, Part, Progress, Watch};
use super::{Apply, Planned, command, existing, plan};
use crate::amqp::{Caller, Incoming, Names, Target};
use crate::cli::calls::{Answer, Calls};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::contract::{ErrorCode, Event, SessionName};

/// A plan that is confirmed.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) names: &'a Names,
    pub(super) target: &'a Target,
    pub(super) options: &'a Apply,
}

impl Run<'_> {
    /// Sends the groups that differ from the plan's wish, and waits until they do not any more.
    pub(super) async fn apply(
        &self,
        caller: &mut Caller<'_>,
        planned: Vec<Planned>,
    ) -> Result<Exit, Failure> {
        let mut is_refused = false;
        for group in planned.iter().filter(|it| !it.has_changes()) {
            is_refused |= group.plan.is_err();
            self.options.print_json(&group.wanted, &group.answer)?;
        }
        let changing: Vec<_> = planned.into_iter().filter(Planned::has_changes).collect();
        let commands = changing.iter().enumerate().map(|(number, group)| {
            let id = existing::command_id(&group.wanted);
            let confirmed = group.removes_most().then_some("confirmRemove");
            let command = command(self.names, &group.wanted, id, confirmed);
            (number, command)
        });
        let mut calls = Calls::new(commands);
        let mut answers: Vec<Option<Answer>> = changing.iter().map(|_| None).collect();
        let followed = self
            .follow(caller, &changing, &mut calls, &mut answers)
            .await;
        // Whatever ended it, what is known is printed: the id of a new group above all.
        for (group, answer) in changing.iter().zip(&answers) {
            if let Some(answer) = answer {
                is_refused |= self.report(group, answer)?;
            }
        }
        if !calls.is_over() {
            say_what_goes_on(&changing, &calls);
        }
        followed?;
        Ok(match (calls.is_over(), is_refused) {
            (false, _) => Exit::Abandoned,
            (true, true) => Exit::ErrorReply,
            (true, false) => Exit::Ok,
        })
    }

    /// Sends the commands, and shows how far they are until all are answered or a signal comes.
    async fn follow(
        &self,
        caller: &mut Caller<'_>,
        changing: &[Planned],
        calls: &mut Calls,
        answers: &mut [Option<Answer>],
    ) -> Result<(), Failure> {
        let mut signals = Signals::new()?;
        let mut watch = self.watch(changing).await;
        let mut goes_on = send(calls, caller, &mut signals).await?;
        let mut progress = Progress::new(parts(changing), time_for(changing));
        while goes_on && !calls.is_over() {
            // All branches can be dropped.
            tokio::select! {
                biased;
                () = signals.next() => goes_on = false,
                message = caller.next() => {
                    if let Some((number, answer)) = calls.take(message?)? {
                        progress.over(number, answer.reply.status.as_str());
                        if let Some(place) = answers.get_mut(number) {
                            *place = Some(answer);
                        }
                        goes_on = send(calls, caller, &mut signals).await?;
                    }
                }
                event = progress::next(&mut watch) => count(&mut progress, calls, &event),
            }
        }
        Ok(())
    }

    async fn watch(&self, changing: &[Planned]) -> Option<Watch> {
        let sessions: BTreeSet<_> = changing.iter().map(|it| &it.wanted.session).collect();
        let sessions: Vec<_> = sessions.into_iter().collect();
        Watch::begin(self.target, self.names, &sessions).await
    }

    /// Prints what came of a group; returns whether it was refused.
    fn report(&self, group: &Planned, answer: &Answer) -> Result<bool, Failure> {
        let wanted = &group.wanted;
        self.options.print_json(wanted, answer)?;
        let ensured = match answer.ensured()? {
            Ok(ensured) => ensured,
            Err(error) => {
                let mut text = plan::refusal(wanted, &error);
                if wanted.group.group_id.is_none() {
                    text.push_str(new_group_advice(error.code, answer.reply.replayed));
                }
                self.options.say(&text)?;
                return Ok(true);
            }
        };
        let mut text = plan::summary(wanted, &ensured);
        if answer.reply.replayed {
            let at = answer.reply.timestamp;
            text.push_str("\n  this was done before, at ");
            text.push_str(&at.to_string());
        }
        self.options.say(&text)?;
        Ok(false)
    }
}

fn say_what_goes_on(changing: &[Planned], calls: &Calls) {
    let sent = calls.unanswered();
    let mut text = format!(
        "Not all is done: {} sent and not finished, {} not sent. The worker goes on with what was sent.",
        plan::count(sent.len(), "group"),
        calls.unsent()
    );
    for group in sent.into_iter().filter_map(|it| changing.get(it)) {
        text.push_str("\n  ");
        text.push_str(&plan::title(&group.wanted));
    }
    text.push_str(
        "\nTo see what is left, run the same command with --plan; to go on, run it again.",
    );
    output::note(&text);
}

/// What to do about an error that the ledger has for a new group: it will say the same again.
const fn new_group_advice(code: ErrorCode, replayed: bool) -> &'static str {
    match (code, replayed) {
        (ErrorCode::IdReused, _) => {
            "\n  this file asked for this group before, with other content. If there is such a group, write its \
             groupId here; otherwise give this document another `id`"
        }
        (_, true) => {
            "\n  this is the answer of the first time, and nothing was tried now. If there is such a group \
             (`groupmq send ListGroups`), write its groupId here; otherwise give this document another `id`"
        }
        (_, false) => "",
    }
}

/// What asks this process to end.
#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot handle SIGTERM")?,
        })
    }

    /// # Cancellation
    /// Dropping the future loses no signal.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Sends as many commands as may be in flight; false if a signal came first, since a broker may accept nothing for long.
async fn send(
    calls: &mut Calls,
    caller: &Caller<'_>,
    signals: &mut Signals,
) -> Result<bool, Failure> {
    tokio::select! {
        sent = calls.send(caller) => sent.map(|()| true),
        () = signals.next() => Ok(false),
    }
}

fn parts(changing: &[Planned]) -> Vec<Part> {
    let part = |group: &Planned| {
        let changes = group.plan.iter().flat_map(|it| &it.changes);
        let people: HashSet<_> = changes.flat_map(|it| &it.participants).collect();
        Part::new(plan::title(&group.wanted), people.len())
    };
    changing.iter().map(part).collect()
}

/// How long it takes: the groups of a session share its account's limits.
fn time_for(changing: &[Planned]) -> Duration {
    let mut sessions: BTreeMap<&SessionName, u64> = BTreeMap::new();
    for group in changing {
        let seconds = group.plan.as_ref().ok().and_then(|it| it.seconds);
        let sum = sessions.entry(&group.wanted.session).or_default();
        *sum = sum.saturating_add(seconds.unwrap_or(0));
    }
    Duration::from_secs(sessions.into_values().max().unwrap_or(0))
}

/// Counts the people of an event that a command of this run caused.
fn count(progress: &mut Progress, calls: &Calls, message: &Incoming) {
    let Ok(event) = serde_json::from_slice::<Event>(&message.body) else {
        return;
    };
    let number = progress::cause(&event).and_then(|id| calls.number(id));
    if let Some(number) = number {
        progress.event(&event, number);
    }
}
