//! The session's own account: that it is in the group, and that it is out.

use super::causes::{self, Doing, What};
use super::doubts::{self, Verdict};
use super::identity::Directory;
use super::own::NEW;
use super::telling::Telling;
use super::{Joined, Member, Source};
use crate::contract::{
    CommandId, EventName, EventPayload, NotificationType, OwnMembership, ParticipantId,
};
use crate::engines::waha::wire::{Extent, Person, Seen};

impl Telling<'_> {
    /// The account is in the group. An event unless that is known.
    pub(super) fn joined(&mut self, group: &Seen) {
        if self.known.is_inside() {
            self.still_inside(group);
            return;
        }
        if self.is_outdated(self.known.inside.as_ref().map(|inside| inside.at)) {
            return;
        }
        let command = self.creation(group);
        let is_back = self.known.was_inside();
        self.known.inside = Some(self.told(true));
        self.known.out_shown = false;
        self.known.inside_doubt = None;
        let how = if command.is_some() {
            NotificationType::Create
        } else {
            self.how_joined(group, is_back)
        };
        let joined = Joined {
            author: self.author(command.as_ref()),
            how,
            command,
            heard: self.report.now,
            shown: self.report.source == Source::Comparison,
        };
        if group.extent() == Extent::Whole && !joined.shown {
            self.announce(group, joined);
        } else {
            // The event says who is in the group, so it waits for a list that does.
            let is_told = !joined.shown;
            self.known.joined = Some(joined);
            if is_told {
                self.look_soon();
            }
        }
    }

    fn still_inside(&mut self, group: &Seen) {
        let at = self.since();
        if let Some(inside) = &mut self.known.inside {
            inside.at = inside.at.max(at);
        }
        if group.extent() != Extent::Whole {
            return;
        }
        if let Some(mut joined) = self.known.joined.take() {
            // A command that tells so has made the group, whatever it is called by now.
            if let causes::By::Command(command) = self.by() {
                joined.author = self.author(Some(command));
                joined.how = NotificationType::Create;
                joined.command = Some(command.clone());
            }
            self.announce(group, joined);
        } else if !self.known.whole {
            self.enroll(group, true);
            self.all_shown();
            self.learn_texts(group);
        }
    }

    /// Publishes that the account is in the group, with everybody who is in it.
    pub(super) fn announce(&mut self, group: &Seen, joined: Joined) {
        self.known.joined = None;
        self.forget_unlisted(group);
        self.enroll(group, false);
        for member in self.known.people.values_mut() {
            member.quiet = false;
        }
        self.forget_doubles(group);
        self.all_shown();
        self.known.whole = group.extent() == Extent::Whole;
        self.learn_texts(group);
        let mut shown = group.clone();
        shown.people = Some(self.everybody(group));
        self.show_texts(&mut shown);
        let Some(whole) = shown.into_group() else {
            return;
        };
        let Joined {
            command,
            author,
            how,
            ..
        } = joined;
        let created = command.is_some();
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
        self.notify(EventName::GroupJoin, how, &who, command);
    }

    /// Forgets members whom the list of a join does not show, and who did not come later.
    fn forget_unlisted(&mut self, group: &Seen) {
        let listed = group.people.iter().flatten();
        let listed: Vec<_> = listed.map(|person| self.ids(person)).collect();
        let since = self.since();
        let is_old = |id: &ParticipantId, member: &Member| {
            let ids = self.directory.ids_of([id], &self.known.phones);
            member.at <= since && !listed.iter().any(|it| it.is(&ids))
        };
        let people = self.known.people.iter();
        let old = people.filter(|(id, it)| it.role.is_some() && is_old(id, it));
        let old: Vec<_> = old.map(|(id, _)| id.clone()).collect();
        for id in old {
            self.known.people.remove(&id);
        }
        self.directory = Directory::new(&self.known.people, &self.known.phones);
    }

    /// Everybody in the group is known from now on.
    pub(super) fn all_shown(&mut self) {
        self.known.whole = true;
        self.known.shown = self.since();
        self.known.shown_heard = self.report.now;
    }

    /// Takes the people of a list as known; of whom something is known already, that stays, unless
    /// the account is told to have come into the group later. `quiet`: no event names them.
    pub(super) fn enroll(&mut self, group: &Seen, quiet: bool) {
        let is_look = self.report.source == Source::Comparison;
        for person in group.people.iter().flatten() {
            self.pair(person);
            let ids = self.ids(person);
            let key = self.directory.key(&ids);
            let known = key.as_ref().and_then(|key| self.known.people.get(key));
            if known.is_some_and(|known| is_look || known.at > self.report.at) {
                continue;
            }
            let role = Some(person.role);
            if let Some(id) = self.keep(&ids, key, role)
                && let Some(member) = self.known.people.get_mut(&id)
            {
                member.quiet = quiet;
            }
        }
    }

    /// Forgets those who may be in the list by another id: the list is what the event names.
    fn forget_doubles(&mut self, group: &Seen) {
        let listed = group.people.iter().flatten();
        let listed: Vec<_> = listed.map(|person| self.ids(person)).collect();
        let people = self.known.people.keys();
        let doubles = people.filter(|id| {
            let ids = self.directory.ids_of([*id], &self.known.phones);
            !listed.iter().any(|it| it.is(&ids)) && listed.iter().any(|it| it.may_be(&ids))
        });
        let doubles: Vec<_> = doubles.cloned().collect();
        for id in doubles {
            self.known.people.remove(&id);
        }
        self.directory = Directory::new(&self.known.people, &self.known.phones);
    }

    /// Everybody who is known to be in the group, in the order of a list.
    fn everybody(&self, group: &Seen) -> Vec<Person> {
        let mut all: Vec<ParticipantId> = Vec::new();
        let listed = group.people.iter().flatten();
        let listed = listed.filter_map(|person| self.directory.key(&self.ids(person)));
        for id in listed.chain(self.known.people.keys().cloned()) {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        let member = |id: ParticipantId| {
            let role = self.known.people.get(&id)?.role?;
            let ids = self.directory.ids_of([&id], &self.known.phones);
            Some(Person {
                lid: ids.lid.filter(|lid| *lid != id),
                id,
                role,
            })
        };
        all.into_iter().filter_map(member).collect()
    }

    /// The account is out. An event unless that is known.
    pub(super) fn left(&mut self, how: NotificationType) {
        let mut doing = self.doing_of(|what| *what == What::Leave);
        if doing == Doing::Unknown {
            doing = self.removal_of_oneself();
        }
        let at = self.known.inside.as_ref().map(|inside| inside.at);
        if doing == Doing::Echo || self.is_outdated(at) {
            return;
        }
        if self.known.was_inside() {
            let at = self.since();
            if let Some(inside) = &mut self.known.inside {
                inside.at = inside.at.max(at);
            }
            return;
        }
        // A comparison reports the account as gone only if it was known to be in.
        if self.report.source == Source::Comparison && !self.known.is_inside() {
            return;
        }
        let command = match doing {
            Doing::Command(command) => Some(command),
            Doing::Echo | Doing::Unknown => None,
        };
        self.known.inside = Some(self.told(false));
        self.known.out_shown = self.report.source == Source::Comparison;
        self.known.inside_doubt = None;
        // What happens in it now is not told any more.
        self.known.whole = false;
        // Where that is found late, what was told since is about the time after the account came back.
        let out = self.since();
        let people = &mut self.known.people;
        people.retain(|_, member| !member.shown && member.at > out);
        self.known.newcomers.clear();
        self.known.invite = None;
        if self.known.joined.take().is_some() {
            // Nobody was told that it had joined.
            return;
        }
        let me: Vec<_> = self.report.me.iter().take(1).cloned().collect();
        let author = self.author(command.as_ref());
        let group = self.nothing();
        self.emit(EventName::OwnLeave, command.clone(), |seen| {
            seen.change(group, author)
        });
        self.notify(EventName::GroupLeft, how, &me, command);
    }

    /// WAHA shows the group neither in its list nor by itself.
    pub(super) fn missing(&mut self) {
        let is_latest = self.is_latest();
        if !is_latest || !self.known.is_inside() || self.known.moved_since(self.report.heard) {
            return;
        }
        self.doubt_inside();
    }

    /// A look shows the group without the account, or does not show the group.
    pub(super) fn doubt_inside(&mut self) {
        let begun = self.report.heard;
        if self.may_be_older(self.known.inside.as_ref().map(|inside| inside.heard)) {
            return;
        }
        let span = self.lag.usual();
        match doubts::weigh(&mut self.known.inside_doubt, None, begun, span) {
            Verdict::Believed => self.left(NotificationType::Leave),
            Verdict::Wait(due) => self.look(due),
        }
    }

    /// Whether a command may be creating this group, though nobody has told: it is then no group from
    /// before the first look.
    pub(super) fn is_being_created(&self, group: &Seen) -> bool {
        let created = group.created_at.map(|at| at.0.as_millisecond());
        let mut creations = self.session.creations.iter();
        creations.any(|it| {
            // The clocks may differ.
            let is_new = created.is_none_or(|created| created >= it.at - NEW);
            is_new && Some(&it.subject) == group.subject.as_ref()
        })
    }

    /// The creation that this new group belongs to.
    pub(super) fn creation(&mut self, group: &Seen) -> Option<CommandId> {
        let creations = &mut self.session.creations;
        let fits = |it: &super::Creation| match &self.report.source {
            Source::Command(command) => it.command == *command,
            _ => Some(&it.subject) == group.subject.as_ref(),
        };
        let found = creations.iter().position(fits);
        let found = found.map(|index| creations.remove(index).command);
        // A group may be found again long after the command was forgotten here.
        match self.by() {
            causes::By::Command(command) => Some(command.clone()),
            _ => found,
        }
    }
}
