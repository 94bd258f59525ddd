//! Parses WAHA's bodies into the contract's types.
//!
//! WAHA passes on what its engine (WEBJS, NOWEB or GOWS) returns, so one request has three answers and
//! more. They are distinguished by their shape and not by the engine's name: this also works after a
//! server was updated, or switched to another engine. Source: WAHA 2026.7 to 2026.10, its
//! documentation and its engines' libraries.
//!
//! Nothing here sends requests; `client` does, and `commands` interprets the answers.

mod group;
mod ids;
mod join_requests;
mod outcomes;
mod people;
mod values;

pub(in crate::engines) use group::group;
pub(super) use group::groups;
pub(super) use ids::{id_text, participant, timestamp};
pub(super) use join_requests::{RequestEntry, decisions, join_requests, request_method, requester};
pub(super) use outcomes::{ParticipantAnswer, adding, changing, created, outcomes};
pub(in crate::engines) use people::named;
pub(super) use values::{done, field, invite_code, refusal_text, switch};

use serde_json::Value;

/// A body.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    /// Empty; NOWEB and GOWS answer so on success.
    Empty,
    /// JSON other than a text.
    Json(Value),
    /// A text, in JSON's quotes or bare: an invite code, or an error under a 200.
    Text(String),
}

/// A body that is neither JSON nor a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnreadableBody;

impl Body {
    /// Parses a body.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, UnreadableBody> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| UnreadableBody)?
            .trim();
        if text.is_empty() {
            return Ok(Self::Empty);
        }
        match serde_json::from_str(text) {
            Ok(Value::String(text)) => Ok(Self::Text(text)),
            Ok(value) => Ok(Self::Json(value)),
            // Truncated JSON, or a proxy's page.
            Err(_) if text.starts_with(['{', '[', '"', '<']) => Err(UnreadableBody),
            Err(_) => Ok(Self::Text(text.to_owned())),
        }
    }

    /// The JSON; null if there is none.
    pub(super) const fn json(&self) -> &Value {
        match self {
            Self::Json(value) => value,
            Self::Empty | Self::Text(_) => &Value::Null,
        }
    }
}

#[cfg(test)]
mod tests;
