//! Synchronises the state of groups from unreliable sources, and derives the events from its changes.
//!
//! An event is a *change of the state*. The same change is reported more than once: by the answer to
//! our own command, by WAHA's newer event and by its older one, by the WebSocket, again after a
//! timeout, and by the comparison that finds unreported changes. The first source to report a change
//! produces the event; later reports of it are no-ops. So the events of a group always add up to the
//! group.
//!
//! Reports are not always true: a list may be old, or lack people. So an absence, and anything else
//! that contradicts the state, is unconfirmed until another snapshot agrees (`confirmation`); and if
//! somebody may be a known person by another id (`member_index`), the group is read before an event
//! names them.
//!
//! Certain at once: a notification about somebody whose ids are known, an answer to our own command,
//! and a new person who cannot be a known member by another id. After a second snapshot, one lag
//! later: an absence, another role, the own departure. After sixty lags: the return of somebody whose
//! departure was reported. A snapshot that may show otherwise ends an unconfirmed change, and one that
//! is requested within a lag of a report does not count against it. An unmatched id that may belong to
//! a known member, or to the account itself, stays undecided until its pair is reported, or a list has
//! more private ids than people to match them.
//!
//! Pure apart from `state_store`: no clock, no store. `state_store` stores the state, and `ops`
//! publishes the events.

mod apply_snapshot;
mod confirmation;
pub(super) mod creation_records;
mod event_builder;
mod group_settings;
mod held_notifications;
mod join_requests;
mod link_ids;
mod member_index;
mod numbers;
mod own_account;
mod own_membership;
mod pending_commands;
mod person;
mod phone_directory;
mod reducer;
mod snapshot;
pub(super) mod state_store;
mod unmatched_joins;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::contract::{
    CommandId, Description, EngineName, Event, GroupId, JoinRequestAction, NotificationType,
    ParticipantId, PictureChange, RequestMethod, Role, SessionName, Subject,
};
use crate::store::pending_events::Headers;
use creation_records::CreationRecords;

use confirmation::UnconfirmedChange;
pub(super) use confirmation::{Confirmation, Lag, MissingGroups, confirm_missing_groups};
use join_requests::RequestState;
pub use numbers::comparable;
pub(super) use numbers::{is_phone, is_same};
pub(super) use pending_commands::{ExpectedChange, PendingCommand};
pub(super) use person::Person;
pub(super) use phone_directory::PhoneDirectory;
use reducer::Reducer;
pub(super) use snapshot::{Completeness, GroupSnapshot, number_as_subject};

/// A day, in milliseconds.
const DAY: i64 = 86_400_000;

/// A value that was reported, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_field_names,
    reason = "all records name this time `observed_at`"
)]
struct Observed<T> {
    value: T,
    /// When it became so, by the reporter's clock; milliseconds.
    at: i64,
    /// When we learned of it, by our clock.
    #[serde(rename = "heard")]
    observed_at: i64,
}

/// A current or former member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MemberState {
    /// The role; none for a former member.
    #[serde(rename = "value")]
    role: Option<Role>,
    /// When it became so, by the reporter's clock; milliseconds.
    at: i64,
    /// When we learned of it, by our clock.
    #[serde(rename = "heard")]
    observed_at: i64,
    /// Only a snapshot showed it; no notification or answer reported it.
    #[serde(default, rename = "shown")]
    from_snapshot: bool,
    /// No event has named this member yet, so the id that events will use may still change.
    #[serde(default, rename = "quiet")]
    unpublished: bool,
    /// A snapshot contradicts the role.
    #[serde(default, rename = "doubt")]
    unconfirmed: Option<UnconfirmedChange>,
}

/// The account has joined, and the event that reports it waits for a complete list of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PendingJoin {
    command: Option<CommandId>,
    author: Option<ParticipantId>,
    how: NotificationType,
    /// When we learned of it, by our clock; milliseconds.
    #[serde(rename = "heard")]
    observed_at: i64,
    /// Only a snapshot showed it; no notification or answer reported it.
    #[serde(rename = "shown")]
    from_snapshot: bool,
}

