//! Applies observations to the state and produces the events, in the sandbox's order, so that a
//! consumer sees the same from every engine. `own_membership` handles the account itself,
//! `group_settings` texts and settings, `apply_snapshot` snapshots; `event_builder` builds the events.

use std::collections::BTreeSet;

use super::confirmation::Lag;
use super::member_index::{MemberIndex, PersonIds};
use super::pending_commands::{
    self, ExpectedChange, MemberChange, PendingCommand, Provenance, Reporter,
};
use super::{
    Effects, GroupKey, GroupState, MemberState, Observation, Observed, Report, SessionState, Source,
};
use crate::contract::{
    CommandId, EventName, MembershipChange, NotificationType, ParticipantId, Role,
};
use crate::engines::sync::{Person, is_phone};

/// The maximum error of a time in whole seconds.
const SECOND: i64 = 999;

/// The latest time at which something reported `at` may have happened.
pub(super) const fn latest(at: i64) -> i64 {
    if at % 1_000 == 0 { at + SECOND } else { at }
}

/// The state of one group while a report is applied.
pub(super) struct Reducer<'a> {
    pub(super) state: &'a mut GroupState,
    pub(super) group_key: GroupKey<'a>,
    pub(super) session: &'a mut SessionState,
    pub(super) report: &'a Report,
    pub(super) lag: Lag,
    pub(super) index: MemberIndex,
    /// Whether the events are marked as found by a comparison.
    pub(super) reconciled: bool,
    pub(super) effects: Effects,
}

/// Whether an observation changes the state.
enum Novelty {
    Old,
    New(Option<CommandId>),
    /// It contradicts the state: a snapshot has to decide.
    Unclear,
}

/// People with the same change by the same command.
type Batch = (Option<CommandId>, Vec<(ParticipantId, Option<Role>)>);

impl<'a> Reducer<'a> {
    pub(super) fn new(
        state: &'a mut GroupState,
        group_key: GroupKey<'a>,
        session: &'a mut SessionState,
        report: &'a Report,
        lag: Lag,
    ) -> Self {
        let index = MemberIndex::new(&state.people, &state.phones);
        Self {
            state,
            group_key,
            session,
            report,
            lag,
            index,
            reconciled: report.source == Source::Comparison,
            effects: Effects::default(),
        }
    }

    pub(super) fn apply_all(&mut self) {
        self.link_own_ids();
        if let Some(author) = &self.report.author {
            self.link_ids(author);
        }
        for observation in &self.report.observations {
            self.apply(observation);
        }
    }

    /// Links the ids of all people whom the observations name.
    pub(super) fn link_named(&mut self) {
        for observation in &self.report.observations {
            for person in observation.people() {
                self.link_ids(person);
            }
        }
    }

    fn apply(&mut self, observation: &Observation) {
        match observation {
            Observation::OwnJoined(group) => self.own_joined(group),
            Observation::OwnLeft(how) => self.own_left(*how),
            Observation::MembersJoined(people, how) => self.members_joined(people, *how),
            Observation::MembersLeft(people, how) => self.members_left(people, *how),
            Observation::Promoted(people) => self.roles_changed(people, MemberChange::Promote),
            Observation::Demoted(people) => self.roles_changed(people, MemberChange::Demote),
            Observation::JoinRequests {
                action,
                people,
                method,
            } => self.join_requests(*action, people, *method),
            Observation::Updated(group) if !self.ignores_member_changes() => {
                self.settings_changed(group);
            }
            Observation::InviteChanged(link) if !self.ignores_member_changes() => {
                self.invite_changed(link, true);
            }
            Observation::InviteShown(link) if !self.ignores_member_changes() => {
                self.invite_changed(link, false);
            }
            Observation::PictureChanged(change) if !self.ignores_member_changes() => {
                self.picture_changed(*change);
            }
            Observation::Updated(_)
            | Observation::PictureChanged(_)
            | Observation::InviteChanged(_)
            | Observation::InviteShown(_) => {}
            Observation::Snapshot(group) => self.apply_snapshot(group),
            Observation::Missing => self.group_missing(),
        }
    }

