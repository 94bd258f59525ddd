//! Looks up the pairs of private id (`@lid`) and phone in WAHA; `sync` keeps what was found.

use serde_json::Value;

use super::client::{ApiRequest, Caller, Client, within};
use super::wire::participant;
use crate::contract::{GroupId, ParticipantId};
use crate::engines::sync::{Person, PhoneDirectory};

/// The maximum number of people who are looked up one by one; for more, the directory is read.
const LOOKUPS: usize = 20;

/// Pairs on one page of WAHA's `/lids`; WAHA's own default is 100.
const PAGE: usize = 1_000;

/// The last page of `/lids` that is read.
const PAGES: usize = 50;

impl PhoneDirectory {
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
        let known = |this: &Self| this.known_phone(lid);
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
        let known = |this: &Self| this.known_lid(phone);
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
    pub(super) fn remember_pairs(&self, entries: &[Value]) {
        let read = |pair: &Value| {
            Some((
                participant(pair.get("lid")?)?,
                participant(pair.get("pn")?)?,
            ))
        };
        self.insert(entries.iter().filter_map(read));
    }
}

/// An id within a path: WAHA wants the `@` encoded.
pub(super) fn encoded(id: &ParticipantId) -> String {
    id.as_str().replace('@', "%40")
}
