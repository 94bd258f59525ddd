//! Applies a snapshot of the group: compares what the engine shows with the state.
//!
//! A snapshot is evidence, not truth. It may be older than it seems, lack people, and name them by ids
//! that match no known person; `confirmation` decides when it is believed.

use std::collections::BTreeSet;

use super::MemberState;
use super::confirmation::{self, Confirmation, rank};
use super::member_index::PersonIds;
use super::pending_commands::MemberChange;
use super::reducer::Reducer;
use crate::contract::{NotificationType, ParticipantId, Role};
use crate::engines::sync::{Completeness, GroupSnapshot, Person};

/// After this number of consecutive snapshots that left something undecided, no further one is
/// requested before the next periodic comparison.
const TRIES: u8 = 5;

/// The members in a snapshot.
pub(super) struct SnapshotView<'a> {
    /// The listed people, with all their ids.
    pub(super) listed: Vec<(PersonIds, &'a Person)>,
    pub(super) extent: Completeness,
    own: OwnPresence,
}

/// Whether a snapshot contains the session's own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnPresence {
    Listed,
    /// It may be one of the unmatched, or of the missing, entries.
    Unclear,
    NotListed,
}

impl Reducer<'_> {
    /// Compares a snapshot with the state. Reports since the snapshot was requested are newer.
    pub(super) fn apply_snapshot(&mut self, group: &GroupSnapshot) {
        if !self.is_latest() || self.state.own_change_since(self.report.observed_at) {
            self.refresh_until_current();
            return;
        }
        let view = self.view(group);
        let is_inside = match self.state.inside.as_ref().map(|inside| inside.value) {
            Some(true) => self.is_still_inside(view.own),
            Some(false) => {
                self.check_own_return(group, view.own);
                false
            }
            None => {
                self.first_snapshot(group, view.own);
                false
            }
        };
        if !is_inside || !self.state.is_inside() {
            self.refresh_until_current();
            return;
        }
        if self.state.pending_join.is_some() {
            self.publish_join_if_complete(group, view.own);
            self.refresh_until_current();
            return;
        }
        let is_clear = view.extent != Completeness::Unusable && self.compare_people(&view);
        if view.extent == Completeness::Complete && !self.state.complete {
            self.mark_complete();
        }
        self.schedule_recheck(is_clear && view.extent == Completeness::Complete);
        self.settings_changed(group);
        self.refresh_until_current();
    }

    /// Whether no snapshot that was requested later has been applied.
    pub(super) fn is_latest(&mut self) -> bool {
        let is_latest = self.report.observed_at >= self.state.last_snapshot;
        self.state.last_snapshot = self.state.last_snapshot.max(self.report.observed_at);
        is_latest
    }

    fn view<'b>(&mut self, group: &'b GroupSnapshot) -> SnapshotView<'b> {
        let people = group.people.as_deref().unwrap_or_default();
        for person in people {
            self.link_ids(person);
        }
        let listed: Vec<_> = people.iter().map(|it| (self.ids(it), it)).collect();
        let extent = group.extent();
        let own = self.own_in(&listed, extent, group.unread);
        SnapshotView {
            listed,
            extent,
            own,
        }
    }

    fn own_in(
        &self,
        listed: &[(PersonIds, &Person)],
        extent: Completeness,
        unread: usize,
    ) -> OwnPresence {
        let me = self.me();
        if me.name().is_none() || listed.iter().any(|(ids, _)| me.is(ids)) {
            return OwnPresence::Listed;
        }
        let may_be_me = |ids: &PersonIds| {
            self.may_be_own(ids) || (self.index.key(ids).is_none() && me.may_be(ids))
        };
        if extent == Completeness::Unusable || listed.iter().any(|(ids, _)| may_be_me(ids)) {
            return OwnPresence::Unclear;
        }
        // Somebody who is missing in an incomplete list may be the account. But if everybody else is
        // listed, the number is old: NOWEB's store keeps it when the account is removed.
        let is_listed = |id: &ParticipantId| {
            let ids = self.index.ids_of([id], &self.state.phones);
            me.is(&ids) || listed.iter().any(|(listed, _)| listed.is(&ids))
        };
        let lacks_own_alone = || {
            self.state.complete && unread == 0 && self.state.members().all(|(id, _)| is_listed(id))
        };
        if extent == Completeness::Complete || lacks_own_alone() {
            OwnPresence::NotListed
        } else {
            OwnPresence::Unclear
        }
    }

    /// Whether the account is still a member, as far as the snapshot shows.
    fn is_still_inside(&mut self, own: OwnPresence) -> bool {
        match own {
            // A possible match is enough: only snapshots that agree confirm a change.
            OwnPresence::Listed | OwnPresence::Unclear => self.state.inside_unconfirmed = None,
            OwnPresence::NotListed => self.confirm_own_departure(),
        }
        matches!(own, OwnPresence::Listed | OwnPresence::Unclear)
    }

    /// The account is known to be out, and WhatsApp Web still shows groups after they were left.
    fn check_own_return(&mut self, group: &GroupSnapshot, own: OwnPresence) {
        match own {
            OwnPresence::Listed => {}
            OwnPresence::Unclear => return,
            OwnPresence::NotListed => {
                self.state.inside_unconfirmed = None;
                return;
            }
        }
        if self.may_predate(self.state.inside.as_ref().map(|inside| inside.observed_at)) {
            return;
        }
        let span = self.confirmation_span(self.state.left_by_snapshot);
        let (begun, role) = (self.report.observed_at, Some(Role::Participant));
        match confirmation::confirm(&mut self.state.inside_unconfirmed, role, begun, span) {
            Confirmation::Recheck(due) => self.refresh_at(due),
            Confirmation::Confirmed => self.own_found(group, own),
        }
    }

    /// The group was unknown. It is new, unless the session was never compared before.
    fn first_snapshot(&mut self, group: &GroupSnapshot, own: OwnPresence) {
        if own == OwnPresence::NotListed {
            return;
        }
        if self.session.compared {
            self.own_found(group, own);
            return;
        }
        if self.is_being_created(group) {
            // The command's answer will report it, or the next snapshot.
            self.refresh_at(self.report.now.saturating_add(self.lag.of_lists()));
            return;
        }
        let is_whole = group.extent() == Completeness::Complete;
        self.state.inside = Some(self.observed(true));
        if is_whole {
            self.mark_complete();
            self.record_members(group, true);
            self.record_settings(group);
        }
        self.schedule_recheck(is_whole);
    }

    /// The account is a member according to a snapshot.
    fn own_found(&mut self, group: &GroupSnapshot, own: OwnPresence) {
        if own == OwnPresence::Unclear && group.extent() != Completeness::Complete {
            self.schedule_recheck(false);
            return;
        }
        self.own_joined(group);
        self.publish_join_if_complete(group, OwnPresence::Listed);
    }

    /// The event that the account has joined waits for a complete list.
    fn publish_join_if_complete(&mut self, group: &GroupSnapshot, own: OwnPresence) {
        let observed_at = self
            .state
            .pending_join
            .as_ref()
            .map(|joined| joined.observed_at);
        // The list may be from before the join.
        if own != OwnPresence::Listed && self.may_predate(observed_at) {
            return;
        }
        let is_enough = group.extent() == Completeness::Complete;
        self.schedule_recheck(is_enough);
        if is_enough && let Some(joined) = self.state.pending_join.take() {
            self.reconciled = joined.from_snapshot;
            self.publish_join(group, joined);
            self.reconciled = true;
        }
    }

    /// Compares the members; true if each could be matched.
    fn compare_people(&mut self, view: &SnapshotView<'_>) -> bool {
        let me = self.me();
        let own = self.index.key(&me);
        let mut there = BTreeSet::new();
        let mut open: Vec<(&PersonIds, &Person)> = Vec::new();
        let mut back: Vec<(&PersonIds, &Person)> = Vec::new();
        let (mut came, mut promoted, mut demoted) = (Vec::new(), Vec::new(), Vec::new());
        for (ids, person) in &view.listed {
            let Some(key) = self.index.key(ids) else {
                if !me.is(ids) && !open.iter().any(|(other, _)| other.is(ids)) {
                    open.push((ids, person));
                }
                continue;
            };
            if !there.insert(key.clone()) {
                continue;
            }
            let before = self.state.people.get(&key).and_then(|member| member.role);
            if before.is_none() {
                back.push((ids, person));
                continue;
            }
            if !self.is_change_confirmed(&key, Some(person.role)) {
                continue;
            }
            match before {
                Some(Role::Participant) => promoted.push((*person).clone()),
                _ => demoted.push((*person).clone()),
            }
        }
        let missing = self.state.members().filter(|(id, _)| !there.contains(*id));
        let missing = missing.map(|(id, _)| {
            let ids = self.index.ids_of([id], &self.state.phones);
            (id.clone(), ids)
        });
        let mut missing: Vec<_> = missing.collect();
        if view.own == OwnPresence::Unclear && own.is_none() {
            missing.extend(me.name().cloned().map(|id| (id, me.clone())));
        }
        let new = self.certain_joins(view, &open, &missing);
        let mut is_clear = new.len() == open.len();
        // A former member may be a current one by another id, and a different person not at all.
        let may_be_known =
            |(ids, _): &(&PersonIds, &Person)| missing.iter().any(|(_, it)| it.may_be(ids));
        let (unsure, back): (Vec<_>, Vec<_>) = back.into_iter().partition(may_be_known);
        is_clear &= unsure.is_empty();
        open.extend(unsure);
        came.extend(self.confirmed_returns(&back));
        let (went, is_told) = self.confirmed_departures(view, &open, &missing);
        is_clear &= is_told;
        if !self.state.complete {
            self.record_unpublished(&new);
        } else if !new.is_empty() && !self.may_predate(Some(self.state.complete_observed_at)) {
            // Otherwise they may have left before the list was complete.
            came.extend(new);
        }
        self.members_joined(&came, NotificationType::Add);
        self.members_left(&went, NotificationType::Leave);
        self.roles_changed(&promoted, MemberChange::Promote);
        self.roles_changed(&demoted, MemberChange::Demote);
        is_clear
    }

    /// The former members who are listed, and confirmed to be back.
    fn confirmed_returns(&mut self, back: &[(&PersonIds, &Person)]) -> Vec<Person> {
        let mut came = Vec::new();
        for (ids, person) in back {
            if let Some(key) = self.index.key(ids)
                && self.is_change_confirmed(&key, Some(person.role))
            {
                came.push((*person).clone());
            }
        }
        came
    }

    /// The missing members who are confirmed to have left, and whether that was decidable for each.
    fn confirmed_departures(
        &mut self,
        view: &SnapshotView<'_>,
        open: &[(&PersonIds, &Person)],
        missing: &[(ParticipantId, PersonIds)],
    ) -> (Vec<Person>, bool) {
        let me = self.me();
        let mut went = Vec::new();
        let mut is_clear = true;
        for (id, ids) in missing {
            let is_open = open.iter().any(|(other, _)| other.may_be(ids)) || self.may_be_own(ids);
            is_clear &= !is_open;
            // A possible match is enough: only snapshots that agree confirm a change.
            if is_open && let Some(member) = self.state.people.get_mut(id) {
                member.unconfirmed = None;
            }
            if me.is(ids) || is_open || view.extent != Completeness::Complete {
                continue;
            }
            if self.is_change_confirmed(id, None) {
                went.push(Person::bare(id));
            }
        }
        (went, is_clear)
    }

    fn record_unpublished(&mut self, people: &[Person]) {
        for person in people {
            let ids = self.ids(person);
            let id = self.record_role(&ids, None, Some(person.role));
            if let Some(member) = id.and_then(|id| self.state.people.get_mut(&id)) {
                member.unpublished = true;
            }
        }
    }

    /// Whether a snapshot confirms another role or absence than the known one.
    fn is_change_confirmed(&mut self, id: &ParticipantId, shown: Option<Role>) -> bool {
        let begun = self.report.observed_at;
        let Some(member) = self.state.people.get(id) else {
            return false;
        };
        if member.observed_at >= begun {
            return false;
        }
        let MemberState {
            role,
            from_snapshot,
            ..
        } = *member;
        let span = match role {
            None => self.confirmation_span(from_snapshot),
            Some(_) => self.lag.of_lists(),
        };
        let observed_at = member.observed_at;
        if rank(role) != rank(shown) && self.may_predate(Some(observed_at)) {
            return false;
        }
        let Some(member) = self.state.people.get_mut(id) else {
            return false;
        };
        if rank(role) == rank(shown) {
            member.unconfirmed = None;
            return false;
        }
        match confirmation::confirm(&mut member.unconfirmed, shown, begun, span) {
            Confirmation::Confirmed => true,
            Confirmation::Recheck(due) => {
                self.refresh_at(due);
                false
            }
        }
    }

    /// Whether the snapshot may show the situation before an observation; a snapshot that was
    /// requested late enough cannot.
    pub(super) fn may_predate(&mut self, observed_at: Option<i64>) -> bool {
        let due = observed_at.map_or(i64::MIN, |observed_at| observed_at + self.lag.of_lists());
        let may_be = self.report.observed_at < due;
        if may_be {
            self.refresh_at(due);
        }
        may_be
    }

    /// How long a former member must be shown: longer if the departure was reported.
    const fn confirmation_span(&self, was_shown: bool) -> i64 {
        if was_shown {
            self.lag.of_lists()
        } else {
            self.lag.of_departures()
        }
    }

    /// Requests another snapshot if this one left something undecided, each time with a longer delay.
    fn schedule_recheck(&mut self, is_clear: bool) {
        if is_clear {
            self.state.incomplete_snapshots = 0;
            return;
        }
        self.state.incomplete_snapshots = self.state.incomplete_snapshots.saturating_add(1);
        let tries = self.state.incomplete_snapshots;
        if tries <= TRIES {
            let wait = self.lag.of_lists().saturating_mul(1 << (tries - 1));
            self.refresh_at(self.report.now.saturating_add(wait));
        }
    }

    /// A report that could not be applied shows in a snapshot that was requested late enough.
    fn refresh_until_current(&mut self) {
        let Some(since) = self.state.refresh_wanted else {
            return;
        };
        let due = since + self.lag.of_lists();
        if self.report.observed_at < due {
            self.refresh_at(due);
        } else {
            self.state.refresh_wanted = None;
        }
    }
}
