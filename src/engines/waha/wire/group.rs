//! A group, in the formats of Baileys (NOWEB), whatsmeow (GOWS) and whatsapp-web.js (WEBJS), and of
//! WAHA's own `group.v2.*` events.

use serde_json::Value;

use super::ids::{id_text, participant, timestamp};
use super::people::people;
use super::values::field;
use crate::contract::{Description, ParticipantId, Subject};
use crate::engines::sync::{GroupSnapshot, is_phone};

/// Parses a group; none if the value has no group id.
pub(in crate::engines) fn group(body: &Value) -> Option<GroupSnapshot> {
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
        members_can_share_history: members_can_share_history(body),
        disappearing_seconds: disappearing_seconds(body),
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

/// whatsmeow's text, since WAHA 2026.9; the other engines show nothing that is known.
fn members_can_share_history(body: &Value) -> Option<bool> {
    match field(body, &["MemberShareHistoryMode"])?.as_str()? {
        "all_member_share" => Some(true),
        "admin_share" => Some(false),
        _ => None,
    }
}

/// After how many seconds messages disappear: Baileys has no field where they stay, so its absence
/// shows nothing. whatsmeow has a switch and the time, whatsapp-web.js WhatsApp's own field.
fn disappearing_seconds(body: &Value) -> Option<u32> {
    if field(body, &["IsEphemeral"]).and_then(Value::as_bool) == Some(false) {
        return Some(0);
    }
    let seconds = field(body, &["ephemeralDuration", "DisappearingTimer"])?.as_u64()?;
    u32::try_from(seconds).ok()
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
