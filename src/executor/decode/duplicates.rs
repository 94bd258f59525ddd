//! The one rule about payloads that JSON Schema cannot state: each person is named once.
//!
//! `uniqueItems` compares what is written; here `1…@c.us`, `1…@s.whatsapp.net` and
//! `{"id": "1…@c.us"}` are one person.

use std::collections::HashMap;

use serde_json::Value;

use super::Problems;
use crate::contract::{ErrorCode, ParticipantId};

/// Adds each entry of `participants` that names the same person as one before it.
///
/// Entries that are no participant are left to the schema.
pub(super) fn find(payload: &Value, problems: &mut Problems) {
    let Some(people) = payload.get("participants").and_then(Value::as_array) else {
        return;
    };
    if people.len() < 2 {
        return;
    }
    let mut seen: HashMap<ParticipantId, usize> = HashMap::with_capacity(people.len());
    for (index, person) in people.iter().enumerate() {
        let id = person.get("id").unwrap_or(person).as_str();
        let Some(id) = id.and_then(|id| id.parse().ok()) else {
            continue;
        };
        let first = *seen.entry(id).or_insert(index);
        if first != index {
            problems.add(
                ErrorCode::InvalidPayload,
                format!("/payload/participants/{index}"),
                format!("names the same participant as /payload/participants/{first}"),
            );
        }
        if problems.full() {
            return;
        }
    }
}
