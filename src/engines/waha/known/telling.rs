//! From a claim to what is new in it, in the sandbox's order, so that a consumer sees the same from
//! every engine. The events that say so are made in `emitting`.

use std::collections::BTreeSet;

use super::causes::{self, Cause, Doing, Kind, What};
use super::{Claim, Follows, Known, KnownSession, Place, Report, Source, Told};
use crate::contract::{
    CommandId, EventName, EventPayload, MembershipChange, NotificationType, OwnMembership,
    ParticipantId, Role,
};
use crate::engines::waha::wire::{Person, Seen};

/// How much a time in whole seconds may be behind.
const SECOND: i64 = 999;

/// What is known of one group while a report is taken in.
pub(super) struct Telling<'a> {
    pub(super) known: &'a mut Known,
    pub(super) place: Place<'a>,
    pub(super) session: &'a mut KnownSession,
    pub(super) report: &'a Report,
    pub(super) follows: Follows,
}

/// Whether what is told is new.
enum News {
    Old,
    New(Option<CommandId>),
}

/// People to whom the same happened through the same command.
type Lot = (Option<CommandId>, Vec<(ParticipantId, Option<Role>)>);

impl<'a> Telling<'a> {
    pub(super) fn new(
        known: &'a mut Known,
        place: Place<'a>,
        session: &'a mut KnownSession,
        report: &'a Report,
    ) -> Self {
        Self {
            known,
            place,
            session,
            report,
            follows: Follows::default(),
        }
    }

    pub(super) fn hear_all(&mut self) {
        if let Some(author) = &self.report.author {
            self.identify(author);
        }
        for claim in &self.report.claims {
            self.hear(claim);
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
            Claim::Updated(group) => self.updated(group),
            Claim::Invite(link) => self.invite(link, true),
            Claim::InviteShown(link) => self.invite(link, false),
            Claim::Compared(group) => self.compared(group),
        }
    }

    /// The account is in the group. An event unless that is known.
    fn joined(&mut self, group: &Seen) {
        if self.known.is_inside() {
            if !self.known.whole {
                self.learn(group);
            }
            self.stay();
            return;
        }
        if self.is_outdated(self.known.inside.as_ref().map(|inside| inside.at)) {
            return;
        }
        let command = self.creation(group);
        let created = command.is_some();
        self.known.people.clear();
        self.learn(group);
        self.known.inside = Some(self.told(true));
        let Some(whole) = group.clone().into_group() else {
            return;
        };
        let author = self.author(command.as_ref());
        let everybody = whole.participants.iter().flatten().map(|it| it.id.clone());
        let who: Vec<_> = if created {
            everybody.collect()
        } else {
            self.report.me.iter().take(1).cloned().collect()
        };
        self.emit(EventName::OwnJoin, command.clone(), |seen| {
            EventPayload::OwnJoin(OwnMembership {
                timestamp: seen.seconds,
                group: Box::new(whole),
                author: author.clone(),
                sequence: seen.sequence,
                command_id: seen.command,
                reconciled: seen.reconciled,
            })
        });
        let how = if created {
            NotificationType::Create
        } else {
            self.how_joined(group)
        };
        self.notify(EventName::GroupJoin, how, &who, command);
    }

    /// The account is out. An event unless that is known.
    fn left(&mut self, how: NotificationType) {
        let mut doing = self.doing_of(|what| *what == What::Leave);
        if doing == Doing::Unknown {
            doing = self.removal_of_oneself();
        }
        let at = self.known.inside.as_ref().map(|inside| inside.at);
        if doing == Doing::Echo || self.known.was_inside() || self.is_outdated(at) {
            return;
        }
        // Who was never known to be in cannot be found to be out.
        if self.report.source == Source::Comparison && !self.known.is_inside() {
            return;
        }
        let command = match doing {
            Doing::Command(command) => Some(command),
            Doing::Echo | Doing::Unknown => None,
        };
        self.known.inside = Some(self.told(false));
        // What happens in it now is not told any more.
        self.known.whole = false;
        self.known.people.clear();
        self.known.invite = None;
        let me: Vec<_> = self.report.me.iter().take(1).cloned().collect();
        let author = self.author(command.as_ref());
        let group = self.nothing();
        self.emit(EventName::OwnLeave, command.clone(), |seen| {
            seen.change(group, author)
        });
        self.notify(EventName::GroupLeft, how, &me, command);
    }

