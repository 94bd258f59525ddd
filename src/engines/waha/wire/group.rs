//! A group, in the formats of Baileys (NOWEB), whatsmeow (GOWS) and whatsapp-web.js (WEBJS), and of
//! WAHA's own `group.v2.*` events.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ids::{id_text, is_phone, participant, timestamp};
use super::people::{Person, people};
use super::values::field;
use crate::contract::{
    Description, Group, GroupId, GroupSettings, ParticipantId, Subject, Timestamp,
};

/// A group as an answer shows it; engines omit fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engines::waha) struct GroupSnapshot {
    pub(in crate::engines::waha) id: GroupId,
    pub(in crate::engines::waha) subject: Option<Subject>,
    pub(in crate::engines::waha) description: Option<Description>,
    pub(in crate::engines::waha) owner: Option<ParticipantId>,
    pub(in crate::engines::waha) created_at: Option<Timestamp>,
    pub(in crate::engines::waha) info_admin_only: Option<bool>,
    pub(in crate::engines::waha) messages_admin_only: Option<bool>,
    pub(in crate::engines::waha) members_can_add: Option<bool>,
    pub(in crate::engines::waha) approval_required: Option<bool>,
    pub(in crate::engines::waha) people: Option<Vec<Person>>,
    /// Entries of the list that could not be parsed.
    #[serde(default)]
    pub(in crate::engines::waha) unread: usize,
    pub(in crate::engines::waha) size: Option<u32>,
}

/// How reliable a list of members is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engines::waha) enum Completeness {
    /// Nothing indicates that somebody is missing.
    Complete,
    /// The listed people are members; others may be missing.
    Partial,
    /// It is empty, or lists more people than the group has.
    Unusable,
}

impl GroupSnapshot {
    /// A group of which only the id is known.
    pub(in crate::engines::waha) const fn bare(id: GroupId) -> Self {
        Self {
            id,
            subject: None,
            description: None,
            owner: None,
            created_at: None,
            info_admin_only: None,
            messages_admin_only: None,
            members_can_add: None,
            approval_required: None,
            people: None,
            unread: 0,
            size: None,
        }
    }

    /// A stub: GOWS lists groups that it has not loaded without their members (WAHA#1471). A group may
    /// have an empty subject.
    pub(in crate::engines::waha) fn is_stub(&self) -> bool {
        self.people.as_ref().is_none_or(Vec::is_empty)
    }

    /// How reliable the list of members is, judged by the answer alone.
    pub(in crate::engines::waha) fn extent(&self) -> Completeness {
        let listed = self.people.as_ref().map_or(0, Vec::len) + self.unread;
        // GOWS lists members together with a count of 0, which is not WhatsApp's.
        let size = self.size.filter(|size| *size > 0);
        let size = size.map_or(listed, |size| usize::try_from(size).unwrap_or(usize::MAX));
        if self.is_stub() || size < listed {
            Completeness::Unusable
        } else if size > listed || self.unread > 0 {
            Completeness::Partial
        } else {
            Completeness::Complete
        }
    }

    /// The contract's group. A missing setting has the value of a new group: open, without approval. A
    /// group without a name gets the number in its id.
    pub(in crate::engines::waha) fn into_group(self) -> Option<Group> {
        let people = self.people.unwrap_or_default();
        let count = u32::try_from(people.len()).unwrap_or(u32::MAX);
        let owner = self.owner.map(|owner| {
            let known = people.iter().find(|person| person.is(&owner));
            known.map_or(owner, |person| person.id.clone())
        });
        Some(Group {
            subject: self.subject.or_else(|| number_as_subject(&self.id))?,
            id: self.id,
            description: self.description.unwrap_or_default(),
            owner,
            created_at: self.created_at,
            size: if count == 0 {
                self.size.unwrap_or_default()
            } else {
                count
            },
            settings: GroupSettings {
                info_admin_only: self.info_admin_only.unwrap_or_default(),
                messages_admin_only: self.messages_admin_only.unwrap_or_default(),
                members_can_add_new_member: self.members_can_add.unwrap_or(true),
                new_members_approval_required: self.approval_required.unwrap_or_default(),
            },
            participants: Some(people.into_iter().map(Person::into_participant).collect()),
            outcomes: None,
        })
    }
}

