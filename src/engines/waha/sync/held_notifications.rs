//! Notifications about a group that the account is not known to be in: they wait until the group has
//! been looked at, so that its `group.v2.join` comes first.
//!
//! They are kept with the group, so nothing is lost with the process. What can't be looked at for
//! long is told without a join.

use std::collections::BTreeMap;

use super::confirmation::rank;
use super::member_index::MemberIndex;
use super::reducer::{Reducer, latest};
use super::{Effects, GroupKey, GroupState, Lag, Observation, Report, SessionState, Source};
use crate::contract::Role;
use crate::engines::waha::wire::Person;

/// For how long a notification waits, in milliseconds. NOWEB's store shows a new group late.
const LONGEST: i64 = 30_000;

/// The number of notifications that wait for one group.
const MOST: usize = 100;

impl GroupState {
    /// Keeps a notification that has to wait; whether it does.
    pub(super) fn hold(&mut self, report: &Report) -> bool {
        let waits = self.must_be_held(report);
        if waits {
            self.held.push(report.clone());
        }
        waits
    }

    fn must_be_held(&self, report: &Report) -> bool {
        let Source::Notification(_) = report.source else {
            return false;
        };
        // What is older than our leaving happened while we were in.
        let is_late = self.inside.as_ref().is_some_and(|it| it.at >= report.at);
        !self.is_join_published()
            && !is_late
            && !report.observations.iter().any(|it| is_own(it, report))
            && !self.is_repeat(report)
    }

    /// Whether all that a notification tells of people was told before, or something later was. What
    /// is told of people outlives an own leaving that is found late.
    fn is_repeat(&self, report: &Report) -> bool {
        let index = MemberIndex::new(&self.people, &self.phones);
        let is_known = |observation: &Observation, person: &Person| {
            let ids = index.ids(person, &self.phones);
            let member = index.key(&ids).and_then(|key| self.people.get(&key));
            member.is_some_and(|member| {
                let is_so = match observation {
                    Observation::MembersJoined(..) => member.role.is_some(),
                    Observation::MembersLeft(..) => member.role.is_none(),
                    Observation::Promoted(_) => rank(member.role) == rank(Some(Role::Admin)),
                    _ => rank(member.role) == rank(Some(Role::Participant)),
                };
                !member.from_snapshot
                    && (member.at > latest(report.at) || (is_so && member.at >= report.at))
            })
        };
        report.observations.iter().all(|observation| {
            let people = observation.people();
            !people.is_empty() && people.iter().all(|person| is_known(observation, person))
        })
    }

    /// Whether the account is known to be in the group, and the event that says so is published.
    pub(super) fn is_join_published(&self) -> bool {
        self.is_inside() && self.pending_join.is_none()
    }

    /// Whether notifications wait for a look at this group.
    pub(in crate::engines::waha) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Tells what has waited, where its time has come. `looked` is when the look was begun that has
    /// just shown the group.
    pub(super) fn release_held(
        &mut self,
        at: (GroupKey<'_>, Lag),
        session: &mut SessionState,
        report: &Report,
        looked: Option<i64>,
    ) -> Effects {
        let mut effects = Effects::default();
        let first = self.held.first().map_or(i64::MAX, |held| held.observed_at);
        // A look may be taken for one from before the join for a while.
        let longest = LONGEST.max(at.1.of_lists().saturating_mul(3));
        let is_late = self.held.len() >= MOST || report.now.saturating_sub(first) >= longest;
        // A look that shows no such group may have come too early; an own leaving is certain.
        let is_certain = matches!(report.source, Source::Notification(_));
        let is_own = is_certain && report.observations.iter().any(|it| is_own(it, report));
        if self.held.is_empty() || !(self.is_join_published() || is_late || is_own) {
            return effects;
        }
        let mut held = std::mem::take(&mut self.held);
        held.sort_by_key(|held| held.at);
        let (shown, since): (Vec<_>, Vec<_>) = held
            .into_iter()
            .partition(|held| looked.is_some_and(|looked| held.observed_at < looked));
        // The look shows whom these have changed, so it would make them old: people are compared with
        // each other alone, and those whom the look shows stay. Without a whole list, what was told counts.
        let told = if self.is_join_published() {
            BTreeMap::new()
        } else {
            self.people.clone()
        };
        let mut before = Self {
            sequence: self.sequence,
            inside: self.inside.clone(),
            pending_commands: std::mem::take(&mut self.pending_commands),
            people: told,
            ..Self::default()
        };
        // Texts that the look shows as they were told are no news.
        self.move_settings_to(&mut before);
        for mut held in shown {
            self.use_known_ids(&mut held);
            effects.add(before.replay(at, session, held, report.now));
        }
        before.move_settings_to(self);
        self.sequence = before.sequence;
        self.pending_commands = before.pending_commands;
        // Where the look shows something else, what is told counts until other looks agree.
        self.people.extend(before.people);
        for held in since {
            effects.add(self.replay(at, session, held, report.now));
        }
        effects
    }

    /// Names the people of a notification as the group's list names them. Who may be one of the list
    /// by another id is left out: they are in it already.
    fn use_known_ids(&self, held: &mut Report) {
        let index = MemberIndex::new(&self.people, &self.phones);
        let me = index.ids_of(&held.me, &self.phones);
        let named = |person: &Person| {
            let ids = index.ids(person, &self.phones);
            let key = index.key(&ids);
            let mut members = self.members();
            let is_unclear = key.is_none()
                && members.any(|(id, _)| index.ids_of([id], &self.phones).may_be(&ids));
            let id = key.or_else(|| ids.name().cloned())?;
            (!is_unclear && !me.is(&ids)).then_some(Person {
                id,
                lid: None,
                role: person.role,
            })
        };
        for observation in &mut held.observations {
            if let Observation::MembersJoined(people, _)
            | Observation::MembersLeft(people, _)
            | Observation::Promoted(people)
            | Observation::Demoted(people) = observation
            {
                *people = people.iter().filter_map(named).collect();
            }
        }
        if let Some(author) = &mut held.author {
            let ids = index.ids(author, &self.phones);
            let id = index.key(&ids).or_else(|| ids.name().cloned());
            *author = id.map_or_else(|| author.clone(), |id| Person::bare(&id));
        }
    }

    fn replay(
        &mut self,
        (place, lag): (GroupKey<'_>, Lag),
        session: &mut SessionState,
        mut held: Report,
        now: i64,
    ) -> Effects {
        held.now = now;
        let mut reducer = Reducer::new(self, place, session, &held, lag);
        reducer.apply_all();
        reducer.effects
    }
}

impl Effects {
    /// What follows from something else as well.
    pub(super) fn add(&mut self, next: Self) {
        self.events.extend(next.events);
        self.outdated |= next.outdated;
        self.refresh_at = match (self.refresh_at, next.refresh_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// Whether a claim is about the account's own coming or going, which needs no look at the group.
fn is_own(observation: &Observation, report: &Report) -> bool {
    match observation {
        Observation::OwnJoined(_) | Observation::OwnLeft(_) => true,
        Observation::MembersLeft(people, _) => people
            .iter()
            .any(|person| report.me.iter().any(|me| person.is(me))),
        _ => false,
    }
}
