//! The payloads about the webhook endpoints of a session.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::contract::{
    CustomHeader, EventPattern, Hmac, Retries, SessionPattern, SigningSecret, WebhookId,
    WebhookSettings, WebhookUrl, whole,
};

/// Payload of `SetWebhook`: sends the session's events to an endpoint, or changes how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetWebhook {
    /// What the endpoint is called within the session.
    pub id: WebhookId,
    /// Where events are sent.
    #[schemars(length(max = 2048))]
    pub url: WebhookUrl,
    /// Which events; absent: everything that happens in groups.
    #[serde(default = "every_event")]
    #[schemars(length(min = 1, max = 32))]
    pub events: Vec<EventPattern>,
    /// The key of WAHA's signature, where that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<Hmac>,
    /// Secrets of Standard Webhooks, each of which signs; absent: one that groupmq makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub secrets: Vec<SigningSecret>,
    /// When a delivery that failed is tried again; absent: for three days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Headers to send beside groupmq's own.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_none"
    )]
    #[schemars(with = "Option<Vec<CustomHeader>>", length(max = 32))]
    pub custom_headers: Vec<CustomHeader>,
    /// Deliveries per second at most.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::optional"
    )]
    #[schemars(range(min = 1, max = 10_000))]
    pub rate_limit: Option<u32>,
    /// Deliveries at the same time at most, for each replica.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::optional"
    )]
    #[schemars(range(min = 1, max = 64))]
    pub concurrency: Option<u16>,
    /// One delivery after the other, in the order of the events.
    #[serde(default)]
    pub ordered: bool,
    /// Seconds that one attempt may take.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::optional"
    )]
    #[schemars(range(min = 1, max = 30))]
    pub timeout_seconds: Option<u16>,
    /// Nothing is collected or sent.
    #[serde(default)]
    pub disabled: bool,
}

impl SetWebhook {
    /// The same as settings of an endpoint that gets the events of these sessions.
    #[must_use]
    pub fn settings(&self, sessions: Vec<SessionPattern>) -> WebhookSettings {
        let set = self.clone();
        WebhookSettings {
            url: set.url,
            events: set.events,
            sessions,
            hmac: set.hmac,
            secrets: set.secrets,
            retries: set.retries,
            custom_headers: set.custom_headers,
            rate_limit: set.rate_limit,
            concurrency: set.concurrency,
            ordered: set.ordered,
            timeout_seconds: set.timeout_seconds,
            disabled: set.disabled,
        }
    }
}

/// WAHA writes `null` for headers that are not set.
fn null_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CustomHeader>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn every_event() -> Vec<EventPattern> {
    vec![EventPattern::every()]
}

/// Payload of `RemoveWebhook`: sends no more events to an endpoint, once those that wait are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoveWebhook {
    /// What the endpoint is called within the session.
    pub id: WebhookId,
    /// Drop the events that wait, too.
    #[serde(default)]
    pub discard: bool,
}

/// Payload of `ListWebhooks`: the webhook endpoints of the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// Said in so many words, so that a field that is none can be named.
#[schemars(extend("properties" = {}))]
pub struct ListWebhooks {}

/// Payload of `TestWebhook`: sends an event `webhook.test` to an endpoint, and to no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestWebhook {
    /// What the endpoint is called within the session.
    pub id: WebhookId,
}