/// A reported join by a private id that matches no known person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct UnmatchedJoin {
    /// When they joined, by the reporter's clock; milliseconds.
    at: i64,
    /// When we learned of it, by our clock.
    #[serde(rename = "heard")]
    observed_at: i64,
}

/// What our own commands last did to the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PictureReport {
    change: PictureChange,
    /// The command: when it is executed again after a crash, that is no second change.
    by: CommandId,
}

/// What a session knows of a group. The serialised names are those of the stored rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct GroupState {
    /// The number of events so far.
    sequence: u64,
    /// Whether the session's account is a member.
    inside: Option<Observed<bool>>,
    /// Only snapshots showed that the account is out.
    #[serde(rename = "out_shown")]
    left_by_snapshot: bool,
    /// A snapshot contradicts `inside`.
    #[serde(rename = "inside_doubt")]
    inside_unconfirmed: Option<UnconfirmedChange>,
    #[serde(rename = "joined")]
    pending_join: Option<PendingJoin>,
    /// All members are known.
    #[serde(rename = "whole")]
    complete: bool,
    subject: Option<Observed<Subject>>,
    description: Option<Observed<Description>>,
    info_admin_only: Option<Observed<bool>>,
    messages_admin_only: Option<Observed<bool>>,
    members_can_add: Option<Observed<bool>>,
    approval_required: Option<Observed<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members_can_share_history: Option<Observed<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disappearing_seconds: Option<Observed<u32>>,
    invite: Option<Observed<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<Observed<PictureReport>>,
    /// Current and former members, by the id that events use for them.
    people: BTreeMap<ParticipantId, MemberState>,
    /// Requests to join that are undecided, or were decided a short time ago.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    requests: BTreeMap<ParticipantId, RequestState>,
    /// From private id to phone.
    phones: BTreeMap<ParticipantId, ParticipantId>,
    /// Our own commands that are running or ended a short time ago.
    #[serde(rename = "causes")]
    pending_commands: Vec<PendingCommand>,
    /// When a report last could not be applied: a snapshot has to show the result.
    #[serde(rename = "unclear")]
    refresh_wanted: Option<i64>,
    /// When the newest snapshot was requested; an older request changes nothing.
    #[serde(rename = "last_look")]
    last_snapshot: i64,
    /// The number of consecutive snapshots that left something undecided.
    #[serde(rename = "unclear_looks")]
    incomplete_snapshots: u8,
    /// When the list was complete; somebody unknown was no member then.
    #[serde(rename = "shown")]
    complete_since: i64,
    /// When we learned that, by our clock: a snapshot requested soon after it may be older.
    #[serde(rename = "shown_heard")]
    complete_observed_at: i64,
    /// Joins reported by a private id that may belong to a known member: snapshots decide.
    #[serde(rename = "newcomers")]
    unmatched_joins: BTreeMap<ParticipantId, UnmatchedJoin>,
    /// Notifications that wait for a snapshot of the group.
    held: Vec<Report>,
}

/// What is known of a session apart from its groups. The serialised names are those of the stored rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SessionState {
    /// Its groups have been compared once, so a group found later is new.
    #[serde(rename = "looked")]
    pub(super) compared: bool,
    /// Groups that commands are creating or created a short time ago.
    #[serde(rename = "creations")]
    pub(super) pending_creations: Vec<PendingCreation>,
    /// The group that each `CreateGroup` created.
    #[serde(rename = "makings")]
    pub(super) creation_records: CreationRecords,
    /// Snapshots show none or few of its groups.
    #[serde(rename = "all_missing")]
    pub(super) missing_groups: Option<MissingGroups>,
}

/// A `CreateGroup` whose group has to be recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PendingCreation {
    pub(super) command: CommandId,
    pub(super) subject: Subject,
    /// When it was started; milliseconds by our clock.
    pub(super) at: i64,
}

