//! Webhook endpoints: what somebody sets, what they look like to others, and what happens to them.
//!
//! The shape is WAHA's (`url`, `events`, `hmac`, `retries`, `customHeaders`, as of 2026.7) with what
//! delivery at scale needs beside it. Secrets are written where they are kept and never shown.

mod notice;
mod text;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Timestamp, WebhookId, whole};

pub use notice::{NoticeName, WebhookNotice, WebhookNoticePayload};
pub(in crate::contract) use text::web_url;
pub use text::{
    EventPattern, HeaderName, HeaderValue, HmacKey, SessionPattern, SigningSecret, WebhookUrl,
};

/// Everything that is set for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSettings {
    /// Where events are sent.
    pub url: WebhookUrl,
    /// Which events.
    pub events: Vec<EventPattern>,
    /// Of which sessions.
    pub sessions: Vec<SessionPattern>,
    /// WAHA's signature.
    pub hmac: Option<Hmac>,
    /// Secrets of Standard Webhooks; each signs.
    pub secrets: Vec<SigningSecret>,
    /// When a delivery that failed is tried again.
    pub retries: Option<Retries>,
    /// Headers to send beside ours.
    pub custom_headers: Vec<CustomHeader>,
    /// Deliveries per second at most, over all replicas.
    pub rate_limit: Option<u32>,
    /// Deliveries at the same time at most, for each replica.
    pub concurrency: Option<u16>,
    /// One delivery after the other, in the order of publication.
    pub ordered: bool,
    /// Seconds that one attempt may take.
    pub timeout_seconds: Option<u16>,
    /// Nothing is collected or sent.
    pub disabled: bool,
}

/// WAHA's way to sign: HMAC-SHA512 over the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hmac {
    /// The key.
    pub key: HmacKey,
}

/// When a delivery that failed is tried again: WAHA's policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retries {
    /// How the waits grow.
    pub policy: RetryPolicy,
    /// The first wait, in seconds.
    #[serde(deserialize_with = "whole::required")]
    #[schemars(range(min = 1, max = 86_400))]
    pub delay_seconds: u32,
    /// How many attempts follow the first, at most.
    #[serde(deserialize_with = "whole::required")]
    #[schemars(range(min = 0, max = 100))]
    pub attempts: u32,
}

/// How waits grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetryPolicy {
    /// Always the same.
    Constant,
    /// By the first wait each time.
    Linear,
    /// Twice as long each time.
    Exponential,
}

/// A header to send with every delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomHeader {
    /// Its name; ours and those of the connection are refused.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderValue,
}

/// An endpoint as it is shown: no secret, no header's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Its id; before it, the session and a dot where it belongs to a session.
    pub id: String,
    /// Where events are sent.
    pub url: WebhookUrl,
    /// Which events.
    pub events: Vec<EventPattern>,
    /// Of which sessions.
    pub sessions: Vec<SessionPattern>,
    /// Whether events are collected and sent.
    pub state: WebhookState,
    /// Why not, where not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when the endpoint has not answered well, so that deliveries wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Its own retries; groupmq's schedule where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// The names of the headers that are sent beside ours.
    pub custom_headers: Vec<HeaderName>,
    /// Deliveries per second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// Deliveries at the same time at most, for each replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u16>,
    /// One delivery after the other.
    pub ordered: bool,
    /// Seconds that one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u16>,
}

/// Whether events are collected and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookState {
    /// Both.
    Active,
    /// Collected; sent once it is resumed.
    Paused,
    /// Neither. What was collected before waits.
    Disabled,
    /// Not collected any more; what was collected is sent, then the endpoint is gone.
    Removing,
}

impl WebhookState {
    /// The state as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::Removing => "removing",
        }
    }
}

/// What `TestWebhook` came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookTest {
    /// The id of the event that was put into the endpoint's queue.
    pub event_id: Uuid,
}

/// The endpoint's name over all sessions: the id alone, or behind the session it belongs to.
#[must_use]
pub fn endpoint_name(session: Option<&super::SessionName>, id: &WebhookId) -> String {
    match session {
        Some(session) => format!("{session}.{id}"),
        None => id.as_str().to_owned(),
    }
}
