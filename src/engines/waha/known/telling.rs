//! From a claim about people to what is new in it, in the sandbox's order, so that a consumer sees the
//! same from every engine. `joining` knows about the account itself, `texts` about the group's texts and
//! settings, `comparing` about looks; the events are made in `emitting`.

use std::collections::BTreeSet;

use super::causes::{self, By, Cause, Doing, Kind, What};
use super::doubts::Lag;
use super::identity::{Directory, Ids};
use super::{Claim, Follows, Known, KnownSession, Member, Place, Report, Source, Told};
use crate::contract::{
    CommandId, EventName, MembershipChange, NotificationType, ParticipantId, Role,
};
use crate::engines::waha::wire::{Person, is_phone};

/// How much a time in whole seconds may be behind.
const SECOND: i64 = 999;

/// When something happened at the latest, as it is told to have happened `at`.
pub(super) const fn latest(at: i64) -> i64 {
    if at % 1_000 == 0 { at + SECOND } else { at }
}

/// What is known of one group while a report is taken in.
pub(super) struct Telling<'a> {
    pub(super) known: &'a mut Known,
    pub(super) place: Place<'a>,
    pub(super) session: &'a mut KnownSession,
    pub(super) report: &'a Report,
    pub(super) lag: Lag,
    pub(super) directory: Directory,
    /// Whether the events say that nobody told.
    pub(super) reconciled: bool,
    pub(super) follows: Follows,
}

/// Whether what is told is new.
enum News {
    Old,
    New(Option<CommandId>),
    /// It does not fit what is known: a look at the group will tell.
    Unclear,
}

/// People to whom the same happened through the same command.
type Lot = (Option<CommandId>, Vec<(ParticipantId, Option<Role>)>);

impl<'a> Telling<'a> {
    pub(super) fn new(
        known: &'a mut Known,
        place: Place<'a>,
        session: &'a mut KnownSession,
        report: &'a Report,
        lag: Lag,
    ) -> Self {
        let directory = Directory::new(&known.people, &known.phones);
        Self {
            known,
            place,
            session,
            report,
            lag,
            directory,
            reconciled: report.source == Source::Comparison,
            follows: Follows::default(),
        }
    }

    pub(super) fn hear_all(&mut self) {
        self.learn_own();
        if let Some(author) = &self.report.author {
            self.pair(author);
        }
        for claim in &self.report.claims {
            self.hear(claim);
        }
    }

    /// Learns the ids of everybody whom the claims name.
    pub(super) fn learn_named(&mut self) {
        for claim in &self.report.claims {
            for person in claim.people() {
                self.pair(person);
            }
        }
    }

    fn hear(&mut self, claim: &Claim) {
        match claim {
            Claim::Joined(group) => self.joined(group),
            Claim::Left(how) => self.left(*how),
            Claim::Came(people, how) => self.came(people, *how),
            Claim::Went(people, how) => self.went(people, *how),
            Claim::Promoted(people) => self.ranked(people, Kind::Promote),
            Claim::Demoted(people) => self.ranked(people, Kind::Demote),
            Claim::Updated(group) if !self.is_closed() => self.updated(group),
            Claim::Invite(link) if !self.is_closed() => self.invite(link, true),
            Claim::InviteShown(link) if !self.is_closed() => self.invite(link, false),
            Claim::Updated(_) | Claim::Invite(_) | Claim::InviteShown(_) => {}
            Claim::Compared(group) => self.compared(group),
            Claim::Missing => self.missing(),
        }
    }

    pub(super) fn came(&mut self, people: &[Person], how: NotificationType) {
        let (mine, others) = self.split(people);
        // Without the group there is no event of it.
        if mine && !self.known.is_inside() {
            self.look_soon();
        }
        for (command, lot) in self.lots(&others, Kind::Come) {
            let who: Vec<_> = lot.iter().map(|(id, _)| id.clone()).collect();
            self.notify(EventName::GroupJoin, how, &who, command.clone());
            self.membership(MembershipChange::Join, lot, command);
        }
    }

    pub(super) fn went(&mut self, people: &[Person], how: NotificationType) {
        let (mine, others) = self.split(people);
        for (command, lot) in self.lots(&others, Kind::Go) {
            let how = match (how, &command) {
                (NotificationType::Leave, Some(_)) => NotificationType::Remove,
                _ => how,
            };
            self.gone(lot, how, command);
        }
        if mine {
            self.left(how);
        }
    }

    pub(super) fn gone(
        &mut self,
        lot: Vec<(ParticipantId, Option<Role>)>,
        how: NotificationType,
        command: Option<CommandId>,
    ) {
        let who: Vec<_> = lot.iter().map(|(id, _)| id.clone()).collect();
        self.notify(EventName::GroupLeft, how, &who, command.clone());
        self.membership(MembershipChange::Leave, lot, command);
    }

    pub(super) fn ranked(&mut self, people: &[Person], kind: Kind) {
        let change = match kind {
            Kind::Promote => MembershipChange::Promote,
            _ => MembershipChange::Demote,
        };
        for (command, lot) in self.lots(people, kind) {
            self.membership(change, lot, command);
        }
    }

