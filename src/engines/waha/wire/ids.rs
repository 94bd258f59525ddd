//! Identifiers and times as the engines write them.

use std::time::Duration;

use serde_json::Value;

use crate::contract::{ParticipantId, Timestamp};

/// The text of an id: the text itself, whatsapp-web.js's `_serialized`, or its user and server.
pub(in crate::engines::waha) fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(parts) => {
            if let Some(Value::String(text)) = parts.get("_serialized") {
                return Some(text.clone());
            }
            let user = parts.get("user")?.as_str()?;
            let server = parts.get("server")?.as_str()?;
            Some(format!("{user}@{server}"))
        }
        _ => None,
    }
}

/// A person's id in the contract's form. `123:4@s.whatsapp.net` names a device of 123, and `@hosted` a
/// device that Meta hosts for a business.
pub(in crate::engines::waha) fn participant(value: &Value) -> Option<ParticipantId> {
    let text = id_text(value)?;
    let (local, server) = text.split_once('@')?;
    let user = local.split([':', '.']).next()?;
    let server = match server {
        "hosted" => "c.us",
        "hosted.lid" => "lid",
        server => server,
    };
    format!("{user}@{server}").parse().ok()
}

/// A time: seconds or milliseconds since 1970, as a number or a text, or RFC 3339.
pub(in crate::engines::waha) fn timestamp(value: &Value) -> Option<Timestamp> {
    if let Value::String(text) = value
        && let Ok(at) = text.parse::<jiff::Timestamp>()
    {
        // Go's zero time.
        return (at.as_second() > 0).then_some(Timestamp(at));
    }
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    if !number.is_finite() || number <= 0.0 {
        return None;
    }
    // As seconds, 1e11 is in the year 5138; as milliseconds, in 1973.
    let seconds = if number >= 1e11 {
        number / 1_000.0
    } else {
        number
    };
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    let at = jiff::Timestamp::UNIX_EPOCH.checked_add(since).ok()?;
    Some(Timestamp(at.round(jiff::Unit::Millisecond).ok()?))
}
