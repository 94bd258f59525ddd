//! A look at the group: what WAHA shows, against what is known.
//!
//! A look is evidence and not the truth. It may be older than it seems, lack people, and name them by
//! ids that nobody can match; see `doubts` for when it is believed.

use std::collections::BTreeSet;

use super::Member;
use super::causes::Kind;
use super::doubts::{self, Verdict, rank};
use super::identity::Ids;
use super::telling::Telling;
use crate::contract::{NotificationType, ParticipantId, Role};
use crate::engines::waha::wire::{Extent, Person, Seen};

/// After so many looks in a row that could not tell everything, the next regular one has to do.
const TRIES: u8 = 5;

/// What a look shows of the people.
pub(super) struct View<'a> {
    /// Those whom it lists, by all their ids.
    pub(super) listed: Vec<(Ids, &'a Person)>,
    pub(super) extent: Extent,
    own: Own,
}

/// What a look shows of the session's own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Listed,
    /// It may be one of those whom nobody can match, or of those who are missing.
    Unclear,
    NotListed,
}

impl Telling<'_> {
    /// The group as a look shows it. What was told since the look was begun is newer.
    pub(super) fn compared(&mut self, group: &Seen) {
        if !self.is_latest() || self.known.moved_since(self.report.heard) {
            self.look_again();
            return;
        }
        let view = self.view(group);
        let is_inside = match self.known.inside.as_ref().map(|inside| inside.value) {
            Some(true) => self.is_still_inside(view.own),
            Some(false) => {
                self.may_be_back(group, view.own);
                false
            }
            None => {
                self.first_look(group, view.own);
                false
            }
        };
        if !is_inside || !self.known.is_inside() {
            self.look_again();
            return;
        }
        if self.known.joined.is_some() {
            self.may_announce(group, view.own);
            self.look_again();
            return;
        }
        let is_clear = view.extent != Extent::Useless && self.compare_people(&view);
        if view.extent == Extent::Whole && !self.known.whole {
            self.all_shown();
        }
        self.try_again(is_clear && view.extent == Extent::Whole);
        self.updated(group);
        self.look_again();
    }

    /// Whether no look that was begun later has been taken in.
    pub(super) fn is_latest(&mut self) -> bool {
        let is_latest = self.report.heard >= self.known.last_look;
        self.known.last_look = self.known.last_look.max(self.report.heard);
        is_latest
    }

    fn view<'b>(&mut self, group: &'b Seen) -> View<'b> {
        let people = group.people.as_deref().unwrap_or_default();
        for person in people {
            self.pair(person);
        }
        let listed: Vec<_> = people.iter().map(|it| (self.ids(it), it)).collect();
        let extent = group.extent();
        let own = self.own_in(&listed, extent, group.unread);
        View {
            listed,
            extent,
            own,
        }
    }

    fn own_in(&self, listed: &[(Ids, &Person)], extent: Extent, unread: usize) -> Own {
        let me = self.me();
        if me.name().is_none() || listed.iter().any(|(ids, _)| me.is(ids)) {
            return Own::Listed;
        }
        let may_be_me = |ids: &Ids| {
            self.may_be_own(ids) || (self.directory.key(ids).is_none() && me.may_be(ids))
        };
        if extent == Extent::Useless || listed.iter().any(|(ids, _)| may_be_me(ids)) {
            return Own::Unclear;
        }
        // Who is missing in an incomplete list may be the account. But where everybody else is listed,
        // it is the number that is old: NOWEB's store keeps it when the account is removed.
        let is_listed = |id: &ParticipantId| {
            let ids = self.directory.ids_of([id], &self.known.phones);
            me.is(&ids) || listed.iter().any(|(listed, _)| listed.is(&ids))
        };
        let lacks_own_alone =
            || self.known.whole && unread == 0 && self.known.members().all(|(id, _)| is_listed(id));
        if extent == Extent::Whole || lacks_own_alone() {
            Own::NotListed
        } else {
            Own::Unclear
        }
    }

    /// Whether the account is still in the group, as far as a look can tell.
    fn is_still_inside(&mut self, own: Own) -> bool {
        match own {
            // That it may be listed is enough: a doubt is for looks that agree.
            Own::Listed | Own::Unclear => self.known.inside_doubt = None,
            Own::NotListed => self.doubt_inside(),
        }
        matches!(own, Own::Listed | Own::Unclear)
    }

    /// The account is known to be out, and WhatsApp Web goes on showing groups that were left.
    fn may_be_back(&mut self, group: &Seen, own: Own) {
        match own {
            Own::Listed => {}
            Own::Unclear => return,
            Own::NotListed => {
                self.known.inside_doubt = None;
                return;
            }
        }
        if self.may_be_older(self.known.inside.as_ref().map(|inside| inside.heard)) {
            return;
        }
        let span = self.span(self.known.out_shown);
        let (begun, role) = (self.report.heard, Some(Role::Participant));
        match doubts::weigh(&mut self.known.inside_doubt, role, begun, span) {
            Verdict::Wait(due) => self.look(due),
            Verdict::Believed => self.found(group, own),
        }
    }

    /// Nothing was known of the group. It is new, unless the session was never looked at before.
    fn first_look(&mut self, group: &Seen, own: Own) {
        if own == Own::NotListed {
            return;
        }
        if self.session.looked {
            self.found(group, own);
            return;
        }
        if self.is_being_created(group) {
            // The command's answer tells of it, or the next look.
            self.look(self.report.now.saturating_add(self.lag.usual()));
            return;
        }
        let is_whole = group.extent() == Extent::Whole;
        self.known.inside = Some(self.told(true));
        if is_whole {
            self.all_shown();
            self.enroll(group, true);
            self.learn_texts(group);
        }
        self.try_again(is_whole);
    }

    /// The account is found to be in the group.
    fn found(&mut self, group: &Seen, own: Own) {
        if own == Own::Unclear && group.extent() != Extent::Whole {
            self.try_again(false);
            return;
        }
        self.joined(group);
        self.may_announce(group, Own::Listed);
    }

    /// The event that the account has joined waits for a whole list.
    fn may_announce(&mut self, group: &Seen, own: Own) {
        let heard = self.known.joined.as_ref().map(|joined| joined.heard);
        // The list may be from before the account came.
        if own != Own::Listed && self.may_be_older(heard) {
            return;
        }
        let is_enough = group.extent() == Extent::Whole;
        self.try_again(is_enough);
        if is_enough && let Some(joined) = self.known.joined.take() {
            self.reconciled = joined.shown;
            self.announce(group, joined);
            self.reconciled = true;
        }
    }

    /// Compares the people; whether it could be told of everybody whether they are there.
    fn compare_people(&mut self, view: &View<'_>) -> bool {
        let me = self.me();
        let own = self.directory.key(&me);
        let mut there = BTreeSet::new();
        let mut open: Vec<(&Ids, &Person)> = Vec::new();
        let mut back: Vec<(&Ids, &Person)> = Vec::new();
        let (mut came, mut promoted, mut demoted) = (Vec::new(), Vec::new(), Vec::new());
        for (ids, person) in &view.listed {
            let Some(key) = self.directory.key(ids) else {
                if !me.is(ids) && !open.iter().any(|(other, _)| other.is(ids)) {
                    open.push((ids, person));
                }
                continue;
            };
            if !there.insert(key.clone()) {
                continue;
            }
            let before = self.known.people.get(&key).and_then(|member| member.role);
            if before.is_none() {
                back.push((ids, person));
                continue;
            }
            if !self.is_shown_otherwise(&key, Some(person.role)) {
                continue;
            }
            match before {
                Some(Role::Participant) => promoted.push((*person).clone()),
                _ => demoted.push((*person).clone()),
            }
        }
        let missing = self.known.members().filter(|(id, _)| !there.contains(*id));
        let missing = missing.map(|(id, _)| {
            let ids = self.directory.ids_of([id], &self.known.phones);
            (id.clone(), ids)
        });
        let mut missing: Vec<_> = missing.collect();
        if view.own == Own::Unclear && own.is_none() {
            missing.extend(me.name().cloned().map(|id| (id, me.clone())));
        }
        let new = self.new_among(view, &open, &missing);
        let mut is_clear = new.len() == open.len();
        // Who is gone may be a member by another id, and somebody else not at all.
        let may_be_known =
            |(ids, _): &(&Ids, &Person)| missing.iter().any(|(_, it)| it.may_be(ids));
        let (unsure, back): (Vec<_>, Vec<_>) = back.into_iter().partition(may_be_known);
        is_clear &= unsure.is_empty();
        open.extend(unsure);
        came.extend(self.back_among(&back));
        let (went, is_told) = self.gone_from(view, &open, &missing);
        is_clear &= is_told;
        if !self.known.whole {
            self.enroll_quietly(&new);
        } else if !new.is_empty() && !self.may_be_older(Some(self.known.shown_heard)) {
            // Else they may have been shown before they were not.
            came.extend(new);
        }
        self.came(&came, NotificationType::Add);
        self.went(&went, NotificationType::Leave);
        self.ranked(&promoted, Kind::Promote);
        self.ranked(&demoted, Kind::Demote);
        is_clear
    }

    /// Who of those who were gone, and are shown, is believed to be back.
    fn back_among(&mut self, back: &[(&Ids, &Person)]) -> Vec<Person> {
        let mut came = Vec::new();
        for (ids, person) in back {
            if let Some(key) = self.directory.key(ids)
                && self.is_shown_otherwise(&key, Some(person.role))
            {
                came.push((*person).clone());
            }
        }
        came
    }

    /// Who of the missing is believed to be gone, and whether that could be told of each.
    fn gone_from(
        &mut self,
        view: &View<'_>,
        open: &[(&Ids, &Person)],
        missing: &[(ParticipantId, Ids)],
    ) -> (Vec<Person>, bool) {
        let me = self.me();
        let mut went = Vec::new();
        let mut is_clear = true;
        for (id, ids) in missing {
            let is_open = open.iter().any(|(other, _)| other.may_be(ids)) || self.may_be_own(ids);
            is_clear &= !is_open;
            // That they may be listed is enough: a doubt is for looks that agree.
            if is_open && let Some(member) = self.known.people.get_mut(id) {
                member.doubt = None;
            }
            if me.is(ids) || is_open || view.extent != Extent::Whole {
                continue;
            }
            if self.is_shown_otherwise(id, None) {
                went.push(Person::bare(id));
            }
        }
        (went, is_clear)
    }

    fn enroll_quietly(&mut self, people: &[Person]) {
        for person in people {
            let ids = self.ids(person);
            let id = self.keep(&ids, None, Some(person.role));
            if let Some(member) = id.and_then(|id| self.known.people.get_mut(&id)) {
                member.quiet = true;
            }
        }
    }

    /// Whether somebody is to be believed to be as a look shows them, other than they are known.
    fn is_shown_otherwise(&mut self, id: &ParticipantId, shown: Option<Role>) -> bool {
        let begun = self.report.heard;
        let Some(member) = self.known.people.get(id) else {
            return false;
        };
        if member.heard >= begun {
            return false;
        }
        let Member {
            role,
            shown: is_shown,
            ..
        } = *member;
        let span = match role {
            None => self.span(is_shown),
            Some(_) => self.lag.usual(),
        };
        let heard = member.heard;
        if rank(role) != rank(shown) && self.may_be_older(Some(heard)) {
            return false;
        }
        let Some(member) = self.known.people.get_mut(id) else {
            return false;
        };
        if rank(role) == rank(shown) {
            member.doubt = None;
            return false;
        }
        match doubts::weigh(&mut member.doubt, shown, begun, span) {
            Verdict::Believed => true,
            Verdict::Wait(due) => {
                self.look(due);
                false
            }
        }
    }

    /// Whether the look may show what was so before something was heard; one that is begun late enough
    /// does not.
    pub(super) fn may_be_older(&mut self, heard: Option<i64>) -> bool {
        let due = heard.map_or(i64::MIN, |heard| heard + self.lag.usual());
        let may_be = self.report.heard < due;
        if may_be {
            self.look(due);
        }
        may_be
    }

    /// How long somebody who is gone must be shown: longer where that was told.
    const fn span(&self, was_shown: bool) -> i64 {
        if was_shown {
            self.lag.usual()
        } else {
            self.lag.stubborn()
        }
    }

    /// A look that could not tell everything is followed by others, each later than the one before.
    fn try_again(&mut self, is_clear: bool) {
        if is_clear {
            self.known.unclear_looks = 0;
            return;
        }
        self.known.unclear_looks = self.known.unclear_looks.saturating_add(1);
        let tries = self.known.unclear_looks;
        if tries <= TRIES {
            let wait = self.lag.usual().saturating_mul(1 << (tries - 1));
            self.look(self.report.now.saturating_add(wait));
        }
    }

    /// What was told and could not be taken shows in a look that was begun late enough.
    fn look_again(&mut self) {
        let Some(since) = self.known.unclear else {
            return;
        };
        let due = since + self.lag.usual();
        if self.report.heard < due {
            self.look(due);
        } else {
            self.known.unclear = None;
        }
    }
}