    pub(super) fn members_joined(&mut self, people: &[Person], how: NotificationType) {
        let (mine, others) = self.split_own(people);
        // Without the group's data there is no event for it.
        if mine && !self.state.is_inside() {
            self.refresh_soon();
        }
        for (command, batch) in self.batches(&others, MemberChange::Join) {
            let who: Vec<_> = batch.iter().map(|(id, _)| id.clone()).collect();
            for id in &who {
                self.approve_by_join(id, command.as_ref());
            }
            self.notify(EventName::GroupJoin, how, &who, command.clone());
            self.membership(MembershipChange::Join, batch, command);
        }
    }

    pub(super) fn members_left(&mut self, people: &[Person], how: NotificationType) {
        let (mine, others) = self.split_own(people);
        for (command, batch) in self.batches(&others, MemberChange::Leave) {
            let how = match (how, &command) {
                (NotificationType::Leave, Some(_)) => NotificationType::Remove,
                _ => how,
            };
            self.publish_left(batch, how, command);
        }
        if mine {
            self.own_left(how);
        }
    }

    pub(super) fn publish_left(
        &mut self,
        batch: Vec<(ParticipantId, Option<Role>)>,
        how: NotificationType,
        command: Option<CommandId>,
    ) {
        let who: Vec<_> = batch.iter().map(|(id, _)| id.clone()).collect();
        self.notify(EventName::GroupLeft, how, &who, command.clone());
        self.membership(MembershipChange::Leave, batch, command);
    }

    pub(super) fn roles_changed(&mut self, people: &[Person], kind: MemberChange) {
        let change = match kind {
            MemberChange::Promote => MembershipChange::Promote,
            _ => MembershipChange::Demote,
        };
        for (command, batch) in self.batches(people, kind) {
            self.membership(change, batch, command);
        }
    }