/// The source of a report; event ids are derived from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Source {
    /// A notification with this id.
    Notification(String),
    /// The answer to our own command.
    Command(CommandId),
    /// A comparison with a snapshot.
    Comparison,
}

/// One statement about a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Observation {
    /// The account is a member now; this is the group.
    #[serde(rename = "Joined")]
    OwnJoined(Box<GroupSnapshot>),
    /// The account is no member any more.
    #[serde(rename = "Left")]
    OwnLeft(NotificationType),
    /// People joined.
    #[serde(rename = "Came")]
    MembersJoined(Vec<Person>, NotificationType),
    /// People left or were removed.
    #[serde(rename = "Went")]
    MembersLeft(Vec<Person>, NotificationType),
    /// People became admins.
    Promoted(Vec<Person>),
    /// People are no admins any more.
    Demoted(Vec<Person>),
    /// People asked to join, or their requests were decided or withdrawn.
    JoinRequests {
        action: JoinRequestAction,
        people: Vec<Person>,
        method: Option<RequestMethod>,
    },
    /// The texts and settings that are present have these values now.
    Updated(Box<GroupSnapshot>),
    /// The invite link changed to this one.
    #[serde(rename = "Invite")]
    InviteChanged(String),
    /// The invite link is this one, and may have been before.
    InviteShown(String),
    /// The picture changed, by our own command.
    PictureChanged(PictureChange),
    /// The group as it was when the report was started or a while before.
    #[serde(rename = "Compared")]
    Snapshot(Box<GroupSnapshot>),
    /// The group is neither in the engine's list nor found by its id.
    Missing,
}

/// Observations with their source and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) source: Source,
    /// When it became so, by the reporter's clock; milliseconds.
    pub(super) at: i64,
    /// When we received it or (comparison, command) sent the request; by our clock.
    #[serde(rename = "heard")]
    pub(super) observed_at: i64,
    /// Now, by our clock.
    pub(super) now: i64,
    /// The ids of the session's own account, the phone first.
    pub(super) me: Vec<ParticipantId>,
    /// Who made the change, where the source names them.
    pub(super) author: Option<Person>,
    #[serde(rename = "claims")]
    pub(super) observations: Vec<Observation>,
    /// The headers of the trace that it belongs to.
    pub(super) trace: Headers,
}

/// What is known of one person in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberStatus {
    /// The role; none for a former member.
    pub(super) role: Option<Role>,
    /// When we learned of it, by our clock; milliseconds.
    pub(super) observed_at: i64,
    /// A notification or a command's answer reported it, and not only a snapshot.
    pub(super) reported: bool,
}

/// The group that a report is about, and the session that received it.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupKey<'a> {
    pub(super) engine: EngineName,
    pub(super) session: &'a SessionName,
    pub(super) group: &'a GroupId,
}

/// The result of applying a report.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// The events, in order.
    pub(super) events: Vec<Event>,
    /// Something in the report was older than the state.
    pub(super) outdated: bool,
    /// The state is not sufficient: read the group again, no sooner than this.
    pub(super) refresh_at: Option<i64>,
    /// The report is held until the group has been read.
    pub(super) held: bool,
}

impl Observation {
    /// The people whose membership, role or request to join changed.
    pub(super) fn people(&self) -> &[Person] {
        match self {
            Self::MembersJoined(people, _)
            | Self::MembersLeft(people, _)
            | Self::Promoted(people)
            | Self::Demoted(people)
            | Self::JoinRequests { people, .. } => people,
            _ => &[],
        }
    }
}