    fn came(&mut self, people: &[Person], how: NotificationType) {
        let (mine, others) = self.split(people);
        // Without the group there is no event of it.
        self.follows.look |= mine && !self.known.is_inside();
        for (command, lot) in self.lots(&others, Kind::Come) {
            let who: Vec<_> = lot.iter().map(|(id, _)| id.clone()).collect();
            self.notify(EventName::GroupJoin, how, &who, command.clone());
            self.membership(MembershipChange::Join, lot, command);
        }
    }

    fn went(&mut self, people: &[Person], how: NotificationType) {
        let (mine, others) = self.split(people);
        for (command, lot) in self.lots(&others, Kind::Go) {
            let who: Vec<_> = lot.iter().map(|(id, _)| id.clone()).collect();
            let how = match (how, &command) {
                (NotificationType::Leave, Some(_)) => NotificationType::Remove,
                _ => how,
            };
            self.notify(EventName::GroupLeft, how, &who, command.clone());
            self.membership(MembershipChange::Leave, lot, command);
        }
        if mine {
            self.left(how);
        }
    }

    fn ranked(&mut self, people: &[Person], kind: Kind) {
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
        for person in people {
            let id = self.identify(person);
            let role = match kind {
                Kind::Come => Some(person.role),
                Kind::Go => None,
                Kind::Promote if person.role == Role::Superadmin => Some(Role::Superadmin),
                Kind::Promote => Some(Role::Admin),
                Kind::Demote => Some(Role::Participant),
            };
            let News::New(command) = self.news_of(&id, kind, role) else {
                continue;
            };
            let told = self.told(role);
            self.known.people.insert(id.clone(), told);
            match lots.iter_mut().find(|(of, _)| *of == command) {
                Some((_, lot)) => lot.push((id, role)),
                None => lots.push((command, vec![(id, role)])),
            }
        }
        lots
    }