    /// The people to whom something new happened, by the command that did it; they are known so now.
    fn lots(&mut self, people: &[Person], kind: Kind) -> Vec<Lot> {
        let mut lots: Vec<Lot> = Vec::new();
        if people.is_empty() || self.is_closed() {
            return lots;
        }
        for person in people {
            self.pair(person);
            let ids = self.ids(person);
            let key = self.directory.key(&ids);
            let role = match kind {
                Kind::Come => Some(person.role),
                Kind::Go => None,
                Kind::Promote if person.role == Role::Superadmin => Some(Role::Superadmin),
                Kind::Promote => Some(Role::Admin),
                Kind::Demote => Some(Role::Participant),
            };
            let news = if self.is_unclear(&ids, key.as_ref(), kind) {
                News::Unclear
            } else {
                self.news_of(&ids, key.as_ref(), kind, role)
            };
            let command = match news {
                News::Old => continue,
                News::New(command) => command,
                News::Unclear => {
                    self.may_have_come(&ids, key.as_ref(), kind);
                    self.look_soon();
                    continue;
                }
            };
            let Some(id) = self.keep(&ids, key, role) else {
                continue;
            };
            match lots.iter_mut().find(|(of, _)| *of == command) {
                Some((_, lot)) => lot.push((id, role)),
                None => lots.push((command, vec![(id, role)])),
            }
        }
        lots
    }

    /// Whether nothing about others is an event now: the account is out of the group, or the event
    /// that it has joined waits for a whole list, which will hold what is told meanwhile.
    fn is_closed(&mut self) -> bool {
        if self.known.joined.is_some() {
            self.look_soon();
            return true;
        }
        let out = self.known.inside.as_ref().filter(|inside| !inside.value);
        let Some(at) = out.map(|out| out.at) else {
            return false;
        };
        // What is told from inside means that the account is in it again.
        if self.report.at > at {
            self.look_soon();
        }
        true
    }

    /// Whether somebody may be one whom we know, or are about to change, by another id. Then whatever
    /// happened to them is found by looking, where both ids are told.
    fn is_unclear(&self, ids: &Ids, key: Option<&ParticipantId>, kind: Kind) -> bool {
        let is_complete = ids.phone.is_some() && ids.lid.is_some();
        if is_complete || self.report.source == Source::Comparison {
            return false;
        }
        let known = &*self.known;
        let phones = &known.phones;
        let member = key.and_then(|key| known.people.get(key));
        if member.is_none_or(|member| member.role.is_none()) {
            // Who was told to be gone later, or is in it.
            let others = known.people.iter().filter(|(id, member)| {
                Some(*id) != key && (member.role.is_some() || member.at >= self.report.at)
            });
            let mut others = others.map(|(id, _)| self.directory.ids_of([id], phones));
            if others.any(|other| other.may_be(ids)) {
                return true;
            }
        }
        if matches!(self.report.source, Source::Command(_)) {
            return false;
        }
        let expected = known.causes.iter();
        let mut expected = expected.flat_map(|cause| cause.what.named(Some(kind)));
        let is_expected = known.causes.iter();
        let mut is_expected = is_expected.flat_map(|cause| cause.what.named(Some(kind)));
        !is_expected.any(|id| ids.has(id))
            && ((kind == Kind::Go && self.may_be_own(ids))
                || expected.any(|id| self.directory.ids_of([id], phones).may_be(ids)))
    }

    /// Whether what is told of a person is new, and which command did it.
    fn news_of(
        &mut self,
        ids: &Ids,
        key: Option<&ParticipantId>,
        kind: Kind,
        role: Option<Role>,
    ) -> News {
        let by = self.by();
        let doing = causes::of_person(&mut self.known.causes, by, kind, ids);
        if let By::Command(command) = by {
            // It stood in the command's list until now, or WAHA was faster; there is no third.
            return match doing {
                Doing::Command(_) => {
                    self.expect_echo(command.clone(), kind, ids);
                    News::New(Some(command.clone()))
                }
                _ => News::Old,
            };
        }
        match doing {
            Doing::Echo => return News::Old,
            Doing::Command(command) => return News::New(Some(command)),
            Doing::Unknown => {}
        }
        let earlier = key.and_then(|key| self.known.people.get(key)).cloned();
        if self.is_outdated(earlier.as_ref().map(|earlier| earlier.at)) {
            return News::Old;
        }
        let Some(earlier) = earlier else {
            // Who is not known was not in the group when everybody was shown.
            let shown = self.known.whole.then_some(self.known.shown);
            return match kind {
                _ if self.is_outdated(shown) => News::Old,
                // Everybody who is in the group is known.
                Kind::Go if self.known.whole => {
                    self.keep(ids, None, None);
                    News::Old
                }
                Kind::Promote | Kind::Demote if self.known.whole => News::Unclear,
                _ => News::New(None),
            };
        };
        let same = match (kind, earlier.role) {
            (Kind::Come, now) => now.is_some(),
            (Kind::Go, now) => now.is_none(),
            // They must have come back.
            (_, None) => return News::Unclear,
            (Kind::Promote, Some(now)) => now != Role::Participant,
            (Kind::Demote, Some(now)) => Some(now) == role,
        };
        if !same {
            return News::New(None);
        }
        if let (By::Waha, Some(key)) = (by, key) {
            let fresh = Member {
                at: earlier.at.max(self.report.at),
                quiet: earlier.quiet,
                ..self.member(earlier.role)
            };
            self.known.people.insert(key.clone(), fresh);
        }
        News::Old
    }

