//! Which private id (`@lid`) and which phone belong to one person, as far as the engine knows.
//!
//! In memory only, for all sessions: both ids belong to a person and not to an account. Pairs that a
//! group's events depend on are stored with the group; after a restart the engine looks them up again.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::numbers::{comparable, is_phone, is_same};
use super::person::Person;
use crate::contract::ParticipantId;

/// The directory holds at most this many pairs; when it is full, it starts again empty.
const MANY: usize = 50_000;

/// The directory of people's ids; clones share it.
#[derive(Debug, Clone, Default)]
pub(in crate::engines) struct PhoneDirectory {
    // A std mutex: held for map operations and never across an await.
    pairs: Arc<Mutex<Pairs>>,
}

#[derive(Debug, Default)]
struct Pairs {
    phones: HashMap<ParticipantId, ParticipantId>,
    /// By the comparable form of the phone.
    lids: HashMap<String, ParticipantId>,
}

impl Pairs {
    fn learn(&mut self, lid: ParticipantId, phone: ParticipantId) {
        if is_phone(&lid) || !is_phone(&phone) {
            return;
        }
        if self.phones.len() >= MANY {
            *self = Self::default();
        }
        self.lids
            .insert(comparable(&phone).into_owned(), lid.clone());
        self.phones.insert(lid, phone);
    }

    fn lid(&self, phone: &ParticipantId) -> Option<&ParticipantId> {
        self.lids.get(&*comparable(phone))
    }

    /// Adds a person's other id; true if the phone is known.
    fn complete(&self, person: &mut Person) -> bool {
        if person.is_private() {
            let Some(phone) = self.phones.get(&person.id) else {
                return false;
            };
            person.lid = Some(std::mem::replace(&mut person.id, phone.clone()));
        } else if person.lid.is_none() {
            person.lid = self.lid(&person.id).cloned();
        }
        true
    }
}

impl PhoneDirectory {
    /// All known ids of the person with this id; the id itself is first.
    pub(in crate::engines) fn ids_of(&self, id: &ParticipantId) -> Vec<ParticipantId> {
        let pairs = self.pairs.lock();
        let other = if is_phone(id) {
            pairs.lid(id)
        } else {
            pairs.phones.get(id)
        };
        let mut ids = vec![id.clone()];
        ids.extend(other.cloned());
        ids
    }

    /// Whether two ids are known to belong to one person; false also if nothing is known.
    pub(in crate::engines) fn is_same(&self, one: &ParticipantId, other: &ParticipantId) -> bool {
        is_same(one, other) || self.ids_of(one).iter().any(|id| is_same(id, other))
    }

    /// Adds the missing id of each person if it is known, the phone as the first one; true if all
    /// phones are known.
    pub(in crate::engines) fn complete(&self, people: &mut [Person]) -> bool {
        self.remember(people);
        let pairs = self.pairs.lock();
        let mut all = true;
        for person in people {
            all &= pairs.complete(person);
        }
        drop(pairs);
        all
    }

    /// Records that a request for `id` was answered with these ids.
    pub(in crate::engines) fn learn(&self, id: &ParticipantId, answered: &[ParticipantId]) {
        let all = || answered.iter().chain([id]);
        let (lid, phone) = (
            all().find(|id| !is_phone(id)),
            all().find(|id| is_phone(id)),
        );
        if let (Some(lid), Some(phone)) = (lid, phone) {
            self.pairs.lock().learn(lid.clone(), phone.clone());
        }
    }

    /// Records the ids of people of whom both are given.
    pub(in crate::engines) fn remember(&self, people: &[Person]) {
        let both = people.iter().filter(|person| !person.is_private());
        let both = both.filter_map(|person| Some((person.lid.clone()?, person.id.clone())));
        self.insert(both);
    }

    /// The known phone of a private id.
    pub(in crate::engines) fn known_phone(&self, lid: &ParticipantId) -> Option<ParticipantId> {
        self.pairs.lock().phones.get(lid).cloned()
    }

    /// The known private id of a phone.
    pub(in crate::engines) fn known_lid(&self, phone: &ParticipantId) -> Option<ParticipantId> {
        self.pairs.lock().lid(phone).cloned()
    }

    /// Records pairs of private id and phone.
    pub(in crate::engines) fn insert(
        &self,
        all: impl IntoIterator<Item = (ParticipantId, ParticipantId)>,
    ) {
        let mut pairs = self.pairs.lock();
        for (lid, phone) in all {
            pairs.learn(lid, phone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ParticipantId {
        text.parse().unwrap()
    }

    #[test]
    fn a_person_is_known_by_every_id_and_both_forms_of_the_number() {
        let directory = PhoneDirectory::default();
        directory.insert([(id("771100@lid"), id("5511987654321@s.whatsapp.net"))]);
        for other in ["5511987654321@c.us", "551187654321@c.us", "771100@lid"] {
            assert!(directory.is_same(&id("771100@lid"), &id(other)), "{other}");
            assert!(directory.is_same(&id(other), &id("771100@lid")), "{other}");
        }
        assert!(!directory.is_same(&id("771200@lid"), &id("5511987654321@c.us")));
        assert_eq!(
            directory.ids_of(&id("551187654321@c.us")),
            [id("551187654321@c.us"), id("771100@lid")]
        );
    }

    #[test]
    fn people_are_completed_by_either_id() {
        let directory = PhoneDirectory::default();
        directory.insert([(id("771100@lid"), id("15550000001@c.us"))]);
        let mut people = ["771100@lid", "15550000001@c.us"].map(|it| Person::bare(&id(it)));
        assert!(directory.complete(&mut people));
        for person in &people {
            assert_eq!(person.id, id("15550000001@c.us"));
            assert_eq!(person.lid, Some(id("771100@lid")));
        }
        assert!(!directory.complete(&mut [Person::bare(&id("771200@lid"))]));
    }

    #[test]
    fn a_directory_that_is_full_starts_again() {
        let directory = PhoneDirectory::default();
        for n in 0..=MANY {
            let pair = (id(&format!("7{n:08}@lid")), id(&format!("1555{n:08}@c.us")));
            directory.insert([pair]);
        }
        assert_eq!(directory.pairs.lock().phones.len(), 1);
        assert_eq!(directory.pairs.lock().lids.len(), 1);
    }
}
