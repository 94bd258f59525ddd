//! The members of a group, in the formats of NOWEB, GOWS, WEBJS and WAHA's own `participants/v2`.

use serde_json::Value;

use super::ids::participant;
use crate::contract::{ParticipantId, Role};
use crate::engines::sync::{Person, is_phone};

/// The fields that name a person, in Baileys, whatsmeow, whatsapp-web.js and WhatsApp's own protocol.
const NAMES: [&str; 9] = [
    "phoneNumber",
    "PhoneNumber",
    "pn",
    "phone_number",
    "id",
    "jid",
    "JID",
    "lid",
    "LID",
];

/// All ids of an entry, the phone first.
pub(super) fn ids(entry: &Value) -> Vec<ParticipantId> {
    // An entry may be the bare id, and whatsapp-web.js's entry has its id as an object.
    let direct = participant(entry);
    // Baileys' answers contain WhatsApp's own node, which has more ids.
    let node = entry
        .get("content")
        .and_then(|content| content.get("attrs"));
    let named = [Some(entry), node].into_iter().flatten().flat_map(|value| {
        let ids = NAMES
            .iter()
            .filter_map(|name| participant(value.get(*name)?));
        ids.collect::<Vec<_>>()
    });
    let mut all: Vec<_> = direct.into_iter().chain(named).collect();
    // Stable: among phones, and among private ids, the order above stays.
    all.sort_by_key(|id| !is_phone(id));
    all.dedup();
    all
}

/// Parses one member; none for an entry without an id, a former member, or somebody whom WhatsApp
/// refused (whatsmeow lists them in a new group, with `Error`).
fn person(entry: &Value) -> Option<Person> {
    let error = entry.get("Error").and_then(Value::as_u64);
    if error.is_some_and(|code| code != 0 && code != 200) {
        return None;
    }
    let ids = ids(entry);
    let id = ids.first()?.clone();
    let lid = ids
        .into_iter()
        .find(|other| !is_phone(other) && *other != id);
    Some(Person {
        id,
        lid,
        role: role(entry)?,
    })
}

/// Parses the people of a change: also former members, and bare ids.
pub(in crate::engines) fn named(entries: &Value) -> Vec<Person> {
    let entries = entries.as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |entry: &Value| {
        let ids = ids(entry);
        let id = ids.first()?.clone();
        let lid = ids
            .into_iter()
            .find(|other| !is_phone(other) && *other != id);
        let role = role(entry).unwrap_or(Role::Participant);
        Some(Person { id, lid, role })
    };
    entries.iter().filter_map(read).collect()
}

/// Parses the members of a group, and counts the entries without an id.
pub(super) fn people(entries: &Value) -> Option<(Vec<Person>, usize)> {
    let entries = entries.as_array()?;
    let unread = entries.iter().filter(|entry| ids(entry).is_empty()).count();
    Some((entries.iter().filter_map(person).collect(), unread))
}

/// The role; none for `left`.
fn role(entry: &Value) -> Option<Role> {
    let flag = |names: [&str; 2]| {
        names
            .iter()
            .any(|name| entry.get(*name) == Some(&true.into()))
    };
    let named = entry.get("role").or_else(|| entry.get("admin"));
    match named.and_then(Value::as_str) {
        Some("superadmin") => Some(Role::Superadmin),
        Some("admin") => Some(Role::Admin),
        Some("left") => None,
        _ if flag(["isSuperAdmin", "IsSuperAdmin"]) => Some(Role::Superadmin),
        _ if flag(["isAdmin", "IsAdmin"]) => Some(Role::Admin),
        _ => Some(Role::Participant),
    }
}