    pub(super) fn expect_echo(&mut self, command: CommandId, kind: Kind, ids: &Ids) {
        let who: BTreeSet<_> = ids.name().into_iter().cloned().collect();
        let what = match kind {
            Kind::Come => What::Come(who),
            Kind::Go => What::Go(who),
            Kind::Promote => What::Promote(who),
            Kind::Demote => What::Demote(who),
        };
        self.echo(command, what);
    }

    pub(super) fn echo(&mut self, command: CommandId, what: What) {
        self.known.causes.push(Cause {
            command,
            at: self.report.now,
            told: true,
            what,
        });
    }

    /// Keeps that somebody is in the group as something, or gone; the id that events call them by.
    pub(super) fn keep(
        &mut self,
        ids: &Ids,
        key: Option<ParticipantId>,
        role: Option<Role>,
    ) -> Option<ParticipantId> {
        let is_member = |key: &ParticipantId| {
            let member = self.known.people.get(key);
            member.is_some_and(|member| member.role.is_some())
        };
        // Who is in it keeps their id, and who is gone keeps the form of their phone.
        let kept = key
            .as_ref()
            .filter(|key| is_phone(key) || is_member(key))
            .cloned();
        let id = kept.or_else(|| ids.name().cloned())?;
        if let Some(key) = key.filter(|key| *key != id) {
            self.known.people.remove(&key);
            self.directory.renamed(&key, &id);
        }
        let member = self.member(role);
        self.known.people.insert(id.clone(), member);
        self.directory.enter(&id, &self.known.phones);
        Some(id)
    }

    pub(super) fn ids(&self, person: &Person) -> Ids {
        self.directory.ids(person, &self.known.phones)
    }

    /// Learns that the ids of the session's own account are one person's.
    fn learn_own(&mut self) {
        let phone = self.report.me.iter().find(|id| is_phone(id));
        let lid = self.report.me.iter().find(|id| !is_phone(id));
        if let (Some(phone), Some(lid)) = (phone, lid) {
            self.pair(&Person {
                lid: Some(lid.clone()),
                ..Person::bare(phone)
            });
        }
    }

    /// The ids of the session's own account; empty where nobody told.
    pub(super) fn me(&self) -> Ids {
        self.directory.ids_of(&self.report.me, &self.known.phones)
    }

    /// The others, and whether the session's own account is among these people.
    fn split(&mut self, people: &[Person]) -> (bool, Vec<Person>) {
        for person in people {
            self.pair(person);
        }
        let me = self.me();
        let mine = |person: &&Person| me.is(&self.ids(person));
        let others = people.iter().filter(|person| !mine(person)).cloned();
        (people.iter().any(|it| mine(&it)), others.collect())
    }

    /// Wants the group looked at, no sooner than `due`.
    pub(super) fn look(&mut self, due: i64) {
        let earlier = self.follows.look_at;
        self.follows.look_at = Some(earlier.map_or(due, |earlier| earlier.min(due)));
    }

    /// Wants the group looked at now, and again once a list cannot be the one from before any more.
    pub(super) fn look_soon(&mut self) {
        self.known.unclear = Some(self.report.now);
        self.look(self.report.now);
    }

    /// Who tells.
    pub(super) const fn by(&self) -> By<'a> {
        match &self.report.source {
            Source::Command(command) => By::Command(command),
            Source::Notification(_) => By::Waha,
            Source::Comparison => By::Comparison,
        }
    }

    /// Whether what is known is newer than what a notification tells.
    pub(super) fn is_outdated(&mut self, known: Option<i64>) -> bool {
        let Source::Notification(_) = self.report.source else {
            return false;
        };
        let latest = latest(self.report.at);
        let outdated = known.is_some_and(|known| known > latest);
        self.follows.outdated |= outdated;
        outdated
    }

    /// Since when it is so, at least: a look may show what was so a while before it was begun.
    pub(super) const fn since(&self) -> i64 {
        match self.report.source {
            Source::Comparison => self.report.at - self.lag.usual(),
            _ => self.report.at,
        }
    }

    pub(super) const fn told<T>(&self, value: T) -> Told<T> {
        Told {
            value,
            at: self.since(),
            heard: self.report.now,
        }
    }

    pub(super) fn member(&self, role: Option<Role>) -> Member {
        Member {
            role,
            at: self.since(),
            heard: self.report.now,
            shown: self.report.source == Source::Comparison,
            quiet: false,
            doubt: None,
        }
    }
}
