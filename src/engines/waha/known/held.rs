//! Notifications about a group that the account is not known to be in: they wait until the group has
//! been looked at, so that its `group.v2.join` comes first.
//!
//! They are kept with the group, so nothing is lost with the process. What can't be looked at for
//! long is told without a join.

use std::collections::BTreeMap;

use super::doubts::rank;
use super::identity::Directory;
use super::telling::{Telling, latest};
use super::{Claim, Follows, Known, KnownSession, Lag, Place, Report, Source};
use crate::contract::Role;
use crate::engines::waha::wire::Person;

/// For how long a notification waits, in milliseconds. NOWEB's store shows a new group late.
const LONGEST: i64 = 30_000;

/// The number of notifications that wait for one group.
const MOST: usize = 100;

impl Known {
    /// Keeps a notification that has to wait; whether it does.
    pub(super) fn hold(&mut self, report: &Report) -> bool {
        let waits = self.has_to_wait(report);
        if waits {
            self.held.push(report.clone());
        }
        waits
    }

    fn has_to_wait(&self, report: &Report) -> bool {
        let Source::Notification(_) = report.source else {
            return false;
        };
        // What is older than our leaving happened while we were in.
        let is_late = self.inside.as_ref().is_some_and(|it| it.at >= report.at);
        !self.is_open()
            && !is_late
            && !report.claims.iter().any(|it| is_own(it, report))
            && !self.is_told_again(report)
    }

    /// Whether all that a notification tells of people was told before, or something later was. What
    /// is told of people outlives an own leaving that is found late.
    fn is_told_again(&self, report: &Report) -> bool {
        let directory = Directory::new(&self.people, &self.phones);
        let is_known = |claim: &Claim, person: &Person| {
            let ids = directory.ids(person, &self.phones);
            let member = directory.key(&ids).and_then(|key| self.people.get(&key));
            member.is_some_and(|member| {
                let is_so = match claim {
                    Claim::Came(..) => member.role.is_some(),
                    Claim::Went(..) => member.role.is_none(),
                    Claim::Promoted(_) => rank(member.role) == rank(Some(Role::Admin)),
                    _ => rank(member.role) == rank(Some(Role::Participant)),
                };
                !member.shown
                    && (member.at > latest(report.at) || (is_so && member.at >= report.at))
            })
        };
        report.claims.iter().all(|claim| {
            let people = claim.people();
            !people.is_empty() && people.iter().all(|person| is_known(claim, person))
        })
    }

    /// Whether the account is known to be in the group, and the event that says so is published.
    pub(super) fn is_open(&self) -> bool {
        self.is_inside() && self.joined.is_none()
    }

    /// Whether notifications wait for a look at this group.
    pub(in crate::engines::waha) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Tells what has waited, where its time has come. `looked` is when the look was begun that has
    /// just shown the group.
    pub(super) fn release(
        &mut self,
        at: (Place<'_>, Lag),
        session: &mut KnownSession,
        report: &Report,
        looked: Option<i64>,
    ) -> Follows {
        let mut follows = Follows::default();
        let first = self.held.first().map_or(i64::MAX, |held| held.heard);
        // A look may be taken for one from before the join for a while.
        let longest = LONGEST.max(at.1.usual().saturating_mul(3));
        let is_late = self.held.len() >= MOST || report.now.saturating_sub(first) >= longest;
        // A look that shows no such group may have come too early; an own leaving is certain.
        let is_certain = matches!(report.source, Source::Notification(_));
        let is_own = is_certain && report.claims.iter().any(|it| is_own(it, report));
        if self.held.is_empty() || !(self.is_open() || is_late || is_own) {
            return follows;
        }
        let mut held = std::mem::take(&mut self.held);
        held.sort_by_key(|held| held.at);
        let (shown, since): (Vec<_>, Vec<_>) = held
            .into_iter()
            .partition(|held| looked.is_some_and(|looked| held.heard < looked));
        // The look shows whom these have changed, so it would make them old: people are compared with
        // each other alone, and those whom the look shows stay. Without a whole list, what was told counts.
        let told = if self.is_open() {
            BTreeMap::new()
        } else {
            self.people.clone()
        };
        let mut before = Self {
            sequence: self.sequence,
            inside: self.inside.clone(),
            causes: std::mem::take(&mut self.causes),
            people: told,
            ..Self::default()
        };
        // Texts that the look shows as they were told are no news.
        self.hand_texts_to(&mut before);
        for mut held in shown {
            self.name_as_known(&mut held);
            follows.add(before.replay(at, session, held, report.now));
        }
        before.hand_texts_to(self);
        self.sequence = before.sequence;
        self.causes = before.causes;
        // Where the look shows something else, what is told counts until other looks agree.
        self.people.extend(before.people);
        for held in since {
            follows.add(self.replay(at, session, held, report.now));
        }
        follows
    }

    /// Names the people of a notification as the group's list names them. Who may be one of the list
    /// by another id is left out: they are in it already.
    fn name_as_known(&self, held: &mut Report) {
        let directory = Directory::new(&self.people, &self.phones);
        let me = directory.ids_of(&held.me, &self.phones);
        let named = |person: &Person| {
            let ids = directory.ids(person, &self.phones);
            let key = directory.key(&ids);
            let mut members = self.members();
            let is_unclear = key.is_none()
                && members.any(|(id, _)| directory.ids_of([id], &self.phones).may_be(&ids));
            let id = key.or_else(|| ids.name().cloned())?;
            (!is_unclear && !me.is(&ids)).then_some(Person {
                id,
                lid: None,
                role: person.role,
            })
        };
        for claim in &mut held.claims {
            if let Claim::Came(people, _)
            | Claim::Went(people, _)
            | Claim::Promoted(people)
            | Claim::Demoted(people) = claim
            {
                *people = people.iter().filter_map(named).collect();
            }
        }
        if let Some(author) = &mut held.author {
            let ids = directory.ids(author, &self.phones);
            let id = directory.key(&ids).or_else(|| ids.name().cloned());
            *author = id.map_or_else(|| author.clone(), |id| Person::bare(&id));
        }
    }

    fn replay(
        &mut self,
        (place, lag): (Place<'_>, Lag),
        session: &mut KnownSession,
        mut held: Report,
        now: i64,
    ) -> Follows {
        held.now = now;
        let mut telling = Telling::new(self, place, session, &held, lag);
        telling.hear_all();
        telling.follows
    }
}

impl Follows {
    /// What follows from something else as well.
    pub(super) fn add(&mut self, next: Self) {
        self.events.extend(next.events);
        self.outdated |= next.outdated;
        self.look_at = match (self.look_at, next.look_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// Whether a claim is about the account's own coming or going, which needs no look at the group.
fn is_own(claim: &Claim, report: &Report) -> bool {
    match claim {
        Claim::Joined(_) | Claim::Left(_) => true,
        Claim::Went(people, _) => people
            .iter()
            .any(|person| report.me.iter().any(|me| person.is(me))),
        _ => false,
    }
}
