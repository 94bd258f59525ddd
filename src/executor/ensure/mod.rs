//! `EnsureGroup`: a command that is executed in parts, until the group is as it shall be.
//!
//! The group is read each time the command is taken up, and only the difference is done, step by step. Each
//! step is a part: a command with a key of its own in the ledger, recorded before and after like any other.
//! What a part will do is recorded before it is started ([`Parts::note`]), so that a worker that takes
//! the command up finishes the part that was started, and then goes on from the group as it is by then.
//! A refusal is an outcome; what exceeds the account's limits defers the whole command.

mod difference;
mod progress;
#[cfg(test)]
mod tests;

use std::time::Instant;

use async_trait::async_trait;
use serde_json::value::{RawValue, to_raw_value};

use crate::contract::{
    Command, CommandResult, EnsureGroup, ErrorBody, ErrorCode, GetGroup, Group, GroupId,
};
use crate::engines::{Call, Disposition, Effect, EngineError};
use crate::store::ledger::Record;

use super::decode::fingerprint;
use super::guard::Guarded;
use super::{Failure, accounts};
use difference::{Step, View, Wish};
use progress::{Planned, Progress};

/// The ledger's side of a command in parts.
#[async_trait]
pub(super) trait Parts: Sync {
    fn engine(&self) -> &Guarded;

    /// Carries a part out, or returns its recorded outcome.
    async fn carry_out_part(&self, part: &Call) -> Result<Record, Failure>;

    /// The value that was noted under the key of this call.
    async fn noted(&self, call: &Call) -> Result<Option<Box<RawValue>>, Failure>;

    /// Notes a value under the key of this call; returns the first that was noted.
    async fn note(&self, call: &Call, value: Box<RawValue>) -> Result<Box<RawValue>, Failure>;
}

/// Executes an `EnsureGroup`.
pub(super) struct Ensure<'a> {
    pub(super) parts: &'a dyn Parts,
    pub(super) call: &'a Call,
    pub(super) wanted: &'a EnsureGroup,
}