/// The subject of a group without a name: the number in its id.
pub(in crate::engines::waha) fn number_as_subject(id: &GroupId) -> Option<Subject> {
    id.as_str().split(['@', '-']).next()?.parse().ok()
}

/// Parses a group; none if the value has no group id.
pub(in crate::engines::waha) fn group(body: &Value) -> Option<GroupSnapshot> {
    let id = ["id", "JID", "gid", "groupId"]
        .iter()
        .find_map(|name| id_text(field(body, &[name])?)?.parse().ok())?;
    let flag = |names: &[&str]| field(body, names)?.as_bool();
    let entries = field(body, &["participants", "Participants"]);
    // After a creation, WEBJS has a map of outcomes instead of the members.
    let people = entries.and_then(people);
    let unread = people.as_ref().map_or(0, |(_, unread)| *unread);
    let size = field(body, &["size", "ParticipantCount", "participantsCount"]);
    let size = size.and_then(Value::as_u64);
    let name = field(
        body,
        &["subject", "Name", "name", "title", "formattedTitle"],
    );
    let description = field(body, &["description", "desc", "Topic"]);
    Some(GroupSnapshot {
        id,
        subject: name.and_then(Value::as_str).and_then(subject),
        description: description.and_then(Value::as_str).map(self::description),
        owner: owner(body),
        created_at: field(body, &["creation", "GroupCreated", "createdAt"]).and_then(timestamp),
        info_admin_only: flag(&["restrict", "IsLocked"]),
        messages_admin_only: flag(&["announce", "IsAnnounce"]),
        members_can_add: members_can_add(body),
        approval_required: flag(&[
            "joinApprovalMode",
            "IsJoinApprovalRequired",
            "membershipApprovalMode",
        ]),
        people: people.map(|(people, _)| people),
        unread,
        size: size.and_then(|size| u32::try_from(size).ok()),
    })
}

/// Parses a list of groups: an array (GOWS, WEBJS) or a map by id (NOWEB).
pub(in crate::engines::waha) fn groups(body: &Value) -> Option<Vec<GroupSnapshot>> {
    let read = |value: &Value| group(value);
    match body {
        Value::Array(all) => Some(all.iter().filter_map(read).collect()),
        Value::Object(all) => Some(all.values().filter_map(read).collect()),
        _ => None,
    }
}

/// The owner, by phone if it is given.
fn owner(body: &Value) -> Option<ParticipantId> {
    let names = ["ownerPn", "OwnerPN", "owner", "OwnerJID"];
    let owners = names
        .iter()
        .filter_map(|name| participant(field(body, &[name])?));
    let owners: Vec<_> = owners.collect();
    owners
        .iter()
        .find(|id| is_phone(id))
        .or(owners.first())
        .cloned()
}

/// Baileys has a flag, the others have WhatsApp's text.
fn members_can_add(body: &Value) -> Option<bool> {
    match field(body, &["memberAddMode", "MemberAddMode"])? {
        Value::Bool(on) => Some(*on),
        Value::String(mode) if mode == "all_member_add" => Some(true),
        Value::String(mode) if mode == "admin_add" => Some(false),
        _ => None,
    }
}

/// A subject on one line: WhatsApp itself was less strict than the contract. None if it has no visible
/// character.
fn subject(text: &str) -> Option<Subject> {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let visible = plain.contains(|c: char| !c.is_whitespace() && c != '\u{feff}');
    visible.then(|| Subject::from_engine(plain))
}

/// A description, without control characters other than line breaks and tabs.
fn description(text: &str) -> Description {
    let allowed = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let plain: String = text
        .chars()
        .map(|c| if allowed(c) { c } else { ' ' })
        .collect();
    Description::from_engine(plain)
}
