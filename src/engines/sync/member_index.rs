//! Identity: a person has a phone, which may have two forms, and a private id (`@lid`); the state
//! knows each member by one of these ids, and reports use any of them.
//!
//! A member keeps the id that events have used until they leave, so that a consumer who adds up joins
//! and leaves counts nobody twice. This module does not decide what is an event.

use std::collections::{BTreeMap, HashMap};

use super::MemberState;
use crate::contract::ParticipantId;
use crate::engines::sync::{Person, comparable, is_phone, is_same};

/// The known ids of one person; there is at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PersonIds {
    pub(super) phone: Option<ParticipantId>,
    pub(super) lid: Option<ParticipantId>,
}

impl PersonIds {
    fn of<'a>(ids: impl IntoIterator<Item = &'a ParticipantId>) -> Self {
        let mut all = Self::default();
        for id in ids {
            let slot = if is_phone(id) {
                &mut all.phone
            } else {
                &mut all.lid
            };
            slot.get_or_insert_with(|| id.clone());
        }
        all
    }

    /// Whether an id is this person's.
    pub(super) fn has(&self, id: &ParticipantId) -> bool {
        let is_it = |own: &Option<ParticipantId>| own.as_ref().is_some_and(|own| is_same(own, id));
        is_it(&self.phone) || is_it(&self.lid)
    }

    /// Whether these certainly belong to one person.
    pub(super) fn is(&self, other: &Self) -> bool {
        let mut ids = [&other.phone, &other.lid].into_iter().flatten();
        ids.any(|id| self.has(id))
    }

    /// Whether these may belong to one person: no known id distinguishes them.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        let both_phones = self.phone.is_some() && other.phone.is_some();
        let both_lids = self.lid.is_some() && other.lid.is_some();
        self.is(other) || (!both_phones && !both_lids)
    }

    /// The id that names the person: the phone if it is known.
    pub(super) fn name(&self) -> Option<&ParticipantId> {
        self.phone.as_ref().or(self.lid.as_ref())
    }
}

/// The people of a group, by each of their ids.
#[derive(Debug, Default)]
pub(super) struct MemberIndex {
    /// From an id's comparable form to the id that the state uses.
    keys: HashMap<String, ParticipantId>,
    /// From a phone's comparable form to the private id.
    lids: HashMap<String, ParticipantId>,
}

impl MemberIndex {
    pub(super) fn new(
        people: &BTreeMap<ParticipantId, MemberState>,
        phones: &BTreeMap<ParticipantId, ParticipantId>,
    ) -> Self {
        let mut all = Self::default();
        for (lid, phone) in phones {
            all.lids.insert(text(phone), lid.clone());
        }
        for key in people.keys() {
            all.enter(key, phones);
        }
        // The id that the state uses takes precedence over another id of the same person.
        for key in people.keys() {
            all.keys.insert(text(key), key.clone());
        }
        all
    }

    /// Adds a person known by `key`.
    pub(super) fn enter(
        &mut self,
        key: &ParticipantId,
        phones: &BTreeMap<ParticipantId, ParticipantId>,
    ) {
        let other = if is_phone(key) {
            self.lids.get(&*comparable(key)).cloned()
        } else {
            phones.get(key).cloned()
        };
        self.keys.insert(text(key), key.clone());
        if let Some(other) = other {
            self.keys.entry(text(&other)).or_insert_with(|| key.clone());
        }
    }

    /// Records that two ids belong to one person, who is known by `key` if at all.
    pub(super) fn learn(
        &mut self,
        lid: &ParticipantId,
        phone: &ParticipantId,
        key: Option<&ParticipantId>,
    ) {
        self.lids.insert(text(phone), lid.clone());
        if let Some(key) = key {
            self.keys.insert(text(lid), key.clone());
            self.keys.insert(text(phone), key.clone());
        }
    }

    /// Changes the id by which a person is known.
    pub(super) fn renamed(&mut self, from: &ParticipantId, to: &ParticipantId) {
        for key in self.keys.values_mut().filter(|key| *key == from) {
            *key = to.clone();
        }
    }

    /// All ids of a person.
    pub(super) fn ids(
        &self,
        person: &Person,
        phones: &BTreeMap<ParticipantId, ParticipantId>,
    ) -> PersonIds {
        self.complete(
            PersonIds::of(
                [Some(&person.id), person.lid.as_ref()]
                    .into_iter()
                    .flatten(),
            ),
            phones,
        )
    }

    /// All ids of the person with these ids.
    pub(super) fn ids_of<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a ParticipantId>,
        phones: &BTreeMap<ParticipantId, ParticipantId>,
    ) -> PersonIds {
        self.complete(PersonIds::of(ids), phones)
    }

    fn complete(
        &self,
        mut ids: PersonIds,
        phones: &BTreeMap<ParticipantId, ParticipantId>,
    ) -> PersonIds {
        if let (Some(phone), None) = (&ids.phone, &ids.lid) {
            ids.lid = self.lids.get(&*comparable(phone)).cloned();
        }
        // Of two forms of the number, the one that was reported first.
        let first = ids.lid.as_ref().and_then(|lid| phones.get(lid));
        let is_it = |first: &&ParticipantId| {
            let given = ids.phone.as_ref();
            given.is_none_or(|given| is_same(given, first))
        };
        if let Some(first) = first.filter(is_it) {
            ids.phone = Some(first.clone());
        }
        ids
    }

    /// The id by which the state knows a person.
    pub(super) fn key(&self, ids: &PersonIds) -> Option<ParticipantId> {
        let mut ids = [&ids.phone, &ids.lid].into_iter().flatten();
        ids.find_map(|id| self.keys.get(&*comparable(id)).cloned())
    }
}

fn text(id: &ParticipantId) -> String {
    comparable(id).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(all: &[&str]) -> PersonIds {
        let all: Vec<ParticipantId> = all.iter().map(|id| id.parse().unwrap()).collect();
        PersonIds::of(&all)
    }

    #[test]
    fn a_phone_and_a_private_id_may_be_one_persons_until_another_id_distinguishes_them() {
        let (phone, lid) = (ids(&["15550000001@c.us"]), ids(&["771100@lid"]));
        assert!(phone.may_be(&lid) && lid.may_be(&phone));
        assert!(!phone.is(&lid));
        let both = ids(&["15550000001@c.us", "771200@lid"]);
        assert!(both.is(&phone) && both.may_be(&phone));
        assert!(!both.may_be(&lid));
        assert!(!phone.may_be(&ids(&["15550000002@c.us"])));
    }

    #[test]
    fn two_forms_of_a_number_are_one_person() {
        assert!(ids(&["5511987654321@c.us"]).is(&ids(&["551187654321@c.us"])));
    }
}
