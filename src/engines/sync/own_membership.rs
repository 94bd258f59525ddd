//! The session's own account: its joining and leaving of the group.

use super::confirmation::{self, Confirmation};
use super::member_index::MemberIndex;
use super::own_account::NEW_GROUP_AGE;
use super::pending_commands::{self, ExpectedChange, Provenance};
use super::reducer::Reducer;
use super::{MemberState, PendingJoin, Source};
use crate::contract::{CommandId, EventName, NotificationType, ParticipantId};
use crate::engines::event_fields::EventFields;
use crate::engines::sync::{Completeness, GroupSnapshot, Person};

impl Reducer<'_> {
    /// The account is a member. Produces an event unless that is known.
    pub(super) fn own_joined(&mut self, group: &GroupSnapshot) {
        if self.state.is_inside() {
            self.still_inside(group);
            return;
        }
        if self.is_outdated(self.state.inside.as_ref().map(|inside| inside.at)) {
            return;
        }
        let by_link = self.joining();
        let command = by_link.clone().or_else(|| self.creation(group));
        let is_back = self.state.was_inside();
        self.state.inside = Some(self.observed(true));
        self.state.left_by_snapshot = false;
        self.state.inside_unconfirmed = None;
        let how = if by_link.is_some() {
            NotificationType::Invite
        } else if command.is_some() {
            NotificationType::Create
        } else {
            self.how_joined(group, is_back)
        };
        let joined = PendingJoin {
            author: self.author(command.as_ref()),
            how,
            command,
            observed_at: self.report.now,
            from_snapshot: self.report.source == Source::Comparison,
        };
        if group.extent() == Completeness::Complete && !joined.from_snapshot {
            self.publish_join(group, joined);
        } else {
            // The event lists the members, so it waits for a complete list.
            let is_told = !joined.from_snapshot;
            self.state.pending_join = Some(joined);
            if is_told {
                self.refresh_soon();
            }
        }
    }

    fn still_inside(&mut self, group: &GroupSnapshot) {
        let at = self.since();
        if let Some(inside) = &mut self.state.inside {
            inside.at = inside.at.max(at);
        }
        if group.extent() != Completeness::Complete {
            return;
        }
        if let Some(mut joined) = self.state.pending_join.take() {
            // A command that reports its own group has joined or created it, whatever the subject is by now.
            if let pending_commands::Reporter::Command(command) = self.reporter() {
                joined.author = self.author(Some(command));
                joined.how = match self.joining() {
                    Some(_) => NotificationType::Invite,
                    None => NotificationType::Create,
                };
                joined.command = Some(command.clone());
            }
            self.publish_join(group, joined);
        } else if !self.state.complete {
            self.record_members(group, true);
            self.mark_complete();
            self.record_settings(group);
        }
    }

    /// Publishes the account's join, with all members.
    pub(super) fn publish_join(&mut self, group: &GroupSnapshot, joined: PendingJoin) {
        self.state.pending_join = None;
        self.drop_unlisted(group);
        self.record_members(group, false);
        for member in self.state.people.values_mut() {
            member.unpublished = false;
        }
        self.drop_duplicates(group);
        self.mark_complete();
        self.state.complete = group.extent() == Completeness::Complete;
        self.record_settings(group);
        let mut shown = group.clone();
        shown.people = Some(self.all_members(group));
        self.copy_settings_to(&mut shown);
        let Some(whole) = shown.into_group() else {
            return;
        };
        let PendingJoin {
            command,
            author,
            how,
            ..
        } = joined;
        let created = command.is_some() && how == NotificationType::Create;
        let everybody = whole.participants.iter().flatten().map(|it| it.id.clone());
        let who: Vec<_> = if created {
            everybody.collect()
        } else {
            self.report.me.iter().take(1).cloned().collect()
        };
        self.emit(EventName::OwnJoin, command.clone(), |fields| {
            EventFields { author, ..fields }.own_join(whole)
        });
        self.notify(EventName::GroupJoin, how, &who, command);
    }

    /// Deletes members whom the list of a join does not show, and who did not join later.
    fn drop_unlisted(&mut self, group: &GroupSnapshot) {
        let listed = group.people.iter().flatten();
        let listed: Vec<_> = listed.map(|person| self.ids(person)).collect();
        let since = self.since();
        let is_old = |id: &ParticipantId, member: &MemberState| {
            let ids = self.index.ids_of([id], &self.state.phones);
            member.at <= since && !listed.iter().any(|it| it.is(&ids))
        };
        let people = self.state.people.iter();
        let old = people.filter(|(id, it)| it.role.is_some() && is_old(id, it));
        let old: Vec<_> = old.map(|(id, _)| id.clone()).collect();
        for id in old {
            self.state.people.remove(&id);
        }
        self.index = MemberIndex::new(&self.state.people, &self.state.phones);
    }

    /// All members are known from now on.
    pub(super) fn mark_complete(&mut self) {
        self.state.complete = true;
        self.state.complete_since = self.since();
        self.state.complete_observed_at = self.report.now;
    }

    /// Records the members of a list; known ones stay as they are, unless the account is reported to
    /// have joined later. `quiet`: no event names them.
    pub(super) fn record_members(&mut self, group: &GroupSnapshot, quiet: bool) {
        let is_look = self.report.source == Source::Comparison;
        for person in group.people.iter().flatten() {
            self.link_ids(person);
            let ids = self.ids(person);
            let key = self.index.key(&ids);
            let known = key.as_ref().and_then(|key| self.state.people.get(key));
            if known.is_some_and(|known| is_look || known.at > self.report.at) {
                continue;
            }
            let role = Some(person.role);
            if let Some(id) = self.record_role(&ids, key, role)
                && let Some(member) = self.state.people.get_mut(&id)
            {
                member.unpublished = quiet;
            }
        }
    }

    /// Deletes members who may be in the list by another id: the event names those of the list.
    fn drop_duplicates(&mut self, group: &GroupSnapshot) {
        let listed = group.people.iter().flatten();
        let listed: Vec<_> = listed.map(|person| self.ids(person)).collect();
        let people = self.state.people.keys();
        let doubles = people.filter(|id| {
            let ids = self.index.ids_of([*id], &self.state.phones);
            !listed.iter().any(|it| it.is(&ids)) && listed.iter().any(|it| it.may_be(&ids))
        });
        let doubles: Vec<_> = doubles.cloned().collect();
        for id in doubles {
            self.state.people.remove(&id);
        }
        self.index = MemberIndex::new(&self.state.people, &self.state.phones);
    }

    /// All known members, in the order of a list.
    fn all_members(&self, group: &GroupSnapshot) -> Vec<Person> {
        let mut all: Vec<ParticipantId> = Vec::new();
        let listed = group.people.iter().flatten();
        let listed = listed.filter_map(|person| self.index.key(&self.ids(person)));
        for id in listed.chain(self.state.people.keys().cloned()) {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        let member = |id: ParticipantId| {
            let role = self.state.people.get(&id)?.role?;
            let ids = self.index.ids_of([&id], &self.state.phones);
            Some(Person {
                lid: ids.lid.filter(|lid| *lid != id),
                id,
                role,
            })
        };
        all.into_iter().filter_map(member).collect()
    }

    /// The account is no member any more. Produces an event unless that is known.
    pub(super) fn own_left(&mut self, how: NotificationType) {
        let mut provenance = self.provenance_of(|what| *what == ExpectedChange::OwnLeave);
        if provenance == Provenance::Unknown {
            provenance = self.own_removal();
        }
        let at = self.state.inside.as_ref().map(|inside| inside.at);
        if provenance == Provenance::AlreadyReported || self.is_outdated(at) {
            return;
        }
        if self.state.was_inside() {
            let at = self.since();
            if let Some(inside) = &mut self.state.inside {
                inside.at = inside.at.max(at);
            }
            return;
        }
        // A comparison reports the account as gone only if it was known to be in.
        if self.report.source == Source::Comparison && !self.state.is_inside() {
            return;
        }
        let command = match provenance {
            Provenance::Command(command) => Some(command),
            Provenance::AlreadyReported | Provenance::Unknown => None,
        };
        self.state.inside = Some(self.observed(false));
        self.state.left_by_snapshot = self.report.source == Source::Comparison;
        self.state.inside_unconfirmed = None;
        // Changes after the departure are not reported.
        self.state.complete = false;
        // If the departure is discovered late, newer reports are from after the account's return.
        let out = self.since();
        let people = &mut self.state.people;
        people.retain(|_, member| !member.from_snapshot && member.at > out);
        self.state.drop_requests_before(out);
        self.state.unmatched_joins.clear();
        self.state.invite = None;
        if self.state.pending_join.take().is_some() {
            // The join was never published.
            return;
        }
        let me: Vec<_> = self.report.me.iter().take(1).cloned().collect();
        let group = self.no_change();
        self.emit(EventName::OwnLeave, command.clone(), |fields| {
            fields.change(group)
        });
        self.notify(EventName::GroupLeft, how, &me, command);
    }

    /// The group is neither in the engine's list nor found by its id.
    pub(super) fn group_missing(&mut self) {
        let is_latest = self.is_latest();
        if !is_latest
            || !self.state.is_inside()
            || self.state.own_change_since(self.report.observed_at)
        {
            return;
        }
        self.confirm_own_departure();
    }

    /// A snapshot shows the group without the account, or the group is missing.
    pub(super) fn confirm_own_departure(&mut self) {
        let begun = self.report.observed_at;
        if self.may_predate(self.state.inside.as_ref().map(|inside| inside.observed_at)) {
            return;
        }
        let span = self.lag.of_lists();
        match confirmation::confirm(&mut self.state.inside_unconfirmed, None, begun, span) {
            Confirmation::Confirmed => self.own_left(NotificationType::Leave),
            Confirmation::Recheck(due) => self.refresh_at(due),
        }
    }

    /// The command by which the account is joining this group: the one that says so itself, or one whose
    /// request was sent a short time ago.
    fn joining(&self) -> Option<CommandId> {
        let pending = &self.state.pending_commands;
        let mut joining = pending
            .iter()
            .filter(|it| it.change == ExpectedChange::OwnJoin);
        let now = self.report.now;
        match self.reporter() {
            pending_commands::Reporter::Command(command) => {
                joining.find(|it| it.command == *command)
            }
            _ => joining.find(|it| pending_commands::is_recent(it.at, now)),
        }
        .map(|it| it.command.clone())
    }

    /// Whether a command may be creating this group, though nothing was reported: then it is not from
    /// before the first comparison.
    pub(super) fn is_being_created(&self, group: &GroupSnapshot) -> bool {
        let created = group.created_at.map(|at| at.0.as_millisecond());
        let mut creations = self.session.pending_creations.iter();
        creations.any(|it| {
            // The clocks may differ.
            let is_new = created.is_none_or(|created| created >= it.at - NEW_GROUP_AGE);
            is_new && Some(&it.subject) == group.subject.as_ref()
        })
    }

    /// The creation that this new group belongs to.
    pub(super) fn creation(&mut self, group: &GroupSnapshot) -> Option<CommandId> {
        let creations = &mut self.session.pending_creations;
        let fits = |it: &super::PendingCreation| match &self.report.source {
            Source::Command(command) => it.command == *command,
            _ => Some(&it.subject) == group.subject.as_ref(),
        };
        let found = creations.iter().position(fits);
        let found = found.map(|index| creations.remove(index).command);
        // A group may be found again long after the pending creation has expired.
        match self.reporter() {
            pending_commands::Reporter::Command(command) => Some(command.clone()),
            _ => found,
        }
    }
}
