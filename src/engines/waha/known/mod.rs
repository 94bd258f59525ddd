//! What a session knows of a group, and what follows when it is told something.
//!
//! An event is a *change of what is known*. The same thing is told more than once: by the answer to
//! our own command, by WAHA's newer event and by its older one, by the WebSocket, again after a
//! timeout, and by the comparison that finds what nobody told. Whoever tells first causes the event;
//! the others change nothing. So the events of a group always add up to the group.
//!
//! What is told is not always true: a list may be old, or lack people. So an absence, and whatever else
//! contradicts what is known, is a doubt until another look confirms it (`doubts`); and somebody who
//! may be another by another id (`identity`) is looked at before anything is told of them.
//!
//! Certain at once: what WAHA tells of somebody whose ids are known, an answer to our own command, and
//! somebody new whom nobody in the group can be by another id. After a second look, one lag later: who
//! is missing, another role, the own leaving. After sixty lags: that somebody who was told to be gone
//! is back. A look that may show otherwise ends a doubt, and one that is begun within a lag of what was
//! heard tells nothing against it. Who may be another, or the account itself, by an id that nobody
//! matches is left open until ids are told, or a list has more private ids than people to match them.
//!
//! Pure: no clock, no store. `book` keeps it and publishes what follows.

mod causes;
mod comparing;
mod doubts;
mod emitting;
mod held;
mod identity;
mod joining;
mod newcomers;
mod own;
mod pairing;
mod telling;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::makings::Makings;
use super::wire::{Person, Seen, comparable, is_phone};
use crate::contract::{
    CommandId, Description, Event, GroupId, NotificationType, ParticipantId, Role, SessionName,
    Subject,
};
use crate::store::pending_events::Headers;

pub(super) use causes::{Cause, What};
use doubts::Doubt;
pub(super) use doubts::{AllMissing, Lag, Verdict, weigh_all};
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

/// Somebody who is in the group, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    /// As what; none for who is gone.
    #[serde(rename = "value")]
    role: Option<Role>,
    /// When it became so, by the teller's clock; milliseconds.
    at: i64,
    /// When we were told, by ours.
    heard: i64,
    /// Nobody told: a look showed it.
    #[serde(default)]
    shown: bool,
    /// No event has named them yet, so the id that they are known by may still change.
    #[serde(default)]
    quiet: bool,
    /// A look showed otherwise.
    #[serde(default)]
    doubt: Option<Doubt>,
}

/// The account has joined, and the event that says so waits for a whole list of people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Joined {
    command: Option<CommandId>,
    author: Option<ParticipantId>,
    how: NotificationType,
    /// When we were told, by our clock; milliseconds.
    heard: i64,
    /// Nobody told: a look showed it.
    shown: bool,
}

/// Somebody who was told to have come, by a private id that nobody can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Newcomer {
    /// When they came, by the teller's clock; milliseconds.
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
    /// That the account is out was not told: looks showed it.
    out_shown: bool,
    /// A look showed otherwise.
    inside_doubt: Option<Doubt>,
    joined: Option<Joined>,
    /// Everybody in it is known.
    whole: bool,
    subject: Option<Told<Subject>>,
    description: Option<Told<Description>>,
    info_admin_only: Option<Told<bool>>,
    messages_admin_only: Option<Told<bool>>,
    members_can_add: Option<Told<bool>>,
    approval_required: Option<Told<bool>>,
    invite: Option<Told<String>>,
    /// Who is in it, and who was, by the id that events call them by.
    people: BTreeMap<ParticipantId, Member>,
    /// Private ids whose phone is known.
    phones: BTreeMap<ParticipantId, ParticipantId>,
    /// Our own commands that are under way, or were a moment ago.
    causes: Vec<Cause>,
    /// When something was told last that could not be taken: a look will tell.
    unclear: Option<i64>,
    /// When the latest look was begun; one that was begun earlier tells nothing any more.
    last_look: i64,
    /// How many looks in a row could not tell everything.
    unclear_looks: u8,
    /// When everybody in it was shown; who is not known was not in it then.
    shown: i64,
    /// When that was heard, by our clock: a look that is begun soon after it may be older.
    shown_heard: i64,
    /// Who was told to have come by a private id alone, and may be one of the known: looks will tell.
    newcomers: BTreeMap<ParticipantId, Newcomer>,
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
    /// Which group each `CreateGroup` has made.
    pub(super) makings: Makings,
    /// Looks show none of its groups, or few.
    pub(super) all_missing: Option<AllMissing>,
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
    /// A look shows the group like this, as it was when the report was begun or a while before.
    Compared(Box<Seen>),
    /// WAHA shows the group neither in its list nor by itself.
    Missing,
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

