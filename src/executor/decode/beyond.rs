//! The rules about payloads that JSON Schema cannot state.
//!
//! No participant and no header may be named twice: `uniqueItems` compares the spelling, while `1…@c.us`,
//! `+1…` and `{"id": "1…@s.whatsapp.net"}` are one participant. The settings of a webhook endpoint must be
//! valid: a URL that can be parsed, events that exist, headers that are not reserved. And the data of a picture
//! must begin as a JPEG or PNG does.

use std::collections::HashMap;
use std::hash::Hash;
use std::str::FromStr;

use serde_json::Value;

use super::Problems;
use crate::contract::{
    CommandType, ErrorCode, EventPattern, HeaderName, InvalidId, ParticipantId, PictureData,
    PictureUrl, SigningSecret, WebhookUrl,
};

/// Adds violations of these rules. Values that are not strings, or malformed, are left to the schema.
pub(super) fn find(command: CommandType, payload: &Value, problems: &mut Problems) {
    match command {
        CommandType::SetWebhook => webhook(payload, problems),
        CommandType::SetGroupPicture => picture(payload, problems),
        _ => named_once(
            payload,
            "participants",
            "",
            |person| {
                let id = person.get("id").unwrap_or(person).as_str();
                id.and_then(|id| ParticipantId::named(id).ok())
            },
            "participant",
            problems,
        ),
    }
}

fn webhook(payload: &Value, problems: &mut Problems) {
    if let Some(url) = payload.get("url") {
        must_be::<WebhookUrl>(url, "url", problems);
    }
    for (index, pattern) in list(payload, "events") {
        must_be::<EventPattern>(pattern, &format!("events/{index}"), problems);
    }
    for (index, secret) in list(payload, "secrets") {
        must_be::<SigningSecret>(secret, &format!("secrets/{index}"), problems);
    }
    for (index, header) in list(payload, "customHeaders") {
        if let Some(name) = header.get("name") {
            must_be::<HeaderName>(name, &format!("customHeaders/{index}/name"), problems);
        }
    }
    let name = |header: &Value| {
        let name = header.get("name").and_then(Value::as_str);
        name.map(str::to_ascii_lowercase)
    };
    named_once(payload, "customHeaders", "/name", name, "header", problems);
}

/// Whether the picture can be decoded is found out when the command is executed, as it takes longer.
fn picture(payload: &Value, problems: &mut Problems) {
    let field = |name: &str| payload.get("picture").and_then(|it| it.get(name));
    if let Some(url) = field("url") {
        must_be::<PictureUrl>(url, "picture/url", problems);
    }
    if let Some(Err(invalid)) = field("data")
        .and_then(Value::as_str)
        .map(PictureData::check)
    {
        let path = "/payload/picture/data";
        problems.add(ErrorCode::InvalidPayload, path, invalid.to_string());
    }
}

fn list<'a>(payload: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    let list = payload.get(field).and_then(Value::as_array);
    list.into_iter().flatten().enumerate()
}

/// Adds a problem if a string cannot be parsed as this type.
fn must_be<T: FromStr<Err = InvalidId>>(value: &Value, field: &str, problems: &mut Problems) {
    if let Some(Err(invalid)) = value.as_str().map(str::parse::<T>) {
        let path = format!("/payload/{field}");
        problems.add(ErrorCode::InvalidPayload, path, invalid.to_string());
    }
}

/// Adds a problem for each entry of a list that names the same as an earlier one.
fn named_once<K: Eq + Hash>(
    payload: &Value,
    field: &str,
    place: &str,
    key: impl Fn(&Value) -> Option<K>,
    what: &str,
    problems: &mut Problems,
) {
    let mut seen = HashMap::new();
    for (index, entry) in list(payload, field) {
        let Some(key) = key(entry) else {
            continue;
        };
        let first = *seen.entry(key).or_insert(index);
        if first != index {
            problems.add(
                ErrorCode::InvalidPayload,
                format!("/payload/{field}/{index}{place}"),
                format!("names the same {what} as /payload/{field}/{first}{place}"),
            );
        }
        if problems.full() {
            return;
        }
    }
}