impl GroupState {
    /// Applies a report.
    pub(super) fn apply(
        &mut self,
        group_key: GroupKey<'_>,
        session: &mut SessionState,
        report: &Report,
        lag: Lag,
    ) -> Effects {
        pending_commands::drop_expired(&mut self.pending_commands, report.now);
        session
            .pending_creations
            .retain(|creation| pending_commands::is_recent(creation.at, report.now));
        // The own departure comes after what happened before it, the own join before the rest.
        let is_leaving = |observation: &Observation| {
            !matches!(
                observation,
                Observation::OwnJoined(_) | Observation::Snapshot(_)
            )
        };
        let mut effects = Effects::default();
        if report.observations.iter().all(is_leaving) {
            effects.add(self.release_held((group_key, lag), session, report, None));
        }
        if self.hold(report) {
            // The list that the join waits for uses the ids of this notification.
            Reducer::new(self, group_key, session, report, lag).link_named();
            effects.held = true;
            effects.refresh_at = Some(report.now);
            return effects;
        }
        let was_open = self.is_join_published();
        let mut reducer = Reducer::new(self, group_key, session, report, lag);
        reducer.apply_all();
        effects.add(reducer.effects);
        let requested = report.source == Source::Comparison && !was_open;
        let requested = requested.then_some(report.observed_at);
        effects.add(self.release_held((group_key, lag), session, report, requested));
        // Former members are kept for a day, since late reports concern them too.
        self.people
            .retain(|_, member| member.role.is_some() || report.now - member.observed_at < DAY);
        self.drop_old_requests(report.now);
        self.drop_unused_ids();
        effects
    }

    /// Deletes the ids of unknown people.
    fn drop_unused_ids(&mut self) {
        if self.has_held() {
            return;
        }
        let Self {
            people,
            phones,
            requests,
            pending_commands,
            ..
        } = self;
        let named = pending_commands
            .iter()
            .flat_map(|pending| pending.change.named(None));
        let named = named.chain(people.keys()).chain(requests.keys());
        let named = named.map(comparable);
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

    /// The current members.
    fn members(&self) -> impl Iterator<Item = (&ParticipantId, &MemberState)> {
        self.people
            .iter()
            .filter(|(_, member)| member.role.is_some())
    }

    /// The members of whom only the phone is known, and who are not among these people: a list of
    /// private ids does not show whether they are missing.
    pub(super) fn members_without_lid(&self, people: &[Person]) -> Vec<ParticipantId> {
        let paired: BTreeSet<_> = self.phones.values().map(comparable).collect();
        let open = self.members().map(|(id, _)| id).filter(|id| {
            is_phone(id)
                && !paired.contains(&comparable(id))
                && !people.iter().any(|person| person.is(id))
        });
        open.cloned().collect()
    }

    /// The newest observation of a person, by any of their ids.
    pub(super) fn member_status(&self, ids: &[ParticipantId]) -> Option<MemberStatus> {
        let index = member_index::MemberIndex::new(&self.people, &self.phones);
        let ids = index.ids_of(ids, &self.phones);
        let member = self.people.get(&index.key(&ids)?)?;
        Some(MemberStatus {
            role: member.role,
            observed_at: member.observed_at,
            reported: !member.from_snapshot,
        })
    }

    /// A command of ours is about to be executed. Of its attempts, the latest counts.
    pub(super) fn expect(&mut self, pending: PendingCommand) {
        pending_commands::drop_expired(&mut self.pending_commands, pending.at);
        self.pending_commands.retain(|it| {
            it.reported || it.command != pending.command || it.change != pending.change
        });
        self.pending_commands.push(pending);
    }

    /// Whether a command of ours is recorded as about to change the group.
    pub(super) fn is_pending(&self, command: &CommandId) -> bool {
        let mut pending = self.pending_commands.iter();
        pending.any(|pending| pending.command == *command)
    }

    /// A command of ours has ended; its further changes are not expected.
    pub(super) fn drop_pending(&mut self, command: &CommandId) {
        self.pending_commands
            .retain(|pending| pending.reported || pending.command != *command);
    }

    /// Whether the account is known to be in the group.
    pub(super) fn is_inside(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| inside.value)
    }

    /// Whether the account is known to have left the group.
    pub(super) fn was_inside(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| !inside.value)
    }

    /// Whether the own membership was reported since then.
    pub(super) fn own_change_since(&self, since: i64) -> bool {
        self.inside
            .as_ref()
            .is_some_and(|it| it.observed_at >= since)
    }
}

#[cfg(test)]
mod tests;
