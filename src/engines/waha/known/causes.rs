//! Our own commands, as causes of what WAHA tells: so an event carries its command's id, and what was
//! told already is recognised when WAHA tells it too, however late.
//!
//! A cause is written down before the request is sent. What WAHA tells within two minutes, of the
//! same kind and about the same person or text, is that command's doing. The one mistake that is
//! possible: somebody does the very same to the same person within that time.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::identity::Ids;
use crate::contract::{CommandId, Description, ParticipantId, Subject};

/// For how long something is put down to a command; WAHA's own retries take half a minute.
const RECENT: i64 = 120_000;

/// A command of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engines::waha) struct Cause {
    pub(in crate::engines::waha) command: CommandId,
    /// When it was begun; milliseconds by our clock.
    pub(in crate::engines::waha) at: i64,
    /// Its answer has been told: what WAHA tells of it now is an echo.
    pub(in crate::engines::waha) told: bool,
    pub(in crate::engines::waha) what: What,
}

/// What a command is to bring about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engines::waha) enum What {
    Come(BTreeSet<ParticipantId>),
    Go(BTreeSet<ParticipantId>),
    Promote(BTreeSet<ParticipantId>),
    Demote(BTreeSet<ParticipantId>),
    Leave,
    Subject(Subject),
    Description(Description),
    InfoAdminOnly(bool),
    Invite,
}

/// What happens to one person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Come,
    Go,
    Promote,
    Demote,
}

/// Whose doing something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nobody's that we know of.
    Unknown,
    /// This command's, and it has not been told yet.
    Command(CommandId),
    /// A command's, and it has been told.
    Echo,
}

impl What {
    fn people(&mut self, kind: Kind) -> Option<&mut BTreeSet<ParticipantId>> {
        match (self, kind) {
            (Self::Come(people), Kind::Come)
            | (Self::Go(people), Kind::Go)
            | (Self::Promote(people), Kind::Promote)
            | (Self::Demote(people), Kind::Demote) => Some(people),
            _ => None,
        }
    }

    /// The people to whom it is to happen; those of the given kind alone where one is given.
    pub(super) fn named(&self, kind: Option<Kind>) -> impl Iterator<Item = &ParticipantId> {
        let people = match (self, kind) {
            (Self::Come(people), None | Some(Kind::Come))
            | (Self::Go(people), None | Some(Kind::Go))
            | (Self::Promote(people), None | Some(Kind::Promote))
            | (Self::Demote(people), None | Some(Kind::Demote)) => Some(people),
            _ => None,
        };
        people.into_iter().flatten()
    }
}

pub(super) const fn is_recent(at: i64, now: i64) -> bool {
    now - at < RECENT
}

pub(super) fn forget_old(causes: &mut Vec<Cause>, now: i64) {
    causes.retain(|cause| is_recent(cause.at, now));
}

/// Who tells of a change, as far as it says which causes it can have.
#[derive(Debug, Clone, Copy)]
pub(super) enum By<'a> {
    /// WAHA: any command's doing, or the echo of one.
    Waha,
    /// A comparison. It echoes nothing: what was told is in what is known.
    Comparison,
    /// A command that tells of itself, and of nothing else.
    Command(&'a CommandId),
}

/// Whose doing it is that something happened to a person; that command is then done with them.
pub(super) fn of_person(causes: &mut [Cause], by: By<'_>, kind: Kind, who: &Ids) -> Doing {
    for cause in causes.iter_mut().filter(|cause| cause.may_be(by)) {
        let Some(people) = cause.what.people(kind) else {
            continue;
        };
        if let Some(named) = people.iter().find(|id| who.has(id)).cloned() {
            people.remove(&named);
            return doing(cause);
        }
    }
    Doing::Unknown
}

/// Whose doing a text, a setting or our own leaving is; what was expected is handed back beside it.
pub(super) fn of_change(
    causes: &mut Vec<Cause>,
    by: By<'_>,
    is_it: impl Fn(&What) -> bool,
) -> (Doing, Option<What>) {
    let fits = |cause: &Cause| cause.may_be(by) && is_it(&cause.what);
    match causes.iter().position(fits) {
        None => (Doing::Unknown, None),
        Some(index) => {
            let cause = causes.remove(index);
            (doing(&cause), Some(cause.what))
        }
    }
}

impl Cause {
    fn may_be(&self, by: By<'_>) -> bool {
        match by {
            By::Waha => true,
            By::Comparison => !self.told,
            By::Command(command) => !self.told && self.command == *command,
        }
    }
}

fn doing(cause: &Cause) -> Doing {
    if cause.told {
        Doing::Echo
    } else {
        Doing::Command(cause.command.clone())
    }
}
