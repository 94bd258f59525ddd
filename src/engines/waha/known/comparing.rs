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
struct View<'a> {
    /// Those whom it lists, by all their ids.
    listed: Vec<(Ids, &'a Person)>,
    extent: Extent,
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
            self.known.whole = true;
            self.known.shown = self.since();
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
        let own = self.own_in(&listed, extent);
        View {
            listed,
            extent,
            own,
        }
    }

    fn own_in(&self, listed: &[(Ids, &Person)], extent: Extent) -> Own {
        let me = self.me();
        if me.name().is_none() || listed.iter().any(|(ids, _)| me.is(ids)) {
            return Own::Listed;
        }
        let is_open = |ids: &Ids| self.directory.key(ids).is_none();
        let may_be_me = |(ids, _): &&(Ids, &Person)| is_open(ids) && me.may_be(ids);
        if extent == Extent::Useless || listed.iter().any(|it| may_be_me(&it)) {
            return Own::Unclear;
        }
        // Who is missing in an incomplete list may be the account.
        if extent == Extent::Whole {
            Own::NotListed
        } else {
            Own::Unclear
        }
    }

    /// Whether the account is still in the group, as far as a look can tell.
    fn is_still_inside(&mut self, own: Own) -> bool {
        match own {
            Own::Listed => self.known.inside_doubt = None,
            Own::Unclear => {}
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
        self.known.whole = is_whole;
        if is_whole {
            self.known.shown = self.since();
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
            if !self.is_shown_otherwise(&key, Some(person.role)) {
                continue;
            }
            match before {
                None => came.push((*person).clone()),
                Some(Role::Participant) => promoted.push((*person).clone()),
                Some(_) => demoted.push((*person).clone()),
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
        let mut is_clear = true;
        let mut went = Vec::new();
        for (id, ids) in &missing {
            let is_open = open.iter().any(|(other, _)| other.may_be(ids));
            is_clear &= !is_open;
            let is_own = me.is(ids);
            if is_own || is_open || view.extent != Extent::Whole {
                continue;
            }
            if self.is_shown_otherwise(id, None) {
                went.push(Person::bare(id));
            }
        }
        // Who is gone may be shown still, by another id.
        let gone = self.known.people.iter().filter(|(_, it)| it.role.is_none());
        let gone = gone.filter(|(id, _)| !there.contains(*id));
        let gone = gone.map(|(id, _)| self.directory.ids_of([id], &self.known.phones));
        let gone: Vec<_> = gone.collect();
        let is_new = |(ids, _): &&(&Ids, &Person)| {
            !missing.iter().any(|(_, it)| it.may_be(ids)) && !gone.iter().any(|it| it.may_be(ids))
        };
        let new: Vec<_> = open
            .iter()
            .filter(is_new)
            .map(|(_, it)| (*it).clone())
            .collect();
        is_clear &= new.len() == open.len();
        if self.known.whole {
            came.extend(new);
        } else {
            self.enroll_quietly(&new);
        }
        self.came(&came, NotificationType::Add);
        self.went(&went, NotificationType::Leave);
        self.ranked(&promoted, Kind::Promote);
        self.ranked(&demoted, Kind::Demote);
        is_clear
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
