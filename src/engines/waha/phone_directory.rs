//! Which private id (`@lid`) and which phone belong to one person, according to WAHA.
//!
//! In memory only, for all sessions: both ids belong to a person and not to an account. Pairs that a
//! group's events depend on are stored with the group (`sync`); after a restart WAHA is asked again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::client::{ApiRequest, Caller, Client, within};
use super::wire::{Person, comparable, is_phone, is_same, participant};
use crate::contract::{GroupId, ParticipantId};

/// The directory holds at most this many pairs; when it is full, it starts again empty.
const MANY: usize = 50_000;

/// The maximum number of people who are looked up one by one; for more, the directory is read.
const LOOKUPS: usize = 20;

/// Pairs on one page of WAHA's `/lids`; WAHA's own default is 100.
const PAGE: usize = 1_000;

/// The last page of `/lids` that is read.
const PAGES: usize = 50;

/// The directory of people's ids; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct PhoneDirectory {
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
    pub(super) fn ids_of(&self, id: &ParticipantId) -> Vec<ParticipantId> {
        let pairs = self.lock();
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
    pub(super) fn is_same(&self, one: &ParticipantId, other: &ParticipantId) -> bool {
        is_same(one, other) || self.ids_of(one).iter().any(|id| is_same(id, other))
    }

    /// Adds the missing id of each person if it is known, the phone as the first one; true if all
    /// phones are known.
    pub(super) fn complete(&self, people: &mut [Person]) -> bool {
        self.remember(people);
        let pairs = self.lock();
        let mut all = true;
        for person in people {
            all &= pairs.complete(person);
        }
        drop(pairs);
        all
    }

    /// Records that a request for `id` was answered with these ids.
    pub(super) fn learn(&self, id: &ParticipantId, answered: &[ParticipantId]) {
        let all = || answered.iter().chain([id]);
        let (lid, phone) = (
            all().find(|id| !is_phone(id)),
            all().find(|id| is_phone(id)),
        );
        if let (Some(lid), Some(phone)) = (lid, phone) {
            self.lock().learn(lid.clone(), phone.clone());
        }
    }

    /// Records the ids of people of whom both are given.
    pub(super) fn remember(&self, people: &[Person]) {
        let both = people.iter().filter(|person| !person.is_private());
        let both = both.filter_map(|person| Some((person.lid.clone()?, person.id.clone())));
        let mut pairs = self.lock();
        for (lid, phone) in both {
            pairs.learn(lid, phone);
        }
    }

    /// Replaces the private ids of a group's people by their phones; asks WAHA for unknown ones. A
    /// private id stays if WAHA does not know its phone.
    pub(super) async fn resolve(
        &self,
        client: &Client,
        caller: Caller<'_>,
        group: &GroupId,
        people: &mut [Person],
    ) {
        if self.complete(people) {
            return;
        }
        // Missing before WAHA 2025.11; phones are optional, so a failure is ignored.
        let path = within(group, "/participants/v2");
        if let Ok(body) = client.groups(caller, ApiRequest::get(path)).await {
            self.remember(&super::wire::named(body.json()));
        }
        if self.complete(people) {
            return;
        }
        // In groups that are addressed by lid, WEBJS returns no phones here; its directory does.
        let private: Vec<_> = people.iter().filter(|it| it.is_private()).collect();
        if private.len() > LOOKUPS {
            self.read_all(client, caller).await;
        } else {
            for person in private {
                self.phone(client, caller, &person.id).await;
            }
        }
        self.complete(people);
    }

    /// As [`PhoneDirectory::resolve`], for the people of many groups.
    pub(super) async fn resolve_all(
        &self,
        client: &Client,
        caller: Caller<'_>,
        mut groups: Vec<&mut Vec<Person>>,
    ) {
        let mut all_known = true;
        for people in &mut groups {
            all_known &= self.complete(people);
        }
        if all_known {
            return;
        }
        self.read_all(client, caller).await;
        for people in &mut groups {
            self.complete(people);
        }
    }

    /// Reads all pages of WAHA's directory; a WAHA without one (NOWEB without its store) answers 400.
    async fn read_all(&self, client: &Client, caller: Caller<'_>) {
        let mut before = None;
        for page in 0..PAGES {
            let query = [
                ("limit", PAGE.to_string()),
                ("offset", (page * PAGE).to_string()),
            ];
            let Ok(body) = client.session_request(caller, "lids", &query).await else {
                return;
            };
            let pairs = body.json().as_array().map(Vec::as_slice);
            let pairs = pairs.unwrap_or_default();
            self.remember_pairs(pairs);
            // A server that ignores `offset` returns its first page again.
            if pairs.len() < PAGE || before.as_ref() == pairs.first() {
                return;
            }
            before = pairs.first().cloned();
        }
    }

    /// The phone of a private id; asks WAHA if it is unknown.
    pub(super) async fn phone(
        &self,
        client: &Client,
        caller: Caller<'_>,
        lid: &ParticipantId,
    ) -> Option<ParticipantId> {
        let known = |this: &Self| this.lock().phones.get(lid).cloned();
        if let Some(phone) = known(self) {
            return Some(phone);
        }
        self.ask(client, caller, &format!("lids/{}", encoded(lid)))
            .await;
        known(self)
    }

    /// The private id of a phone; asks WAHA if it is unknown.
    pub(super) async fn lid(
        &self,
        client: &Client,
        caller: Caller<'_>,
        phone: &ParticipantId,
    ) -> Option<ParticipantId> {
        let known = |this: &Self| this.lock().lid(phone).cloned();
        if let Some(lid) = known(self) {
            return Some(lid);
        }
        self.ask(client, caller, &format!("lids/pn/{}", encoded(phone)))
            .await;
        known(self)
    }

    async fn ask(&self, client: &Client, caller: Caller<'_>, path: &str) {
        if let Ok(body) = client.session_request(caller, path, &[]).await {
            self.remember_pairs(std::slice::from_ref(body.json()));
        }
    }

    /// `{"lid": "1@lid", "pn": "3@c.us"}`, as in WAHA's directory.
    fn remember_pairs(&self, entries: &[Value]) {
        let read = |pair: &Value| {
            Some((
                participant(pair.get("lid")?)?,
                participant(pair.get("pn")?)?,
            ))
        };
        let mut pairs = self.lock();
        for (lid, phone) in entries.iter().filter_map(read) {
            pairs.learn(lid, phone);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pairs> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id within a path: WAHA wants the `@` encoded.
fn encoded(id: &ParticipantId) -> String {
    id.as_str().replace('@', "%40")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(text: &str) -> ParticipantId {
        text.parse().unwrap()
    }

    #[test]
    fn a_person_is_known_by_every_id_and_both_forms_of_the_number() {
        let lids = PhoneDirectory::default();
        lids.remember_pairs(&[json!({"lid": "771100@lid", "pn": "5511987654321@s.whatsapp.net"})]);
        for other in ["5511987654321@c.us", "551187654321@c.us", "771100@lid"] {
            assert!(lids.is_same(&id("771100@lid"), &id(other)), "{other}");
            assert!(lids.is_same(&id(other), &id("771100@lid")), "{other}");
        }
        assert!(!lids.is_same(&id("771200@lid"), &id("5511987654321@c.us")));
        assert_eq!(
            lids.ids_of(&id("551187654321@c.us")),
            [id("551187654321@c.us"), id("771100@lid")]
        );
    }

    #[test]
    fn people_are_completed_by_either_id() {
        let lids = PhoneDirectory::default();
        lids.remember_pairs(&[json!({"lid": "771100@lid", "pn": "15550000001@c.us"})]);
        let mut people = ["771100@lid", "15550000001@c.us"].map(|it| Person::bare(&id(it)));
        assert!(lids.complete(&mut people));
        for person in &people {
            assert_eq!(person.id, id("15550000001@c.us"));
            assert_eq!(person.lid, Some(id("771100@lid")));
        }
        assert!(!lids.complete(&mut [Person::bare(&id("771200@lid"))]));
    }

    #[test]
    fn a_directory_that_is_full_starts_again() {
        let lids = PhoneDirectory::default();
        for n in 0..=MANY {
            let pair = json!({"lid": format!("7{n:08}@lid"), "pn": format!("1555{n:08}@c.us")});
            lids.remember_pairs(&[pair]);
        }
        assert_eq!(lids.lock().phones.len(), 1);
        assert_eq!(lids.lock().lids.len(), 1);
    }
}
