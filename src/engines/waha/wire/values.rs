//! Small answers: a setting, a yes or no, an invite code, an error text under a 200.

use serde_json::Value;

use super::Body;
use crate::contract::InviteCode;

/// The first of these fields that is present and not null, in a body or in its `groupMetadata`.
pub(in crate::engines::waha) fn field<'a>(body: &'a Value, names: &[&str]) -> Option<&'a Value> {
    let inner = body.get("groupMetadata");
    names.iter().find_map(|name| {
        let found = body.get(*name).or_else(|| inner?.get(*name))?;
        (!found.is_null()).then_some(found)
    })
}

/// The answer to a PUT or POST that means yes or no: empty, `true`, or an object.
pub(in crate::engines::waha) fn done(body: &Body) -> bool {
    let success = |value: &Value| {
        let flag = value.get("success").or_else(|| value.get("result"));
        flag.and_then(Value::as_bool)
    };
    match body {
        Body::Empty => true,
        Body::Text(text) => text.trim() != "false",
        Body::Json(Value::Bool(done)) => *done,
        Body::Json(value) => success(value).unwrap_or(true),
    }
}

/// The value of a setting that is on or off.
pub(in crate::engines::waha) fn switch(body: &Body, name: &str) -> Option<bool> {
    match body.json() {
        Value::Bool(on) => Some(*on),
        value => field(value, &[name])?.as_bool(),
    }
}

/// An invite code: bare, in quotes, or as the link. None if WhatsApp did not return it.
pub(in crate::engines::waha) fn invite_code(body: &Body) -> Option<InviteCode> {
    let text = match body {
        Body::Empty => return None,
        Body::Text(text) => text.as_str(),
        Body::Json(value) => {
            field(value, &["inviteCode", "code", "inviteUrl", "invite"])?.as_str()?
        }
    };
    let code = text.trim().trim_end_matches('/').rsplit('/').next()?;
    let code = code.split(['?', '#']).next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = (8..=64).contains(&code.len()) && code.chars().all(plain);
    // The texts in which JavaScript and Go write a missing value.
    (fits && code != "undefined").then(|| InviteCode {
        invite_code: code.to_owned(),
        invite_url: format!("https://chat.whatsapp.com/{code}"),
    })
}

/// The text of a refusal under a 2xx: WEBJS answers `CreateGroupError: …` as a text or as `error`.
pub(in crate::engines::waha) fn refusal_text(body: &Body) -> Option<&str> {
    match body {
        Body::Text(text) => Some(text),
        Body::Json(Value::Object(fields)) => fields.get("error")?.as_str(),
        Body::Empty | Body::Json(_) => None,
    }
}
