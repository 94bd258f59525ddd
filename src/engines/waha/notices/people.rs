//! Changes of a group's members, with their author and kind.
//!
//! WAHA's own events have neither author nor kind; the engine's event, in `_data`, has both. Somebody
//! who is named by a private id only often has the phone elsewhere in the same event.

use serde_json::Value;

use super::{Envelope, Malformed, NoticeContent};
use crate::contract::{JoinRequestAction, NotificationType, ParticipantId, Role};
use crate::engines::sync::Observation;
use crate::engines::sync::{Person, is_phone};
use crate::engines::waha::wire::{named, participant, request_method, requester};

/// The fields of `_data` that name the author: Baileys' and whatsapp-web.js's, then whatsmeow's.
const ACTORS: [&str; 4] = ["authorPn", "author", "SenderPN", "Sender"];

impl Envelope<'_> {
    /// The author, by phone if it is given.
    pub(super) fn actor(&self) -> Option<Person> {
        let data = ACTORS.iter().filter_map(|name| self.data(&[name]));
        let found = data.chain(self.payload.get("author"));
        let found = person(&found.filter_map(participant).collect::<Vec<_>>());
        match (found, self.text("Reason"), self.text("Type")) {
            (Some(found), ..) => Some(self.with_phone(found)),
            // whatsmeow names no author if the account joined by itself.
            (None, Some("invite"), _) => self.own(),
            (None, _, Some("new")) => self.owner(),
            (None, ..) if self.text("type") == Some("invite") && self.name == "group.v2.join" => {
                self.own()
            }
            _ => None,
        }
    }

    fn own(&self) -> Option<Person> {
        person(self.me)
    }

    fn owner(&self) -> Option<Person> {
        let found = ["OwnerPN", "OwnerJID"];
        let found = found
            .iter()
            .filter_map(|name| participant(self.data(&[name])?));
        person(&found.collect::<Vec<_>>())
    }

    pub(super) fn participants(&self) -> Result<NoticeContent, Malformed> {
        let found = named(self.payload.get("participants").unwrap_or(&Value::Null));
        if found.is_empty() {
            return Err(Malformed("the participants are missing"));
        }
        let people: Vec<_> = found.into_iter().map(|it| self.with_phone(it)).collect();
        let kind = self.payload.get("type").and_then(Value::as_str);
        self.observations(match kind {
            Some("join") => split(people, |it| self.join_type(it), Observation::MembersJoined),
            Some("leave") => split(people, |it| self.leave_type(it), Observation::MembersLeft),
            Some("promote") => vec![Observation::Promoted(people)],
            Some("demote") => vec![Observation::Demoted(people)],
            _ => {
                return Err(Malformed("the type is not join, leave, promote or demote"));
            }
        })
    }

    /// A request to join was made, rejected or withdrawn; WAHA reports an approval as a join.
    pub(super) fn join_request(&self) -> Result<NoticeContent, Malformed> {
        let action = match self.payload.get("action").and_then(Value::as_str) {
            Some("created") => JoinRequestAction::Created,
            Some("approved") => JoinRequestAction::Approved,
            Some("rejected") => JoinRequestAction::Rejected,
            Some("revoked") => JoinRequestAction::Revoked,
            _ => return Ok(NoticeContent::Ignored),
        };
        let person = requester(self.payload).ok_or(Malformed("the requester is missing"))?;
        self.observation(Observation::JoinRequests {
            action,
            people: vec![self.with_phone(person)],
            method: self.payload.get("requestMethod").and_then(request_method),
        })
    }

    /// How somebody joined. Baileys reports a join by the link by naming the person as the author.
    fn join_type(&self, person: &Person) -> NotificationType {
        match (self.text("type"), self.text("JoinReason")) {
            (Some("invite" | "linked_group_join"), _) | (_, Some("invite")) => {
                NotificationType::Invite
            }
            (Some("add"), _) => NotificationType::Add,
            _ if self.is_actor(person) == Some(true) => NotificationType::Invite,
            _ => NotificationType::Add,
        }
    }

    /// How somebody left: if another person is the author, they were removed.
    fn leave_type(&self, person: &Person) -> NotificationType {
        match self.text("type") {
            Some("remove") => NotificationType::Remove,
            Some("leave") => NotificationType::Leave,
            _ if self.is_actor(person) == Some(false) => NotificationType::Remove,
            _ => NotificationType::Leave,
        }
    }

    /// How the account itself left.
    pub(super) fn own_leave_type(&self) -> NotificationType {
        let own = self.own();
        let found = self.data(&["participants", "Leave"]).map(named);
        let found = found.and_then(|found| found.into_iter().next());
        let gone = own.or(found);
        gone.map_or(NotificationType::Leave, |gone| self.leave_type(&gone))
    }

    /// Whether a person is the author; none if there is no author.
    fn is_actor(&self, person: &Person) -> Option<bool> {
        let actor = self.actor()?;
        Some(person.is(&actor.id) || actor.lid.is_some_and(|lid| person.is(&lid)))
    }

    /// A person with the phone that the same event gives elsewhere: in Baileys' own list, as the
    /// author's, or as the account's own.
    fn with_phone(&self, person: Person) -> Person {
        if !person.is_private() {
            return person;
        }
        let listed = self.data(&["participants"]).map(named);
        let listed = listed.unwrap_or_default().into_iter();
        let actor = ACTORS.iter().filter_map(|name| self.data(&[name]));
        let actor = self::person(&actor.filter_map(participant).collect::<Vec<_>>());
        let mut others = listed
            .chain(actor)
            .chain(self.own())
            .chain(requester(self.payload));
        let same = others.find(|it| !it.is_private() && it.lid.as_ref() == Some(&person.id));
        match same {
            None => person,
            Some(same) => Person {
                role: person.role,
                ..same
            },
        }
    }

    /// WEBJS: anybody joined. NOWEB: the account is in a group, in Baileys' format.
    pub(super) fn older_join(&self) -> Result<NoticeContent, Malformed> {
        if self.payload.get("recipientIds").is_none() {
            return self.own_join(Some(self.payload));
        }
        let how = match self.payload.get("type").and_then(Value::as_str) {
            Some("invite" | "linked_group_join") => NotificationType::Invite,
            _ => NotificationType::Add,
        };
        self.observation(Observation::MembersJoined(self.recipients()?, how))
    }

    pub(super) fn older_leave(&self) -> Result<NoticeContent, Malformed> {
        let how = match self.payload.get("type").and_then(Value::as_str) {
            Some("remove") => NotificationType::Remove,
            _ => NotificationType::Leave,
        };
        self.observation(Observation::MembersLeft(self.recipients()?, how))
    }

    fn recipients(&self) -> Result<Vec<Person>, Malformed> {
        let ids = self.payload.get("recipientIds").and_then(Value::as_array);
        let ids = ids.ok_or(Malformed("the participants are missing"))?;
        let ids = ids.iter().filter_map(participant);
        Ok(ids.map(|id| Person::bare(&id)).collect())
    }
}

/// One person by all these ids.
fn person(ids: &[ParticipantId]) -> Option<Person> {
    let phone = ids.iter().find(|id| is_phone(id));
    let lid = ids.iter().find(|id| !is_phone(id));
    Some(Person {
        id: phone.or(lid)?.clone(),
        lid: phone.and(lid).cloned(),
        role: Role::Participant,
    })
}

/// One observation for each way in which people joined or left.
fn split(
    people: Vec<Person>,
    how: impl Fn(&Person) -> NotificationType,
    observation: fn(Vec<Person>, NotificationType) -> Observation,
) -> Vec<Observation> {
    let mut batches: Vec<(NotificationType, Vec<Person>)> = Vec::new();
    for person in people {
        let kind = how(&person);
        match batches.iter_mut().find(|(of, _)| *of == kind) {
            Some((_, batch)) => batch.push(person),
            None => batches.push((kind, vec![person])),
        }
    }
    batches
        .into_iter()
        .map(|(kind, people)| observation(people, kind))
        .collect()
}
