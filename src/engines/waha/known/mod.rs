//! What a session knows of a group, and what follows when it is told something.
//!
//! An event is a *change of what is known*. The same thing is told more than once: by the answer to
//! our own command, by WAHA's newer event and by its older one, by the WebSocket, again after a
//! timeout, and by the comparison that finds what nobody told. Whoever tells first causes the event;
//! the others change nothing. So the events of a group always add up to the group.
//!
//! Pure: no clock, no store. `book` keeps it and publishes what follows.

mod causes;
mod emitting;
mod held;
mod own;
mod telling;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::wire::{Person, Seen};
use crate::contract::{
    CommandId, Description, Event, GroupId, NotificationType, ParticipantId, Role, SessionName,
    Subject,
};
use crate::store::pending_events::Headers;

pub(super) use causes::{Cause, What};
use telling::Telling;

/// A day, in milliseconds.
const DAY: i64 = 86_400_000;

/// Something that was told, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told<T> {
    value: T,
    /// When it became so, by the teller's clock; milliseconds.
    at: i64,
    /// When we were told, by ours.
    heard: i64,
}

/// What is known of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    /// How many events there were.
    sequence: u64,
    /// Whether the session's account is in it.
    inside: Option<Told<bool>>,
    /// Everybody in it is known.
    whole: bool,
    subject: Option<Told<Subject>>,
    description: Option<Told<Description>>,
    info_admin_only: Option<Told<bool>>,
    messages_admin_only: Option<Told<bool>>,
    members_can_add: Option<Told<bool>>,
    approval_required: Option<Told<bool>>,
    invite: Option<Told<String>>,
    /// Who is in it as what; none for who is gone.
    people: BTreeMap<ParticipantId, Told<Option<Role>>>,
    /// Private ids whose phone is known.
    phones: BTreeMap<ParticipantId, ParticipantId>,
    /// Our own commands that are under way, or were a moment ago.
    causes: Vec<Cause>,
    /// When everybody in it was shown; who is not named since was not in it then.
    shown: i64,
    /// Notifications that wait for a look at the group.
    held: Vec<Report>,
}

/// What a session knows beside its groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct KnownSession {
    /// Its groups have been looked at: a new one is news.
    pub(super) looked: bool,
    /// Groups that commands are creating, or were a moment ago.
    pub(super) creations: Vec<Creation>,
}

/// A `CreateGroup` whose group is to be recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Creation {
    pub(super) command: CommandId,
    pub(super) subject: Subject,
    /// When it was begun; milliseconds by our clock.
    pub(super) at: i64,
}

/// Who tells; the ids of the events follow from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Source {
    /// WAHA, by a notification of this id.
    Notification(String),
    /// Our own command, by its answer.
    Command(CommandId),
    /// A comparison: nobody told.
    Comparison,
}

/// What somebody tells of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Claim {
    /// The account is in it now, and this is the group.
    Joined(Box<Seen>),
    /// The account is out of it.
    Left(NotificationType),
    /// These came.
    Came(Vec<Person>, NotificationType),
    /// These went.
    Went(Vec<Person>, NotificationType),
    /// These are admins now.
    Promoted(Vec<Person>),
    /// These are no admins any more.
    Demoted(Vec<Person>),
    /// What is told of the group's texts and settings is so now.
    Updated(Box<Seen>),
    /// The link has become this.
    Invite(String),
    /// The link is this, and may have been so before.
    InviteShown(String),
    /// This is the whole group, as it was when the report was begun.
    Compared(Box<Seen>),
}

/// A claim with its circumstances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) source: Source,
    /// When it became so, by the teller's clock; milliseconds.
    pub(super) at: i64,
    /// When we heard of it, or (comparison, command) began to ask; by our clock.
    pub(super) heard: i64,
    /// Now, by our clock.
    pub(super) now: i64,
    /// The ids of the session's own account, the phone's first.
    pub(super) me: Vec<ParticipantId>,
    /// Who did it, where that was told.
    pub(super) author: Option<Person>,
    pub(super) claims: Vec<Claim>,
    /// The headers of the trace that it belongs to.
    pub(super) trace: Headers,
}

/// Whose group it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) session: &'a SessionName,
    pub(super) group: &'a GroupId,
}

/// What follows from a report.
#[derive(Debug, Default)]
pub(super) struct Follows {
    /// The events, in order.
    pub(super) events: Vec<Event>,
    /// Something was told that is older than what is known.
    pub(super) outdated: bool,
    /// What was told is not enough: the group had better be looked at.
    pub(super) look: bool,
    /// What was told waits until the group has been looked at.
    pub(super) held: bool,
}

impl Known {
    /// Takes in a report.
    pub(super) fn hear(
        &mut self,
        place: Place<'_>,
        session: &mut KnownSession,
        report: &Report,
    ) -> Follows {
        causes::forget_old(&mut self.causes, report.now);
        session
            .creations
            .retain(|creation| causes::is_recent(creation.at, report.now));
        // The own leaving comes after what happened before it, the own joining before the rest.
        let is_leaving = |claim: &Claim| !matches!(claim, Claim::Joined(_) | Claim::Compared(_));
        let mut follows = if report.claims.iter().all(is_leaving) {
            self.release(place, session, report, None)
        } else {
            Follows::default()
        };
        if self.hold(report) {
            follows.held = true;
            follows.look = true;
            return follows;
        }
        let was_inside = self.is_inside();
        let mut telling = Telling::new(self, place, session, report);
        telling.hear_all();
        let told = telling.follows;
        let looked = report.source == Source::Comparison && !was_inside;
        let after = self.release(place, session, report, looked.then_some(report.heard));
        for next in [told, after] {
            follows.events.extend(next.events);
            follows.outdated |= next.outdated;
            follows.look |= next.look;
        }
        // Who is gone is kept for a day, since what is told late is about them too.
        self.people
            .retain(|_, told| told.value.is_some() || report.now - told.heard < DAY);
        follows
    }

    /// A command of ours is about to be carried out.
    pub(super) fn expect(&mut self, cause: Cause) {
        causes::forget_old(&mut self.causes, cause.at);
        self.causes.push(cause);
    }

    /// A command of ours came to nothing.
    pub(super) fn give_up(&mut self, command: &CommandId) {
        self.causes
            .retain(|cause| cause.told || cause.command != *command);
    }

    /// Whether the account is known to be in the group.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| inside.value)
    }

    /// Whether the account is known to have been in the group, and is out.
    pub(super) fn was_inside(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| !inside.value)
    }

    /// Whether something was heard of the account's being in it since.
    pub(super) fn moved_since(&self, since: i64) -> bool {
        self.inside.as_ref().is_some_and(|it| it.heard >= since)
    }
}

#[cfg(test)]
mod tests;