impl Ensure<'_> {
    /// Takes the command up, and goes on until the group is as wanted.
    ///
    /// # Errors
    /// A refusal comes with the events of the parts that are done.
    pub(super) async fn run(&self) -> Result<Effect, Failure> {
        let mut progress = Progress::new(self.wanted);
        let error = match self.go_on(&mut progress).await {
            Err(Failure::Engine(error)) => error,
            other => return other,
        };
        let error = self.with_group(error, &progress);
        if error.disposition() == Disposition::Reject {
            let events = progress.take_events();
            return Err(Failure::Refused { error, events });
        }
        Err(Failure::Engine(error))
    }

    /// A producer that gets no result learns from the error which group was created.
    fn with_group(&self, error: EngineError, progress: &Progress<'_>) -> EngineError {
        let created = progress.group().filter(|_| self.wanted.group_id.is_none());
        let Some(created) = created else {
            return error;
        };
        let said = |message| format!("{message} (the group {created} was created)");
        match error {
            EngineError::Refused { code, message } => EngineError::Refused {
                code,
                message: said(message),
            },
            EngineError::RateLimited { message, after } => EngineError::RateLimited {
                message: said(message),
                after,
            },
            other => other,
        }
    }

    async fn go_on(&self, progress: &mut Progress<'_>) -> Result<Effect, Failure> {
        let begun = Instant::now();
        let engine = self.parts.engine();
        let me = engine.engine().account(self.call).await?;
        if self.wanted.exact && me.is_empty() {
            // Nobody could tell that it must not be removed.
            return Err(Failure::Engine(EngineError::NotReady {
                message:
                    "the engine does not tell the id of the session's account, which an exact \
                          EnsureGroup must not remove"
                        .to_owned(),
                after: None,
            }));
        }
        let wish = Wish {
            wanted: self.wanted,
            me: &me,
            most: engine.accounts().most_added(),
        };
        while let Some(planned) = self.noted(progress.parts()).await? {
            self.carry_out(progress, planned).await?;
        }
        let read = self.read(progress.group()).await?;
        progress.view = read.as_ref().map(View::of);
        if self.wanted.plan {
            return Ok(self.plan(&wish, progress, read)?);
        }
        let names_all = |view: &View| view.members.have_phones();
        if progress.view.as_ref().is_some_and(names_all) {
            self.check_removal(&wish, progress)?;
        }
        let earlier = progress.parts();
        while let Some(step) = wish.next(progress.view.as_ref(), &progress.tried) {
            if begun.elapsed() > engine.timeout() {
                return Err(Failure::Unfinished);
            }
            if let Step::Remove(_) = step {
                self.check_removal(&wish, progress)?;
            }
            let from = progress.now(&step);
            let planned = self.note(progress.parts(), Planned { step, from }).await?;
            self.carry_out(progress, planned).await?;
        }
        let hides = |view: &View| wish.hides_somebody(view, &progress.tried);
        if self.wanted.exact && progress.view.as_ref().is_some_and(hides) {
            progress.removal_is_unclear();
        }
        let group = if progress.parts() == earlier {
            read
        } else {
            self.read(progress.group()).await?
        };
        let (ensured, events) = progress.finish(group);
        let result = CommandResult::Ensured(Box::new(ensured));
        Ok(Effect::new(&result, events)?)
    }

    /// Says what would be done, as if nobody refused.
    fn plan(
        &self,
        wish: &Wish<'_>,
        progress: &mut Progress<'_>,
        group: Option<Group>,
    ) -> Result<Effect, EngineError> {
        let mut costs = Vec::new();
        while let Some(step) = wish.next(progress.view.as_ref(), &progress.tried) {
            costs.extend(accounts::Cost::of(step.command_type(), step.people().len()));
            progress.assume(&step);
        }
        let wait = self.parts.engine().accounts().time_for(&costs);
        let (mut planned, _) = progress.finish(group);
        planned.seconds = Some(wait.as_secs());
        Effect::new(&CommandResult::Ensured(Box::new(planned)), Vec::new())
    }

    /// More than half of a group is not removed by a wish that may be a mistake, such as a file cut off.
    fn check_removal(&self, wish: &Wish<'_>, progress: &Progress<'_>) -> Result<(), EngineError> {
        let Some(view) = &progress.view else {
            return Ok(());
        };
        if self.wanted.confirm_remove || progress.tried.has_removed() {
            return Ok(());
        }
        let (unwanted, all) = (
            wish.superfluous(view, &progress.tried).len(),
            view.members.len(),
        );
        if 2 * unwanted <= all {
            return Ok(());
        }
        Err(EngineError::Refused {
            code: ErrorCode::NotAllowed,
            message: format!(
                "this removes {unwanted} of the group's {all} members, which is more than half; if \
                 that is wanted, send it with \"confirmRemove\": true and a new id"
            ),
        })
    }

    /// The step that an earlier attempt has recorded with this number.
    async fn noted(&self, number: u32) -> Result<Option<Planned>, Failure> {
        let note = self.parts.noted(&self.part(note_of(number))).await?;
        note.as_deref().map(progress::parsed).transpose()
    }

    /// Records which step is the next.
    async fn note(&self, number: u32, planned: Planned) -> Result<Planned, Failure> {
        let note = to_raw_value(&planned).map_err(|error| internal(&error))?;
        let noted = self.parts.note(&self.part(note_of(number)), note).await?;
        progress::parsed(&noted)
    }

    fn part(&self, number: u32) -> Call {
        Call {
            part: Some(number),
            ..self.call.clone()
        }
    }

    /// Does one part, or learns what came of it.
    async fn carry_out(
        &self,
        progress: &mut Progress<'_>,
        planned: Planned,
    ) -> Result<(), Failure> {
        let Some(command) = planned.step.command(self.wanted, progress.group()) else {
            return Err(internal(&"a step has no command"));
        };
        let part = Call {
            fingerprint: fingerprint(&command),
            command,
            ..self.part(part_of(progress.parts()))
        };
        let record = self.parts.carry_out_part(&part).await?;
        progress.learn(planned, record)
    }

    async fn read(&self, group: Option<&GroupId>) -> Result<Option<Group>, Failure> {
        let Some(group_id) = group.cloned() else {
            return Ok(None);
        };
        let asking = Call {
            command: Command::GetGroup(GetGroup { group_id }),
            ..self.call.clone()
        };
        let effect = self.parts.engine().execute(&asking).await?;
        progress::parsed(&effect.result).map(Some)
    }
}

/// The parts of a command, in pairs: the note of a step, and the part that carries it out.
pub(super) fn steps(call: &Call) -> impl Iterator<Item = (Call, Call)> {
    let part = |number| Call {
        part: Some(number),
        ..call.clone()
    };
    (0..).map(move |step| (part(note_of(step)), part(part_of(step))))
}

/// The part that carries out a step; the one before it says which step that is.
const fn part_of(step: u32) -> u32 {
    2 * step + 1
}

/// The part that says which step this is.
const fn note_of(step: u32) -> u32 {
    2 * step
}

/// A fault of this process.
fn internal(what: &dyn std::fmt::Display) -> Failure {
    Failure::Engine(EngineError::Refused {
        code: ErrorCode::Internal,
        message: format!("EnsureGroup: {what}; report this"),
    })
}

/// A refusal of a part that is one of the whole command.
fn refusal(error: ErrorBody) -> EngineError {
    EngineError::Refused {
        code: error.code,
        message: error.message,
    }
}
