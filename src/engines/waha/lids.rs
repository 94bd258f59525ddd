//! Private ids (`@lid`) become phones where WAHA knows them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::client::{Ask, Caller, Client, within};
use super::wire::{Person, participant};
use crate::contract::{GroupId, ParticipantId};

/// So many are remembered; after that the memory begins anew.
const MANY: usize = 50_000;

/// Private ids whose phone is known. A phone keeps its private id.
#[derive(Debug, Default)]
pub(super) struct Lids {
    // A std mutex: held for map operations and never across an await.
    phones: Mutex<HashMap<ParticipantId, ParticipantId>>,
}

impl Lids {
    /// Puts the phones of a group's people in the place of their private ids; asks WAHA once where
    /// some are not known. What WAHA cannot tell stays private.
    pub(super) async fn resolve(
        &self,
        client: &Client,
        by: Caller<'_>,
        group: &GroupId,
        people: &mut [Person],
    ) {
        self.remember(people);
        if self.fill(people) {
            return;
        }
        // Not there before WAHA 2025.11; and a phone is a courtesy.
        let path = within(group, "/participants/v2");
        if let Ok(body) = client.groups(by, Ask::get(path)).await {
            self.remember(&super::wire::named(body.json()));
        }
        self.fill(people);
    }

    /// As [`Lids::resolve`], for the people of many groups.
    pub(super) async fn resolve_all(
        &self,
        client: &Client,
        by: Caller<'_>,
        mut groups: Vec<&mut Vec<Person>>,
    ) {
        let mut all_known = true;
        for people in &mut groups {
            self.remember(people);
            all_known &= self.fill(people);
        }
        if all_known {
            return;
        }
        if let Ok(body) = client.of_session(by, "lids").await {
            self.remember_pairs(body.json());
        }
        for people in &mut groups {
            self.fill(people);
        }
    }

    /// The phone of a private id, asking WAHA where it is not known.
    pub(super) async fn phone(
        &self,
        client: &Client,
        by: Caller<'_>,
        lid: &ParticipantId,
    ) -> Option<ParticipantId> {
        if let Some(phone) = self.known(lid) {
            return Some(phone);
        }
        let path = format!("lids/{}", lid.as_str().replace('@', "%40"));
        let body = client.of_session(by, &path).await.ok()?;
        self.remember_pairs(&Value::Array(vec![body.json().clone()]));
        self.known(lid)
    }

    fn known(&self, lid: &ParticipantId) -> Option<ParticipantId> {
        let phones = self.phones.lock().unwrap_or_else(PoisonError::into_inner);
        phones.get(lid).cloned()
    }

    fn remember(&self, people: &[Person]) {
        let pairs = people.iter().filter(|person| !person.is_private());
        let pairs = pairs.filter_map(|person| Some((person.lid.clone()?, person.id.clone())));
        let mut phones = self.phones.lock().unwrap_or_else(PoisonError::into_inner);
        if phones.len() > MANY {
            phones.clear();
        }
        phones.extend(pairs);
    }

    /// `{"lid": "1@lid", "pn": "3@c.us"}`, one or many.
    fn remember_pairs(&self, pairs: &Value) {
        let pairs = pairs.as_array().map(Vec::as_slice).unwrap_or_default();
        let read = |pair: &Value| {
            Some((
                participant(pair.get("lid")?)?,
                participant(pair.get("pn")?)?,
            ))
        };
        let mut phones = self.phones.lock().unwrap_or_else(PoisonError::into_inner);
        phones.extend(pairs.iter().filter_map(read));
    }

    /// Puts known phones in place; whether none is missing.
    fn fill(&self, people: &mut [Person]) -> bool {
        let phones = self.phones.lock().unwrap_or_else(PoisonError::into_inner);
        let mut complete = true;
        for person in people.iter_mut().filter(|person| person.is_private()) {
            match phones.get(&person.id) {
                Some(phone) => {
                    person.lid = Some(std::mem::replace(&mut person.id, phone.clone()));
                }
                None => complete = false,
            }
        }
        complete
    }
}