    /// Whether what is told of a person is new, and which command did it.
    fn news_of(&mut self, id: &ParticipantId, kind: Kind, role: Option<Role>) -> News {
        let by = self.by();
        let doing = causes::of_person(&mut self.known.causes, by, kind, id);
        if let Some(command) = by {
            // It stood in the command's list until now, or WAHA was faster; there is no third.
            return match doing {
                Doing::Command(_) => {
                    self.expect_echo(command.clone(), kind, id);
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
        let earlier = self.known.people.get(id);
        let same = match (kind, earlier.map(|told| told.value)) {
            // Nothing is known of them: new, unless everybody who is in the group is known.
            (Kind::Go, None) => self.known.whole,
            (_, None) => false,
            (Kind::Come, Some(now)) => now.is_some(),
            (Kind::Promote, Some(now)) => matches!(now, Some(Role::Admin | Role::Superadmin)),
            (Kind::Go | Kind::Demote, Some(now)) => now == role,
        };
        // Who is not known was not in the group when everybody was shown.
        let shown = self.known.whole.then_some(self.known.shown);
        let at = earlier.map(|told| told.at).or(shown);
        if same || self.is_outdated(at) {
            return News::Old;
        }
        News::New(None)
    }

    pub(super) fn expect_echo(&mut self, command: CommandId, kind: Kind, id: &ParticipantId) {
        let who = BTreeSet::from([id.clone()]);
        let what = match kind {
            Kind::Come => What::Come(who),
            Kind::Go => What::Go(who),
            Kind::Promote => What::Promote(who),
            Kind::Demote => What::Demote(who),
        };
        self.echo(command, what);
    }

    fn echo(&mut self, command: CommandId, what: What) {
        self.known.causes.push(Cause {
            command,
            at: self.report.now,
            told: true,
            what,
        });
    }

    /// Texts and settings: one event with all that is new.
    fn updated(&mut self, group: &Seen) {
        let mut changed = self.nothing();
        let mut command = None;
        if let Some(subject) = &group.subject {
            let is_it = |what: &What| *what == What::Subject(subject.clone());
            let new = self.news(|known| &mut known.subject, subject, is_it, &mut command);
            changed.subject = new.then(|| subject.clone());
        }
        if let Some(description) = &group.description {
            let is_it = |what: &What| *what == What::Description(description.clone());
            let slot: fn(&mut Known) -> &mut Option<Told<_>> = |known| &mut known.description;
            let new = self.news(slot, description, is_it, &mut command);
            changed.description = new.then(|| description.clone());
        }
        if let Some(on) = group.info_admin_only {
            let is_it = |what: &What| *what == What::InfoAdminOnly(on);
            let new = self.news(|known| &mut known.info_admin_only, &on, is_it, &mut command);
            changed.info_admin_only = new.then_some(on);
        }
        let none = |_: &What| false;
        if let Some(on) = group.messages_admin_only {
            let new = self.news(
                |known| &mut known.messages_admin_only,
                &on,
                none,
                &mut command,
            );
            changed.messages_admin_only = new.then_some(on);
        }
        if let Some(on) = group.members_can_add {
            let new = self.news(|known| &mut known.members_can_add, &on, none, &mut command);
            changed.members_can_add_new_member = new.then_some(on);
        }
        if let Some(on) = group.approval_required {
            let new = self.news(
                |known| &mut known.approval_required,
                &on,
                none,
                &mut command,
            );
            changed.new_members_approval_required = new.then_some(on);
        }
        if changed != self.nothing() {
            self.update(changed, command);
        }
    }

    /// Whether a text or setting is news; it is known so now.
    fn news<T: Clone + PartialEq>(
        &mut self,
        slot: fn(&mut Known) -> &mut Option<Told<T>>,
        value: &T,
        is_it: impl Fn(&What) -> bool,
        command: &mut Option<CommandId>,
    ) -> bool {
        let doing = self.doing_of(&is_it);
        if doing == Doing::Echo {
            return false;
        }
        let earlier = slot(self.known).clone();
        if self.is_outdated(earlier.as_ref().map(|told| told.at)) {
            return false;
        }
        let told = self.told(value.clone());
        *slot(self.known) = Some(told);
        if earlier.is_some_and(|earlier| earlier.value == *value) {
            return false;
        }
        if let Doing::Command(by) = doing {
            *command = Some(by);
        }
        true
    }

    /// The whole group as it was when the report was begun; what was heard since is newer.
    fn compared(&mut self, group: &Seen) {
        if self.known.moved_since(self.report.heard) {
            return;
        }
        if !self.known.is_inside() {
            if self.session.looked || self.known.was_inside() {
                self.joined(group);
            } else {
                self.learn(group);
                self.known.inside = Some(self.told(true));
            }
            return;
        }
        if !self.known.whole {
            self.learn(group);
            return;
        }
        let mut there = BTreeSet::new();
        let (mut came, mut promoted, mut demoted) = (Vec::new(), Vec::new(), Vec::new());
        for person in group.people.iter().flatten() {
            let id = self.identify(person);
            there.insert(id.clone());
            if self.heard_since(&id) {
                continue;
            }
            let rank = |role| u8::from(role != Role::Participant);
            match self.known.people.get(&id).and_then(|told| told.value) {
                None => came.push(person.clone()),
                Some(role) if rank(role) < rank(person.role) => promoted.push(person.clone()),
                Some(role) if rank(role) > rank(person.role) => demoted.push(person.clone()),
                Some(_) => {}
            }
        }
        let gone = self.known.people.iter().filter(|(id, told)| {
            told.value.is_some() && !there.contains(*id) && told.heard < self.report.heard
        });
        let went: Vec<_> = gone.map(|(id, _)| Person::bare(id)).collect();
        self.came(&came, NotificationType::Add);
        self.went(&went, NotificationType::Leave);
        self.ranked(&promoted, Kind::Promote);
        self.ranked(&demoted, Kind::Demote);
        self.updated(group);
    }

    fn heard_since(&self, id: &ParticipantId) -> bool {
        let told = self.known.people.get(id);
        told.is_some_and(|told| told.heard >= self.report.heard)
    }

    /// Takes a whole group as known, without any event.
    fn learn(&mut self, group: &Seen) {
        let people = group.people.clone().unwrap_or_default();
        self.known.whole = !people.is_empty();
        self.known.shown = self.report.at;
        for person in &people {
            let id = self.identify(person);
            let told = self.told(Some(person.role));
            self.known.people.insert(id, told);
        }
        let Report { at, now, .. } = *self.report;
        let told = |value| Told {
            value,
            at,
            heard: now,
        };
        let known = &mut *self.known;
        known.subject = group.subject.clone().map(|value| Told {
            value,
            at,
            heard: now,
        });
        let description = group.description.clone().unwrap_or_default();
        known.description = Some(Told {
            value: description,
            at,
            heard: now,
        });
        known.info_admin_only = group.info_admin_only.map(told);
        known.messages_admin_only = group.messages_admin_only.map(told);
        known.members_can_add = group.members_can_add.map(told);
        known.approval_required = group.approval_required.map(told);
    }

    /// A person's id, by phone where that was ever told.
    fn identify(&mut self, person: &Person) -> ParticipantId {
        let known = &mut *self.known;
        if let Some(lid) = person.lid.as_ref().filter(|_| !person.is_private()) {
            if known.phones.get(lid) != Some(&person.id) {
                known.phones.insert(lid.clone(), person.id.clone());
            }
            // They were known by the private id until now.
            if let Some(told) = known.people.remove(lid) {
                known.people.entry(person.id.clone()).or_insert(told);
            }
        }
        known.phones.get(&person.id).unwrap_or(&person.id).clone()
    }

    /// The others, and whether the session's own account is among these people.
    fn split(&self, people: &[Person]) -> (bool, Vec<Person>) {
        let mine = |person: &&Person| self.report.me.iter().any(|me| person.is(me));
        let others = people.iter().filter(|person| !mine(person)).cloned();
        (people.iter().any(|it| mine(&it)), others.collect())
    }

    /// The creation that this new group belongs to.
    fn creation(&mut self, group: &Seen) -> Option<CommandId> {
        let creations = &mut self.session.creations;
        let fits = |it: &super::Creation| match &self.report.source {
            Source::Command(command) => it.command == *command,
            _ => Some(&it.subject) == group.subject.as_ref(),
        };
        let found = creations.iter().position(fits);
        let found = found.map(|index| creations.remove(index).command);
        // A group may be found again long after the command was forgotten here.
        self.by().cloned().or(found)
    }

    /// Whose doing something is; when the command itself says so, WAHA's echo is still to come.
    pub(super) fn doing_of(&mut self, is_it: impl Fn(&What) -> bool) -> Doing {
        let by = self.by();
        let (doing, what) = causes::of_change(&mut self.known.causes, by, is_it);
        if let (Some(command), Some(what)) = (by, what) {
            self.echo(command.clone(), what);
        }
        doing
    }

    /// The command that tells, where it is one.
    pub(super) const fn by(&self) -> Option<&'a CommandId> {
        match &self.report.source {
            Source::Command(command) => Some(command),
            Source::Notification(_) | Source::Comparison => None,
        }
    }

    /// Whether what is known is newer than what a notification tells.
    pub(super) fn is_outdated(&mut self, known: Option<i64>) -> bool {
        let Source::Notification(_) = self.report.source else {
            return false;
        };
        let at = self.report.at;
        let latest = if at % 1_000 == 0 { at + SECOND } else { at };
        let outdated = known.is_some_and(|known| known > latest);
        self.follows.outdated |= outdated;
        outdated
    }

    pub(super) const fn told<T>(&self, value: T) -> Told<T> {
        Told {
            value,
            at: self.report.at,
            heard: self.report.now,
        }
    }
}
