//! Notifications about a group of which the account is not known to be a member: they are held until
//! the group has been read, so that its `group.v2.join` is published first.
//!
//! They are stored with the group, so a crash loses none. If the group cannot be read for long, they
//! are published without a join.

use std::collections::BTreeMap;

use super::confirmation::rank;
use super::member_index::MemberIndex;
use super::reducer::{Reducer, latest};
use super::{Effects, GroupKey, GroupState, Lag, Observation, Report, SessionState, Source};
use crate::contract::Role;
use crate::engines::sync::Person;

/// The maximum time that a notification is held, in milliseconds. NOWEB's store shows a new group
/// late.
const LONGEST: i64 = 30_000;

/// The maximum number of notifications that are held for one group.
const MOST: usize = 100;

impl GroupState {
    /// Holds a notification if it must wait; true if so.
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
        // Anything before our departure happened while we were a member.
        let is_late = self.inside.as_ref().is_some_and(|it| it.at >= report.at);
        !self.is_join_published()
            && !is_late
            && !report.observations.iter().any(|it| is_own(it, report))
            && !self.is_repeat(report)
    }

    /// Whether everything that a notification reports of people was reported before, or something
    /// newer was. Reports about people outlive an own departure that is discovered late.
    fn is_repeat(&self, report: &Report) -> bool {
        let index = MemberIndex::new(&self.people, &self.phones);
        let is_known = |observation: &Observation, person: &Person| {
            let ids = index.ids(person, &self.phones);
            let member = index.key(&ids).and_then(|key| self.people.get(&key));
            member.is_some_and(|member| {
                let is_so = match observation {
                    Observation::MembersJoined(..) => member.role.is_some(),
                    Observation::MembersLeft(..) => member.role.is_none(),
                    Observation::JoinRequests { .. } => false,
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

    /// Whether the account is known to be a member, and the event of its join is published.
    pub(super) fn is_join_published(&self) -> bool {
        self.is_inside() && self.pending_join.is_none()
    }

    /// Whether notifications are held for this group.
    pub(in crate::engines) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Applies the held notifications if it is time. `requested` is when the snapshot that has just shown
    /// the group was requested.
    pub(super) fn release_held(
        &mut self,
        at: (GroupKey<'_>, Lag),
        session: &mut SessionState,
        report: &Report,
        requested: Option<i64>,
    ) -> Effects {
        let mut effects = Effects::default();
        let first = self.held.first().map_or(i64::MAX, |held| held.observed_at);
        // For a while, a snapshot may be taken for one from before the join.
        let longest = LONGEST.max(at.1.of_lists().saturating_mul(3));
        let is_late = self.held.len() >= MOST || report.now.saturating_sub(first) >= longest;
        // A snapshot without the group may have been requested too early; an own departure is certain.
        let is_certain = matches!(report.source, Source::Notification(_));
        let is_own = is_certain && report.observations.iter().any(|it| is_own(it, report));
        if self.held.is_empty() || !(self.is_join_published() || is_late || is_own) {
            return effects;
        }
        let mut held = std::mem::take(&mut self.held);
        held.sort_by_key(|held| held.at);
        let (shown, since): (Vec<_>, Vec<_>) = held
            .into_iter()
            .partition(|held| requested.is_some_and(|requested| held.observed_at < requested));
        // The snapshot contains the changes of these notifications, so it would make them outdated:
        // they are compared with each other only, and the snapshot's members stay. Without a complete
        // list, the reports count.
        let reported = if self.is_join_published() {
            BTreeMap::new()
        } else {
            self.people.clone()
        };
        let mut before = Self {
            sequence: self.sequence,
            inside: self.inside.clone(),
            pending_commands: std::mem::take(&mut self.pending_commands),
            people: reported,
            requests: std::mem::take(&mut self.requests),
            ..Self::default()
        };
        // Texts that the snapshot shows as reported are no change.
        self.move_settings_to(&mut before);
        for mut held in shown {
            self.use_known_ids(&mut held);
            effects.add(before.replay(at, session, held, report.now));
        }
        before.move_settings_to(self);
        self.sequence = before.sequence;
        self.pending_commands = before.pending_commands;
        self.requests = before.requests;
        // If the snapshot contradicts a report, the report counts until other snapshots agree.
        self.people.extend(before.people);
        for held in since {
            effects.add(self.replay(at, session, held, report.now));
        }
        effects
    }

    /// Replaces the ids in a notification by those of the group's list. Somebody who may be a listed
    /// member by another id is left out: they are in the list already.
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
            | Observation::Demoted(people)
            | Observation::JoinRequests { people, .. } = observation
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
    /// Adds the effects of another report.
    pub(super) fn add(&mut self, next: Self) {
        self.events.extend(next.events);
        self.outdated |= next.outdated;
        self.refresh_at = match (self.refresh_at, next.refresh_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// Whether an observation is about the account's own membership, which needs no snapshot.
fn is_own(observation: &Observation, report: &Report) -> bool {
    match observation {
        Observation::OwnJoined(_) | Observation::OwnLeft(_) => true,
        Observation::MembersLeft(people, _) => people
            .iter()
            .any(|person| report.me.iter().any(|me| person.is(me))),
        _ => false,
    }
}