/// What is known of a person in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// As what they are in it; none for who is gone.
    pub(super) role: Option<Role>,
    /// When that was heard, by our clock; milliseconds.
    pub(super) heard: i64,
    /// Whether it was told (by WAHA's event or a command's answer), and not only shown by a look.
    pub(super) told: bool,
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
    /// What is known is not enough: the group is to be looked at, no sooner than this.
    pub(super) look_at: Option<i64>,
    /// What was told waits until the group has been looked at.
    pub(super) held: bool,
}

impl Claim {
    /// The people to whom something is told to have happened.
    pub(super) fn people(&self) -> &[Person] {
        match self {
            Self::Came(people, _)
            | Self::Went(people, _)
            | Self::Promoted(people)
            | Self::Demoted(people) => people,
            _ => &[],
        }
    }
}

impl Known {
    /// Takes in a report.
    pub(super) fn hear(
        &mut self,
        place: Place<'_>,
        session: &mut KnownSession,
        report: &Report,
        lag: Lag,
    ) -> Follows {
        causes::forget_old(&mut self.causes, report.now);
        session
            .creations
            .retain(|creation| causes::is_recent(creation.at, report.now));
        // The own leaving comes after what happened before it, the own joining before the rest.
        let is_leaving = |claim: &Claim| !matches!(claim, Claim::Joined(_) | Claim::Compared(_));
        let mut follows = Follows::default();
        if report.claims.iter().all(is_leaving) {
            follows.add(self.release((place, lag), session, report, None));
        }
        if self.hold(report) {
            // The list that the join waits for names people as they are named here.
            Telling::new(self, place, session, report, lag).learn_named();
            follows.held = true;
            follows.look_at = Some(report.now);
            return follows;
        }
        let was_open = self.is_open();
        let mut telling = Telling::new(self, place, session, report, lag);
        telling.hear_all();
        follows.add(telling.follows);
        let looked = report.source == Source::Comparison && !was_open;
        let looked = looked.then_some(report.heard);
        follows.add(self.release((place, lag), session, report, looked));
        // Who is gone is kept for a day, since what is told late is about them too.
        self.people
            .retain(|_, told| told.role.is_some() || report.now - told.heard < DAY);
        self.forget_strangers();
        follows
    }

    /// Forgets the ids of people of whom nothing is known.
    fn forget_strangers(&mut self) {
        if self.has_held() {
            return;
        }
        let Self {
            people,
            phones,
            causes,
            ..
        } = self;
        let named = causes.iter().flat_map(|cause| cause.what.named(None));
        let named = named.chain(people.keys()).map(comparable);
        let named: BTreeSet<_> = named.collect();
        let of_note = |id: &ParticipantId| named.contains(&comparable(id));
        let strangers = phones
            .iter()
            .filter(|(lid, phone)| !of_note(lid) && !of_note(phone));
        let strangers: Vec<_> = strangers.map(|(lid, _)| lid.clone()).collect();
        for lid in strangers {
            phones.remove(&lid);
        }
    }

    /// Everybody who is in the group.
    fn members(&self) -> impl Iterator<Item = (&ParticipantId, &Member)> {
        self.people
            .iter()
            .filter(|(_, member)| member.role.is_some())
    }

    /// The members whose phone alone is known, and who are not among these people: whether they are
    /// missing cannot be told by a list of private ids.
    pub(super) fn unpaired(&self, people: &[Person]) -> Vec<ParticipantId> {
        let paired: BTreeSet<_> = self.phones.values().map(comparable).collect();
        let open = self.members().map(|(id, _)| id).filter(|id| {
            is_phone(id)
                && !paired.contains(&comparable(id))
                && !people.iter().any(|person| person.is(id))
        });
        open.cloned().collect()
    }

    /// What was heard last of a person, by any of their ids; none where nothing was.
    pub(super) fn person(&self, ids: &[ParticipantId]) -> Option<Standing> {
        let directory = identity::Directory::new(&self.people, &self.phones);
        let ids = directory.ids_of(ids, &self.phones);
        let member = self.people.get(&directory.key(&ids)?)?;
        Some(Standing {
            role: member.role,
            heard: member.heard,
            told: !member.shown,
        })
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
