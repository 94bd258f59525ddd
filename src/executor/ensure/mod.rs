//! `EnsureGroup`: a command that is executed in parts, until the group is as it shall be.
//!
//! The group is read each time the command is taken up, and only the difference is done, step by step. Each
//! step is a part: a command with a key of its own in the ledger, recorded before and after like any other.
//! What a part will do is recorded before it is started ([`Idempotency::note`]), so that a worker that takes
//! the command up finishes the part that was started, and then goes on from the group as it is by then.
//! A refusal is an outcome; what exceeds the account's limits defers the whole command.

mod difference;
mod progress;
mod settings;
#[cfg(test)]
mod tests;

use std::time::Instant;

use serde_json::value::to_raw_value;

use crate::contract::{
    Command, CommandResult, EnsureGroup, ErrorBody, ErrorCode, GetGroup, Group, GroupId,
};
use crate::engines::{Call, Effect, EngineError};

use super::decode::fingerprint;
use super::idempotency::{Executed, Idempotency};
use super::{Failure, accounts};
use difference::{View, Wish};
use progress::{Planned, Progress};

/// Executes an `EnsureGroup`.
pub(super) struct Ensure<'a> {
    pub(super) idempotency: &'a Idempotency,
    pub(super) call: &'a Call,
    pub(super) wanted: &'a EnsureGroup,
}

impl Ensure<'_> {
    /// Takes the command up, and goes on until the group is as wanted.
    pub(super) async fn run(&self) -> Result<Effect, Failure> {
        let begun = Instant::now();
        let engine = &self.idempotency.engine;
        let me = engine.engine().account(self.call).await?;
        let wish = Wish {
            wanted: self.wanted,
            me: &me,
            most: engine.accounts().most_added(),
        };
        let mut progress = Progress::new(self.wanted);
        while let Some(planned) = self.noted(progress.parts()).await? {
            self.carry_out(&mut progress, planned).await?;
        }
        let read = self.read(progress.group()).await?;
        progress.view = read.as_ref().map(View::of);
        if self.wanted.plan {
            return Ok(self.plan(&wish, progress, read)?);
        }
        self.check_removal(&wish, &progress)?;
        let earlier = progress.parts();
        while let Some(step) = wish.next(progress.view.as_ref(), &progress.tried) {
            if begun.elapsed() > engine.timeout() {
                return Err(Failure::Unfinished);
            }
            let from = progress.now(&step);
            let planned = self.note(progress.parts(), Planned { step, from }).await?;
            self.carry_out(&mut progress, planned).await?;
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
        mut progress: Progress<'_>,
        group: Option<Group>,
    ) -> Result<Effect, EngineError> {
        let mut costs = Vec::new();
        while let Some(step) = wish.next(progress.view.as_ref(), &progress.tried) {
            costs.push(accounts::Cost::of(step.command_type(), step.people().len()));
            progress.assume(&step);
        }
        let wait = self.idempotency.engine.accounts().time_for(&costs);
        let mut planned = progress.planned(group);
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
        let note = self.idempotency.noted(&self.part(note_of(number))).await?;
        note.as_deref().map(progress::parsed).transpose()
    }

    /// Records which step is the next.
    async fn note(&self, number: u32, planned: Planned) -> Result<Planned, Failure> {
        let note = to_raw_value(&planned).map_err(|error| internal(&error))?;
        let noted = self
            .idempotency
            .note(&self.part(note_of(number)), note)
            .await?;
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
        // Boxed, since a part is carried out as the whole is.
        match Box::pin(self.idempotency.carry_out(&part)).await? {
            Executed::Done { record, .. } => progress.learn(planned, record),
            Executed::Reused => Err(Failure::InDoubt),
        }
    }

    async fn read(&self, group: Option<&GroupId>) -> Result<Option<Group>, Failure> {
        let Some(group_id) = group.cloned() else {
            return Ok(None);
        };
        let asking = Call {
            command: Command::GetGroup(GetGroup { group_id }),
            ..self.call.clone()
        };
        let effect = self.idempotency.engine.execute(&asking).await?;
        progress::parsed(&effect.result).map(Some)
    }
}

/// Leaves the part that was started last to the worker that gets the command next.
pub(super) async fn leave(idempotency: &Idempotency, call: &Call) {
    let part = |number| Call {
        part: Some(number),
        ..call.clone()
    };
    let mut step = 0;
    while let Some(true) = idempotency.is_noted(&part(note_of(step))).await {
        step += 1;
    }
    if let Some(last) = step.checked_sub(1) {
        idempotency.leave(part(part_of(last)).key()).await;
    }
}

/// The part that carries out a step; the one before it says which step that is.
const fn part_of(step: u32) -> u32 {
    2 * step + 1
}

/// The part that says which step this is.
pub(super) const fn note_of(step: u32) -> u32 {
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