    /// The people with a real change, by the command that made it; the state is updated.
    fn batches(&mut self, people: &[Person], kind: MemberChange) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        if people.is_empty() || self.ignores_member_changes() {
            return batches;
        }
        for person in people {
            self.link_ids(person);
            let ids = self.ids(person);
            let key = self.index.key(&ids);
            let role = match kind {
                MemberChange::Join => Some(person.role),
                MemberChange::Leave => None,
                MemberChange::Promote if person.role == Role::Superadmin => Some(Role::Superadmin),
                MemberChange::Promote => Some(Role::Admin),
                MemberChange::Demote => Some(Role::Participant),
            };
            let news = if self.is_ambiguous(&ids, key.as_ref(), kind) {
                Novelty::Unclear
            } else {
                self.novelty_of(&ids, key.as_ref(), kind, role)
            };
            let command = match news {
                Novelty::Old => continue,
                Novelty::New(command) => command,
                Novelty::Unclear => {
                    self.record_unmatched_join(&ids, key.as_ref(), kind);
                    self.refresh_soon();
                    continue;
                }
            };
            let Some(id) = self.record_role(&ids, key, role) else {
                continue;
            };
            match batches.iter_mut().find(|(of, _)| *of == command) {
                Some((_, batch)) => batch.push((id, role)),
                None => batches.push((command, vec![(id, role)])),
            }
        }
        batches
    }

    /// Whether changes of other members produce no event now: the account is out of the group, or the
    /// event of its join waits for a complete list, which will include them.
    fn ignores_member_changes(&mut self) -> bool {
        if self.state.pending_join.is_some() {
            self.refresh_soon();
            return true;
        }
        self.is_outside()
    }

    /// Whether the account is out of the group, so that it learns of no changes there.
    pub(super) fn is_outside(&mut self) -> bool {
        let out = self.state.inside.as_ref().filter(|inside| !inside.value);
        let Some(at) = out.map(|out| out.at) else {
            return false;
        };
        // A report from inside the group shows that the account is a member again.
        if self.report.at > at {
            self.refresh_soon();
        }
        true
    }

    /// Whether somebody may be a person whom we know, or are about to change, by another id. Then the
    /// group is read, since the list gives both ids.
    fn is_ambiguous(
        &self,
        ids: &PersonIds,
        key: Option<&ParticipantId>,
        kind: MemberChange,
    ) -> bool {
        let is_complete = ids.phone.is_some() && ids.lid.is_some();
        if is_complete || self.report.source == Source::Comparison {
            return false;
        }
        let known = &*self.state;
        let phones = &known.phones;
        let member = key.and_then(|key| known.people.get(key));
        if member.is_none_or(|member| member.role.is_none()) {
            // Current members, and former ones whose departure was reported later.
            let others = known.people.iter().filter(|(id, member)| {
                Some(*id) != key && (member.role.is_some() || member.at >= self.report.at)
            });
            let mut others = others.map(|(id, _)| self.index.ids_of([id], phones));
            if others.any(|other| other.may_be(ids)) {
                return true;
            }
        }
        if matches!(self.report.source, Source::Command(_)) {
            return false;
        }
        let expected = known.pending_commands.iter();
        let mut expected = expected.flat_map(|pending| pending.change.named(Some(kind)));
        let is_expected = known.pending_commands.iter();
        let mut is_expected = is_expected.flat_map(|pending| pending.change.named(Some(kind)));
        !is_expected.any(|id| ids.has(id))
            && ((kind == MemberChange::Leave && self.may_be_own(ids))
                || expected.any(|id| self.index.ids_of([id], phones).may_be(ids)))
    }

    /// Whether a person's change is new, and which command made it.
    fn novelty_of(
        &mut self,
        ids: &PersonIds,
        key: Option<&ParticipantId>,
        kind: MemberChange,
        role: Option<Role>,
    ) -> Novelty {
        let by = self.reporter();
        let provenance = pending_commands::attribute_member_change(
            &mut self.state.pending_commands,
            by,
            kind,
            ids,
        );
        if let Reporter::Command(command) = by {
            // Either the command still expects it, or WAHA has reported it before; there is no third
            // case.
            return match provenance {
                Provenance::Command(_) => {
                    self.expect_repeat(command.clone(), kind, ids);
                    Novelty::New(Some(command.clone()))
                }
                _ => Novelty::Old,
            };
        }
        match provenance {
            Provenance::AlreadyReported => return Novelty::Old,
            Provenance::Command(command) => return Novelty::New(Some(command)),
            Provenance::Unknown => {}
        }
        let earlier = key.and_then(|key| self.state.people.get(key)).cloned();
        if self.is_outdated(earlier.as_ref().map(|earlier| earlier.at)) {
            return Novelty::Old;
        }
        let Some(earlier) = earlier else {
            // Somebody unknown was no member when the list was complete.
            let shown = self.state.complete.then_some(self.state.complete_since);
            return match kind {
                _ if self.is_outdated(shown) => Novelty::Old,
                // All members are known.
                MemberChange::Leave if self.state.complete => {
                    self.record_role(ids, None, None);
                    Novelty::Old
                }
                MemberChange::Promote | MemberChange::Demote if self.state.complete => {
                    Novelty::Unclear
                }
                _ => Novelty::New(None),
            };
        };
        let same = match (kind, earlier.role) {
            (MemberChange::Join, now) => now.is_some(),
            (MemberChange::Leave, now) => now.is_none(),
            // They must have come back.
            (_, None) => return Novelty::Unclear,
            (MemberChange::Promote, Some(now)) => now != Role::Participant,
            (MemberChange::Demote, Some(now)) => Some(now) == role,
        };
        if !same {
            return Novelty::New(None);
        }
        if let (Reporter::Notification, Some(key)) = (by, key) {
            let fresh = MemberState {
                at: earlier.at.max(self.report.at),
                unpublished: earlier.unpublished,
                ..self.member(earlier.role)
            };
            self.state.people.insert(key.clone(), fresh);
        }
        Novelty::Old
    }

    pub(super) fn expect_repeat(
        &mut self,
        command: CommandId,
        kind: MemberChange,
        ids: &PersonIds,
    ) {
        let who: BTreeSet<_> = ids.name().into_iter().cloned().collect();
        let change = match kind {
            MemberChange::Join => ExpectedChange::MembersJoin(who),
            MemberChange::Leave => ExpectedChange::MembersLeave(who),
            MemberChange::Promote => ExpectedChange::Promote(who),
            MemberChange::Demote => ExpectedChange::Demote(who),
        };
        self.expect_repeat_of(command, change);
    }

    pub(super) fn expect_repeat_of(&mut self, command: CommandId, change: ExpectedChange) {
        self.state.pending_commands.push(PendingCommand {
            command,
            at: self.report.now,
            reported: true,
            change,
        });
    }

    /// Records a member's role, or departure; returns the id that events use.
    pub(super) fn record_role(
        &mut self,
        ids: &PersonIds,
        key: Option<ParticipantId>,
        role: Option<Role>,
    ) -> Option<ParticipantId> {
        let is_member = |key: &ParticipantId| {
            let member = self.state.people.get(key);
            member.is_some_and(|member| member.role.is_some())
        };
        // A member keeps their id, and a former member the form of their phone.
        let kept = key
            .as_ref()
            .filter(|key| is_phone(key) || is_member(key))
            .cloned();
        let id = kept.or_else(|| ids.name().cloned())?;
        if let Some(key) = key.filter(|key| *key != id) {
            self.state.people.remove(&key);
            self.index.renamed(&key, &id);
        }
        let member = self.member(role);
        self.state.people.insert(id.clone(), member);
        self.index.enter(&id, &self.state.phones);
        Some(id)
    }

    pub(super) fn ids(&self, person: &Person) -> PersonIds {
        self.index.ids(person, &self.state.phones)
    }

    /// Links the ids of the session's own account.
    fn link_own_ids(&mut self) {
        let phone = self.report.me.iter().find(|id| is_phone(id));
        let lid = self.report.me.iter().find(|id| !is_phone(id));
        if let (Some(phone), Some(lid)) = (phone, lid) {
            self.link_ids(&Person {
                lid: Some(lid.clone()),
                ..Person::bare(phone)
            });
        }
    }

    /// The ids of the session's own account; empty if unknown.
    pub(super) fn me(&self) -> PersonIds {
        self.index.ids_of(&self.report.me, &self.state.phones)
    }

    /// The other people, and whether the session's own account is among them.
    fn split_own(&mut self, people: &[Person]) -> (bool, Vec<Person>) {
        for person in people {
            self.link_ids(person);
        }
        let me = self.me();
        let mine = |person: &&Person| me.is(&self.ids(person));
        let others = people.iter().filter(|person| !mine(person)).cloned();
        (people.iter().any(|it| mine(&it)), others.collect())
    }

    /// Requests a snapshot, no sooner than `due`.
    pub(super) fn refresh_at(&mut self, due: i64) {
        let earlier = self.effects.refresh_at;
        self.effects.refresh_at = Some(earlier.map_or(due, |earlier| earlier.min(due)));
    }

    /// Requests a snapshot now, and another one when a list cannot date from before any more.
    pub(super) fn refresh_soon(&mut self) {
        self.state.refresh_wanted = Some(self.report.now);
        self.refresh_at(self.report.now);
    }

    /// The kind of this report's source.
    pub(super) const fn reporter(&self) -> Reporter<'a> {
        match &self.report.source {
            Source::Command(command) => Reporter::Command(command),
            Source::Notification(_) => Reporter::Notification,
            Source::Comparison => Reporter::Comparison,
        }
    }

    /// Whether the state is newer than a notification.
    pub(super) fn is_outdated(&mut self, known: Option<i64>) -> bool {
        let Source::Notification(_) = self.report.source else {
            return false;
        };
        let latest = latest(self.report.at);
        let outdated = known.is_some_and(|known| known > latest);
        self.effects.outdated |= outdated;
        outdated
    }

    /// The earliest time of the observation: a snapshot may show the situation a while before it was
    /// requested.
    pub(super) const fn since(&self) -> i64 {
        match self.report.source {
            Source::Comparison => self.report.at - self.lag.of_lists(),
            _ => self.report.at,
        }
    }

    pub(super) const fn observed<T>(&self, value: T) -> Observed<T> {
        Observed {
            value,
            at: self.since(),
            observed_at: self.report.now,
        }
    }

    pub(super) fn member(&self, role: Option<Role>) -> MemberState {
        MemberState {
            role,
            at: self.since(),
            observed_at: self.report.now,
            from_snapshot: self.report.source == Source::Comparison,
            unpublished: false,
            unconfirmed: None,
        }
    }
}
