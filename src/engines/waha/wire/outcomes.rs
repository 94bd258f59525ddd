//! The outcome for each person that a request named, in the formats of the three engines.

use serde_json::Value;

use super::ids::{participant, timestamp};
use super::people;
use crate::contract::{OutcomeKind, ParticipantId, PrivateInvite};

/// WhatsApp's answer about one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engines::waha) struct ParticipantAnswer {
    /// All ids by which the answer names the person.
    pub(in crate::engines::waha) ids: Vec<ParticipantId>,
    pub(in crate::engines::waha) code: u16,
    pub(in crate::engines::waha) invite: Option<PrivateInvite>,
}

/// The answers to adding, removing, promoting and demoting; none if the body names nobody, as WEBJS's
/// `{"status": 200}`.
pub(in crate::engines::waha) fn outcomes(body: &Value) -> Option<Vec<ParticipantAnswer>> {
    match body {
        Value::Array(entries) => Some(entries.iter().filter_map(entry).collect()),
        Value::Object(map) => {
            let named = |(id, said): (&String, &Value)| by_id(id, said);
            let all: Vec<_> = map.iter().filter_map(named).collect();
            (!all.is_empty()).then_some(all)
        }
        _ => None,
    }
}

/// The answers in the body of a new group. NOWEB's has none: it lists members, not outcomes.
pub(in crate::engines::waha) fn created(body: &Value) -> Vec<ParticipantAnswer> {
    let entries = body
        .get("participants")
        .or_else(|| body.get("Participants"));
    entries.and_then(outcomes).unwrap_or_default()
}

/// An entry of NOWEB's or GOWS's list.
fn entry(entry: &Value) -> Option<ParticipantAnswer> {
    // whatsmeow leaves `Error` at 0 on success; Baileys has WhatsApp's status as a text.
    let code = number(entry.get("Error").or_else(|| entry.get("status"))?)?;
    let code = if code == 0 { 200 } else { code };
    Some(ParticipantAnswer {
        ids: ids(entry),
        code,
        invite: invite(entry),
    })
}

/// All ids of an entry: its own, and those of the node of WhatsApp's protocol that NOWEB passes on.
fn ids(entry: &Value) -> Vec<ParticipantId> {
    let mut all = people::ids(entry);
    let attributes = entry.get("content").and_then(|node| node.get("attrs"));
    for id in attributes.map(people::ids).unwrap_or_default() {
        if !all.contains(&id) {
            all.push(id);
        }
    }
    all
}

/// An entry of WEBJS's map.
fn by_id(id: &str, said: &Value) -> Option<ParticipantAnswer> {
    let id = participant(&Value::from(id))?;
    let code = number(said.get("code").or_else(|| said.get("statusCode"))?)?;
    Some(ParticipantAnswer {
        ids: vec![id],
        code,
        // WEBJS has sent the invite itself by then (`isInviteV4Sent`) and does not return its code.
        invite: None,
    })
}

/// The private invite of a 403: GOWS's `AddRequest`, or an `add_request` node in NOWEB's content.
fn invite(entry: &Value) -> Option<PrivateInvite> {
    let parse = |code: &Value, expires: &Value| {
        Some(PrivateInvite {
            code: code.as_str().filter(|code| !code.is_empty())?.to_owned(),
            expires_at: timestamp(expires)?,
        })
    };
    if let Some(request) = entry.get("AddRequest").filter(|it| it.is_object()) {
        return parse(request.get("Code")?, request.get("Expiration")?);
    }
    let attributes = node(entry.get("content")?, "add_request")?.get("attrs")?;
    parse(attributes.get("code")?, attributes.get("expiration")?)
}

/// A node of WhatsApp's own protocol, within another.
fn node<'a>(within: &'a Value, tag: &str) -> Option<&'a Value> {
    match within {
        Value::Array(nodes) => nodes.iter().find_map(|inner| node(inner, tag)),
        Value::Object(fields) if fields.get("tag").and_then(Value::as_str) == Some(tag) => {
            Some(within)
        }
        Value::Object(fields) => node(fields.get("content")?, tag),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The meaning of a code when adding somebody (codes of whatsapp-web.js and wa-js).
pub(in crate::engines::waha) const fn adding(code: u16) -> OutcomeKind {
    match code {
        200 => OutcomeKind::Ok,
        // 401: they blocked the account. 417: not into this community.
        401 | 405 | 417 => OutcomeKind::NotAllowed,
        403 => OutcomeKind::PrivacyBlocked,
        404 => OutcomeKind::NotOnWhatsapp,
        408 => OutcomeKind::RecentlyLeft,
        409 => OutcomeKind::AlreadyMember,
        419 => OutcomeKind::GroupFull,
        421 => OutcomeKind::PendingApproval,
        _ => OutcomeKind::Unknown,
    }
}

/// The meaning of a code when removing, promoting or demoting somebody.
pub(in crate::engines::waha) const fn changing(code: u16) -> OutcomeKind {
    match code {
        200 => OutcomeKind::Ok,
        401 | 403 | 405 | 406 => OutcomeKind::NotAllowed,
        404 => OutcomeKind::NotMember,
        _ => OutcomeKind::Unknown,
    }
}
